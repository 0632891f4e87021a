"""Adding mining artifacts to the database: contract, idempotence, texts, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_world import ODD_IDS, VERDICTS, Mined, odd_world, write_dataset, write_mining

from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.store.database import TripleStore

CONTRACT = "run_id query_id positive_id negative_id position teacher rank positive_score negative_score score_kind"


def test_triples_are_the_parquet(tmp_path: Path) -> None:
    mining, _, _ = odd_world(tmp_path)
    store = TripleStore(tmp_path / "triples.duckdb")
    run_id = store.add(mining)
    truth = pq.read_table(mining / "triples.parquet")
    with store.read() as connection:
        stored = connection.sql("select * from triples order by query_id, positive_id, position").to_arrow_table()
        by_rule = connection.sql("select rule, count(*) from triples join mining_runs using (run_id) group by 1").fetchall()
        short = connection.sql("select query_id, found, reason from shortfalls").fetchall()
    assert stored.column_names == [*CONTRACT.split(), "limit_score", "reason"]
    assert stored.to_pylist() == truth.to_pylist()
    assert by_rule == [("topk-percpos(0.95)", truth.num_rows)]
    assert short == [(ODD_IDS[2], 0, "exhausted")]
    assert store.count(run_id) == truth.num_rows
    assert store.has(run_id)
    assert not store.has("another")


def test_the_queries_of_the_page_run_and_its_table_names_the_columns(tmp_path: Path) -> None:
    mining, _, _ = odd_world(tmp_path)
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(mining)
    page = (Path(__file__).parents[2] / "docs" / "database.md").read_text(encoding="utf-8")
    statements = page.partition("```sql\n")[2].partition("```")[0].split(";")
    named = {row.split("`")[1]: set(row.split("`")[3::2]) for row in page.splitlines() if row.startswith("| `")}
    with store.read() as connection:
        by_rule, hardest, agreed = (connection.sql(one).fetchall() for one in statements if one.strip())
        columns = {table: set(connection.sql(f"from {table}").columns) for table in named}
    assert by_rule == [("topk-percpos(0.95)", store.count("0123456789abcdef"))]
    assert len(hardest) == 14 and agreed == [(0,)]
    assert named == columns


def test_runs_say_what_run_json_says(tmp_path: Path) -> None:
    mining, _, samples = odd_world(tmp_path)
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(mining)
    write_mining(
        tmp_path / "later", [Mined("q", "p", ["n"])], run_id="b" * 16, created_at="2026-02-01T00:00:00Z", extra={"a": 1}
    )
    store.add(tmp_path / "later")
    later, first = store.runs()
    assert later["run_id"] == "b" * 16
    assert later["info"]["extra"] == {"a": 1}
    assert first["created_at"].isoformat() == "2026-01-02T03:04:05"
    assert first["teachers"] == ["all-MiniLM-L6-v2"]
    assert first["config"] == {"rule": "topk-percpos(0.95)"}
    assert (first["seed"], first["samples"], first["short"]) == (7, len(samples), 1)


def test_counts_are_counted_where_run_json_lacks_them(tmp_path: Path) -> None:
    missing = dict.fromkeys(("samples", "queries", "triples", "short", "teachers", "config", "created_at"))
    folder = write_mining(
        tmp_path / "m", [Mined("q", "p", ["n", "m"]), Mined("q", "r", ["n"]), Mined("s", "p", [])], **missing
    )
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(folder)
    (run,) = store.runs()
    assert (run["triples"], run["samples"], run["queries"], run["short"]) == (3, 2, 1, 1)


def test_adding_twice_changes_nothing_and_a_new_content_replaces(tmp_path: Path) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    folder = write_mining(tmp_path / "m", [Mined("q", "p", ["n", "m"])])
    other = write_mining(tmp_path / "o", [Mined("q", "p", ["x"])], run_id="f" * 16)
    for _ in range(3):
        run_id = store.add(folder)
    store.add(other)
    assert store.count(run_id) == 2
    assert len(store.runs()) == 2
    write_mining(folder, [Mined("q", "p", ["z"]), Mined("s", "p", [])])
    store.add(folder)
    with store.read() as connection:
        assert connection.sql("select negative_id, run_id from triples order by 1").fetchall() == [
            ("x", "f" * 16),
            ("z", run_id),
        ]
        assert connection.sql("select count(*) from shortfalls").fetchall() == [(1,)]


def test_verdicts_of_a_judge_are_kept(tmp_path: Path) -> None:
    folder = write_mining(tmp_path / "m", [Mined("q", "p", ["n"])])
    row = {
        "query_id": "q",
        "positive_id": "p",
        "document_id": "x",
        "judge": "m",
        "verdict": "drop",
        "score": 0.9,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=VERDICTS), folder / "verdicts.parquet")
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(folder)
    with store.read() as connection:
        assert connection.sql("select document_id, verdict from verdicts join mining_runs using (run_id)").fetchall() == [
            ("x", "drop")
        ]


def test_texts_are_joined_from_the_data_set(tmp_path: Path) -> None:
    mining, _, _ = odd_world(tmp_path)
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(mining)
    texts = "query, positive_title, positive, negative_title, negative"
    query = f"select {texts} from triples_text where query_id = ? and position = 0"
    expected = ("query of '; drop table triples; --", "Title 0", 'text of\n"it\'s"', "", 'text of\n"say "hi""')
    with store.read() as connection:
        assert connection.execute(query, [ODD_IDS[9]]).fetchall() == [expected]
        assert connection.sql("select count(*) from triples_text").fetchall() == [(store_rows(mining),)]
    with duckdb.connect(str(store.path), read_only=True) as plain:
        assert plain.execute(query, [ODD_IDS[9]]).fetchall() == [expected]


def test_texts_are_found_again_after_the_home_was_moved(tmp_path: Path) -> None:
    mining, _, _ = odd_world(tmp_path / "old")
    TripleStore(tmp_path / "old" / "triples.duckdb").add(mining)
    count = store_rows(mining)
    (tmp_path / "old").rename(tmp_path / "new")
    store = TripleStore(tmp_path / "new" / "triples.duckdb")
    store.add(tmp_path / "new" / mining.relative_to(tmp_path / "old"))
    with duckdb.connect(str(store.path), read_only=True) as plain:
        assert plain.sql("select count(query), count(negative) from triples_text").fetchall() == [(count, count)]


def test_a_deleted_data_set_leaves_the_rows_without_texts(tmp_path: Path) -> None:
    mining, _, _ = odd_world(tmp_path)
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(mining)
    write_dataset(tmp_path / "artifacts" / "dataset" / "d1", {"p": ("", "pos"), "n": ("T", "neg")}, {"q": "question"})
    store.add(write_mining(tmp_path / "two", [Mined("q", "p", ["n"])], run_id="e" * 16, dataset_artifact="dataset/d1"))
    count = store_rows(mining)
    shutil.rmtree(tmp_path / "artifacts" / "dataset" / "d0")
    query = "select query is null, positive is null, count(*) from triples_text group by all order by all"
    with store.read() as connection:
        assert connection.sql(query).fetchall() == [(False, False, 1), (True, True, count)]
    shutil.rmtree(tmp_path / "artifacts")
    store.add(write_mining(tmp_path / "three", [Mined("q", "p", ["n"])], run_id="d" * 16))
    with duckdb.connect(str(store.path), read_only=True) as plain:
        assert plain.sql("select count(*) from triples_text where query is null").fetchall() == [(count + 2,)]


def store_rows(mining: Path) -> int:
    return int(pq.read_metadata(mining / "triples.parquet").num_rows)


def test_the_data_set_is_found_in_the_manifest(tmp_path: Path) -> None:
    folder = write_mining(tmp_path / "artifacts" / "mining" / "m", [Mined("q", "p", ["n"])])
    write_dataset(tmp_path / "artifacts" / "dataset" / "d1", {"p": ("", "pos"), "n": ("T", "neg")}, {"q": "question"})
    (folder / "manifest.json").write_text(json.dumps({"spec": {"dataset": "dataset/d1"}, "files": {}}))
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(folder)
    with store.read() as connection:
        assert connection.sql("select query, negative from triples_text").fetchall() == [("question", "neg")]


@pytest.mark.parametrize("ref", ["../../etc", "dataset/../..", "/dataset/x", "dataset/x'y", ""])
def test_a_reference_out_of_the_home_is_ignored(tmp_path: Path, ref: str) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(write_mining(tmp_path / "m", [Mined("q", "p", ["n"])], dataset_artifact=ref))
    assert store.runs()[0]["dataset_artifact"] is None


@pytest.mark.parametrize("name", ["it's here", "all*of", "set[ab]", "semi;colon --", "日本"])
def test_paths_are_data_not_sql_and_not_patterns(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    mining, _, samples = odd_world(home)
    for decoy in ("allXof", "seta", "setb", "whatX"):
        write_mining(tmp_path / decoy / "artifacts" / "mining" / "m0", [Mined("decoy", "p", ["n"])])
    store = TripleStore(home / "triples.duckdb")
    run_id = store.add(mining)
    assert store.count(run_id) == sum(len(sample.negatives) for sample in samples)
    with store.read() as connection:
        assert connection.sql("select count(*) from triples_text where query is null or negative is null").fetchall() == [
            (0,)
        ]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "run.json is missing"),
        (lambda folder: (folder / "run.json").write_text("{"), "run.json is damaged"),
        (lambda folder: (folder / "run.json").write_text("[]"), "expected an object"),
        (lambda folder: (folder / "run.json").write_text("{}"), "has no run_id"),
        (lambda folder: (folder / "triples.parquet").unlink(), "triples.parquet is missing"),
        (lambda folder: (folder / "triples.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda folder: write_mining(folder, [Mined("q", "p", ["n"])], triples=5), "has 1 triples, its run.json says 5"),
        (lambda folder: pq.write_table(pa.table({"query_id": ["q"]}), folder / "triples.parquet"), "cannot be read"),
    ],
)
def test_a_damaged_artifact_changes_nothing(tmp_path: Path, break_it: object, message: str) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    store.add(write_mining(tmp_path / "sound", [Mined("q", "p", ["n"])]))
    folder = write_mining(tmp_path / "broken", [Mined("q", "p", ["x", "y"])])
    break_it(folder)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=message):
        store.add(folder)
    with store.read() as connection:
        assert connection.sql("select negative_id from triples").fetchall() == [("n",)]


def test_without_a_database_there_is_nothing(tmp_path: Path) -> None:
    store = TripleStore(tmp_path / "triples.duckdb")
    assert (store.runs(), store.count("x"), store.has("x"), store.mining_folders()) == ([], 0, False, [])
    with pytest.raises(InputError, match="mine first"), store.read():
        pass
    assert not list(tmp_path.iterdir())


def test_a_path_that_duckdb_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without '\?'.*choose another --home"):
        TripleStore(tmp_path / "what?" / "triples.duckdb")
