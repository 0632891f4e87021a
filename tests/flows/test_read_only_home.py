"""A home that is read-only, as a snapshot or a colleague's: what is finished can be looked at and exported."""

import os
import subprocess
from contextlib import contextmanager

import pytest

from flows.explanation import explain_query
from flows.mining import mining
from flows.settings import build_config
from flows.staleness import explain_plan

pytestmark = pytest.mark.usefixtures("prefect_server")


@contextmanager
def read_only(folder):
    """Make a folder read-only, for root as well."""
    folder.chmod(0o555)
    mounted = os.access(folder, os.W_OK)
    if mounted:
        done = [
            subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode
            for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"])
        ]
        if any(done):
            pytest.skip("root, who writes everywhere, and may not mount")
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.chmod(0o755)


def test_what_is_finished_is_exported_explained_and_planned(small_beir, tmp_path, caplog):
    home = tmp_path / "home"
    config = build_config({"dataset": {"source": str(small_beir)}, "teachers": [{"name": "bm25"}]}, "test")
    first = mining(config, str(home))
    before = sorted(home.rglob("*"))
    with read_only(home):
        again = mining(config, str(home), export_format="triplet", out=str(tmp_path / "out"))
        assert again["run_id"] == first["run_id"] and again["export"]["rows"] == first["triples"]
        assert explain_query("q-otter-food", config, str(home))[0]
        assert explain_plan(config, str(home))["stages"][0]["cached"]
        assert sorted(home.rglob("*")) == before
    assert "home is read-only: its database stays as it is" in caplog.text
