"""The same triples from one process, two Dask workers, two Ray workers, and after a worker was killed in the middle."""

import importlib.util
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from embedding_server import embedding_server
from s3_server import s3_server

from flows.cluster import Cluster
from flows.mining import mining
from flows.settings import build_config
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.remote_store import resolve_home

pytestmark = pytest.mark.usefixtures("prefect_server")

PATIENCE = 300
"""Seconds for a worker to get to its first request on a busy machine; normally some ten."""
PARTS = 4


def needs(extra):
    module = {"dask": "prefect_dask", "ray": "prefect_ray", "s3": "s3fs"}[extra]
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed (extra `{extra}`)")


@pytest.fixture(scope="module")
def server():
    with embedding_server() as server:
        yield server


@pytest.fixture(scope="module")
def animals(tmp_path_factory, write_beir):
    return write_beir(tmp_path_factory.mktemp("data") / "animals")


def mine(server, animals, home, runner="local"):
    tree = {
        "dataset": {"source": str(animals)},
        "teachers": [{"name": server.teacher}],
        "search": {"depth": 20},
        "mining": {"rule": "topk", "selection": "sample(2, of=10)"},
        "runtime": {"runner": runner, "processes": 2, "parts": PARTS},
    }
    return mining(build_config(tree, "test"), str(home))


def content(home, result):
    """Return every file of every artifact of the run, but for the manifests (they hold times)."""
    store = ArtifactStore(home)
    folders = [store.root / stage["artifact"] for stage in result["stages"]]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".npy", ".parquet")]
    return {str(path.relative_to(store.root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(server, animals, tmp_path_factory):
    home = tmp_path_factory.mktemp("alone")
    result = mine(server, animals, home)
    assert result["triples"] == 40
    return result, content(home, result)


@contextmanager
def late_workers():
    """Stand for a local Dask cluster on a busy machine, which gives up waiting for the processes that it has killed."""
    try:
        yield
    finally:
        raise TimeoutError


def test_workers_that_end_late_fail_nothing_and_hide_no_error(tmp_path, caplog):
    runtime = Runtime(runner="dask")
    with Cluster(runtime, str(tmp_path)) as cluster:
        cluster._stack.enter_context(late_workers())
    assert "the workers of dask took too long to end" in caplog.text
    with pytest.raises(ZeroDivisionError), Cluster(runtime, str(tmp_path)) as cluster:
        cluster._stack.enter_context(late_workers())
        raise ZeroDivisionError


@pytest.mark.parametrize("runner", [pytest.param(name, marks=needs(name)) for name in ("dask", "ray")])
def test_the_same_triples_from_two_workers_though_one_is_killed(runner, server, animals, alone, tmp_path, monkeypatch):
    # A cluster that runs on this machine already is not joined unasked.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    killed = []

    def kill():
        if server.held.wait(PATIENCE):
            worker = server.waiting_process()
            killed.append(worker.pid)
            worker.send_signal(signal.SIGKILL)
        server.release.set()

    server.hold(request=2)
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = mine(server, animals, tmp_path, runner)
    killer.join()

    assert killed and killed[0] != os.getpid()
    assert result["run_id"] == alone[0]["run_id"]
    assert content(tmp_path, result) == alone[1]
    # Four parts of ten documents and of five queries: what the lost worker had is embedded again, and nothing else.
    asked = Counter(Counter(server.texts).values())
    assert asked[1] + asked[2] == 60 and asked[2] in (10, 5), asked
    assert not list((tmp_path / "artifacts").glob("candidates-block/[!.]*"))


@needs("dask")
@needs("s3")
def test_workers_on_a_home_in_s3_serve_another_machine(server, animals, alone, tmp_path, monkeypatch):
    server.hold(request=0)
    with s3_server("shelf") as url:
        monkeypatch.setenv("NVR_CACHE", str(tmp_path / "one"))
        first = mine(server, animals, url, "dask")
        assert content(resolve_home(url), first) == alone[1]
        assert Counter(server.texts).most_common(1)[0][1] == 1

        monkeypatch.setenv("NVR_CACHE", str(tmp_path / "two"))
        server.texts.clear()
        again = mine(server, animals, url)
        assert all(stage["cached"] for stage in again["stages"]) and not server.texts
        with duckdb.connect(again["database"], read_only=True) as database:
            assert database.execute("select count(*) from triples").fetchone() == (40,)
        store = ArtifactStore(resolve_home(url))
        for ref in [ref for kind in ("dataset", "embeddings", "candidates", "mining") for ref in store.references(kind)]:
            store.open(ref)
        assert content(store.home, again) == alone[1]
        assert store.references("candidates-block") == []

        # Embeddings that are lost are laid out again from the shared vectors: nothing is embedded.
        for ref in store.references("embeddings"):
            store.discard(ref)
        mine(server, animals, url)
        assert not server.texts


def test_a_missing_engine_is_one_clear_message(server, animals, tmp_path, monkeypatch):
    from nv_retriever.errors import InputError

    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(InputError, match="prefect-dask"):
        mine(server, animals, tmp_path, "dask")
