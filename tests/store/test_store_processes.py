"""Several processes at the database: two writers, a reader in the way, a writer killed in the middle."""

from __future__ import annotations

import errno
import signal
import threading
from pathlib import Path

import pytest
from store_world import Mined, expect_line, spawn, write_mining

from nv_retriever.store.connection import StoreBusyError
from nv_retriever.store.database import TripleStore

ADD = """
import sys
from nv_retriever.store.database import TripleStore
store = TripleStore(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for folder in sys.argv[2:]:
    store.add(folder)
print("done", flush=True)
"""
READ = """
import sys
from nv_retriever.store.database import TripleStore
with TripleStore(sys.argv[1]).read() as connection:
    print(connection.sql("select count(*) from triples").fetchall()[0][0], flush=True)
    sys.stdin.readline()
"""
DIE = """
import sys
from nv_retriever.store import database
real = database.replace_run
def inserted_and_stuck(connection, artifact):
    real(connection, artifact)
    print("inserted", flush=True)
    sys.stdin.readline()
database.replace_run = inserted_and_stuck
database.TripleStore(sys.argv[1]).add(sys.argv[2])
"""

FULL = """
import resource, sys
from pathlib import Path
from nv_retriever.store.database import TripleStore
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    TripleStore(sys.argv[1]).add(sys.argv[2])
except OSError as error:
    print(error.errno, Path(error.filename).parent)
"""


def some_runs(tmp_path: Path, prefix: str, count: int) -> list[Path]:
    return [
        write_mining(
            tmp_path / f"{prefix}{i}", [Mined(f"q{j}", "p", ["a", "b", "c"]) for j in range(50)], run_id=f"{prefix}{i}"
        )
        for i in range(count)
    ]


def test_two_processes_that_add_at_once_both_get_their_rows_in(tmp_path: Path) -> None:
    path = tmp_path / "triples.duckdb"
    processes = [spawn(ADD, path, *some_runs(tmp_path, prefix, 3)) for prefix in ("a", "b")]
    for process in processes:
        expect_line(process, "ready")
    outputs: list[str] = []
    threads = [threading.Thread(target=lambda p=process: outputs.append(p.communicate("go\n")[0])) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["done\n", "done\n"]
    assert {run["run_id"] for run in TripleStore(path).runs()} == {f"{prefix}{i}" for prefix in "ab" for i in range(3)}
    assert all(TripleStore(path).count(f"{prefix}{i}") == 150 for prefix in "ab" for i in range(3))


def test_a_writer_waits_for_a_reader_and_says_who_it_was_when_it_gives_up(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("nv_retriever.store.connection.SILENT_SECONDS", 0.0)
    path = tmp_path / "triples.duckdb"
    first, second = some_runs(tmp_path, "r", 2)
    TripleStore(path).add(first)
    reader = spawn(READ, path)
    expect_line(reader, "150")
    with pytest.raises(StoreBusyError, match=str(reader.pid)):
        TripleStore(path, wait_seconds=0.05).add(second)
    told = [record.message for record in caplog.records if "waiting up to 0.05 s" in record.message]
    assert len(told) == 1 and str(reader.pid) in told[0] and str(path) in told[0]
    patient = threading.Thread(target=TripleStore(path).add, args=[second])
    patient.start()
    reader.communicate("enough\n")
    patient.join()
    assert reader.returncode == 0
    assert TripleStore(path).count("r1") == 150


def test_readers_of_several_processes_and_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "triples.duckdb"
    TripleStore(path).add(some_runs(tmp_path, "r", 1)[0])
    reader = spawn(READ, path)
    expect_line(reader, "150")
    with TripleStore(path).read() as one, TripleStore(path).read() as two:
        assert one.sql("select count(*) from triples_text").fetchall() == two.sql("select count(*) from triples").fetchall()
    reader.communicate("enough\n")


def test_a_reader_waits_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "triples.duckdb"
    first, second = some_runs(tmp_path, "r", 2)
    TripleStore(path).add(first)
    writer = spawn(DIE, path, second)
    expect_line(writer, "inserted")
    with pytest.raises(StoreBusyError, match=str(writer.pid)), TripleStore(path, wait_seconds=0.05).read():
        pass
    with pytest.raises(StoreBusyError, match="another writer"):
        TripleStore(path, wait_seconds=0.05).add(first)
    counts: list[int] = []
    patient = threading.Thread(target=lambda: counts.append(TripleStore(path).count("r1")))
    patient.start()
    writer.communicate("go on\n")
    patient.join()
    assert counts == [150]


@pytest.mark.parametrize("existing", [0, 1])
def test_a_writer_killed_in_the_middle_loses_nothing_that_was_reported_done(tmp_path: Path, existing: int) -> None:
    path = tmp_path / "triples.duckdb"
    runs = some_runs(tmp_path, "r", 2)
    for folder in runs[:existing]:
        TripleStore(path).add(folder)
    writer = spawn(DIE, path, runs[1])
    expect_line(writer, "inserted")
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    store = TripleStore(path)
    assert [store.count("r0"), store.count("r1")] == [150 * existing, 0]
    store.add(runs[1])
    assert [store.count("r0"), store.count("r1")] == [150 * existing, 150]


def test_a_writer_in_this_process_waits_for_a_reading_thread(tmp_path: Path) -> None:
    path = tmp_path / "triples.duckdb"
    first, second = some_runs(tmp_path, "r", 2)
    TripleStore(path).add(first)
    writer = threading.Thread(target=TripleStore(path).add, args=[second])
    with TripleStore(path).read() as connection:
        writer.start()
        with pytest.raises(StoreBusyError):
            TripleStore(path, wait_seconds=0.05).add(second)
        assert connection.sql("select count(*) from triples").fetchall() == [(150,)]
    writer.join()
    assert TripleStore(path).count("r1") == 150


@pytest.mark.parametrize("existing", [0, 1])
def test_a_full_disk_is_told_and_costs_nothing(tmp_path: Path, existing: int) -> None:
    """A limit on the size of files stands for the disk: the log of the transaction fits, the tables do not."""
    path = tmp_path / "triples.duckdb"
    runs = some_runs(tmp_path, "r", 2)
    for folder in runs[:existing]:
        TripleStore(path).add(folder)
    writer = spawn(FULL, path, runs[1], 0 if existing else 1 << 16)
    said, _ = writer.communicate()
    assert said == f"{errno.EFBIG} {tmp_path}\n"
    store = TripleStore(path)
    assert [store.count("r0"), store.count("r1")] == [150 * existing, 0]
    store.add(runs[1])
    assert [store.count("r0"), store.count("r1")] == [150 * existing, 150]
