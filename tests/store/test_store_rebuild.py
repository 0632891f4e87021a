"""Rebuilding the database from the artifacts: after damage, after a change of schema, and always to the same rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import ODD_IDS, Mined, odd_world, write_mining

from nv_retriever.errors import InputError
from nv_retriever.store import schema
from nv_retriever.store.connection import StoreDamagedError
from nv_retriever.store.database import TripleStore

ids = st.sampled_from(ODD_IDS)
samples = st.lists(
    st.builds(Mined, ids, ids, st.lists(ids, max_size=4)),
    max_size=6,
    unique_by=lambda sample: (sample.query_id, sample.positive_id),
)


def rows(store: TripleStore) -> dict[str, list[tuple[object, ...]]]:
    with store.read() as connection:
        return {table: connection.sql(f"select * from {table} order by all").fetchall() for table in schema.TABLES}


def finished(folder: Path) -> Path:
    """Give a hand-written artifact the manifest that the artifact store would have written last."""
    (folder / "manifest.json").write_text('{"files": {}}')
    return folder


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), samples), max_size=4))
def test_rebuild_equals_adding_one_by_one(tmp_path: Path, additions: list[tuple[str, list[Mined]]]) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    one_by_one, at_once = TripleStore(tmp_path / "one.duckdb"), TripleStore(tmp_path / "all.duckdb")
    for run_id, mined in additions:
        one_by_one.add(finished(write_mining(tmp_path / "artifacts" / "mining" / run_id, mined, run_id=run_id)))
    at_once.rebuild(reversed(at_once.mining_folders()))
    assert additions == [] or rows(one_by_one) == rows(at_once)


def test_rebuild_leaves_out_what_is_not_named_and_no_file_beside(tmp_path: Path) -> None:
    store = TripleStore(tmp_path / "home" / "triples.duckdb")
    a, b = (write_mining(tmp_path / name, [Mined("q", "p", ["n"])], run_id=name) for name in "ab")
    store.add(a)
    store.add(b)
    assert store.rebuild([b]) == ["b"]
    assert [run["run_id"] for run in store.runs()] == ["b"]
    assert {path.name for path in store.path.parent.iterdir()} <= {"triples.duckdb", ".triples.duckdb.lock"}


def test_a_rebuild_that_fails_leaves_the_old_database(tmp_path: Path) -> None:
    store = TripleStore(tmp_path / "home" / "triples.duckdb")
    a = write_mining(tmp_path / "a", [Mined("q", "p", ["n"])], run_id="a")
    store.add(a)
    before = rows(store)
    bad = write_mining(tmp_path / "b", [Mined("q", "p", ["n"])], run_id="b", triples=9)
    with pytest.raises(RuntimeError, match=r"run\.json says 9"):
        store.rebuild([a, bad])
    assert rows(store) == before
    assert {path.name for path in store.path.parent.iterdir()} <= {"triples.duckdb", ".triples.duckdb.lock"}


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000, "cut", "foreign"])
def test_a_damaged_file_is_said_with_its_remedy_and_rebuilt(tmp_path: Path, content: bytes | str) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    mining, _, _ = odd_world(tmp_path)
    store.add(finished(mining))
    before = rows(store)
    if content == "cut":
        store.path.write_bytes(store.path.read_bytes()[:5000])
    elif content == "foreign":
        store.path.unlink()
        duckdb.connect(str(store.path)).execute("create table t (a int)").close()
    else:
        assert isinstance(content, bytes)
        store.path.write_bytes(content)
    for use in (store.runs, lambda: store.add(mining)):
        with pytest.raises(StoreDamagedError, match=r"cannot be read.*rebuild\("):
            use()
    store.rebuild(store.mining_folders())
    assert rows(store) == before


def test_an_old_schema_is_rebuilt_and_keeps_runs_without_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    mining, _, _ = odd_world(tmp_path)
    gone = write_mining(tmp_path / "artifacts" / "mining" / "gone", [Mined("q", "p", ["n"])], run_id="gone")
    new = write_mining(tmp_path / "new", [Mined("q", "p", ["x"])], run_id="new")
    store.add(finished(mining))
    store.add(finished(gone))
    shutil.rmtree(gone)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    monkeypatch.setitem(schema.TABLES, "triples", {**schema.TRIPLE_COLUMNS, "weight": "FLOAT"})
    with pytest.raises(InputError, match="the next mining run rebuilds it"):
        store.runs()
    assert not store.has("gone")
    store.add(new)
    assert {run["run_id"] for run in store.runs()} == {"0123456789abcdef", "gone", "new"}
    with store.read() as connection:
        found = connection.sql("select run_id, negative_id, weight from triples where run_id in ('gone', 'new') order by 1")
        assert found.fetchall() == [("gone", "n", None), ("new", "x", None)]


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    folder = write_mining(tmp_path / "m", [Mined("q", "p", ["n"])])
    store.add(folder)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 0)
    for use in (lambda: store.add(folder), store.runs):
        with pytest.raises(InputError, match="a newer version of this program"):
            use()


@pytest.mark.parametrize("part", (2, 4, 6))
def test_damage_in_the_middle_of_a_file_is_found_and_rebuilt(tmp_path: Path, part: int) -> None:
    """Its head is sound, so that DuckDB opens it; a block that is wrong or beyond the end is met while rows are read."""
    store = TripleStore(tmp_path / "triples.duckdb")
    for name in "abc":
        mined = [Mined(f"q{number}", "p", [f"n{number}", f"m{number}"]) for number in range(50)]
        store.add(finished(write_mining(tmp_path / "artifacts" / "mining" / name, mined, run_id=name)))
    before, content = rows(store), bytearray(store.path.read_bytes())
    at = len(content) * part // 8
    for damaged_content in (
        content[:at],
        content[:at] + bytes(byte ^ 255 for byte in content[at : at + 5000]) + content[at + 5000 :],
    ):
        store.path.write_bytes(damaged_content)
        try:
            for folder in store.mining_folders():
                store.add(folder)
        except StoreDamagedError:
            store.rebuild(store.mining_folders())
        assert rows(store) == before
