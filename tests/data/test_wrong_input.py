"""Every wrong input ends in one InputError that names the file, the row, what was expected and what was found."""

import gzip
from pathlib import Path

import pytest
from data_helpers import DOCUMENTS, QUERIES, ingest, labelled, write_beir

from nv_retriever.data.build import source_digest
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.head import FIRST, check_head
from nv_retriever.errors import InputError


def append(name, text):
    def change(folder: Path):
        path = folder / name
        path.write_bytes(path.read_bytes() + (text if isinstance(text, bytes) else text.encode()))

    return change


def put(name, data):
    def change(folder: Path):
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def truncated_gzip(folder: Path):
    data = gzip.compress((folder / "corpus.jsonl").read_bytes() * 1000, compresslevel=0)
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(data[: len(data) // 2])


def renamed(folder: Path):
    (folder / "corpus.jsonl").rename(folder / "corpus.jsonl.gz")


HEADER = "query-id\tcorpus-id\tscore\n"
CASES = {
    "no corpus": (remove("corpus.jsonl"), r"set: expected either corpus.jsonl or corpus.jsonl.gz, found neither"),
    "both": (put("corpus.jsonl.gz", b"x"), r"found both"),
    "no queries": (remove("queries.jsonl"), r"queries.jsonl"),
    "no qrels": (lambda f: [p.unlink() for p in (f / "qrels").iterdir()], r"qrels: expected relevance labels"),
    "broken json": (append("corpus.jsonl", '{"_id": "x", \n'), r"corpus.jsonl line 6: expected a JSON object"),
    "not an object": (append("queries.jsonl", "[1]\n"), r"queries.jsonl line 6: .*found list \[1\]"),
    "missing key": (append("corpus.jsonl", '{"id": "x", "text": "y"}\n'), r"corpus.jsonl line 6: .*'_id'.*\['id', 'text'\]"),
    "id is null": (append("corpus.jsonl", '{"_id": null, "text": "y"}\n'), r"corpus.jsonl line 6: .*found None"),
    "id with tab": (append("queries.jsonl", '{"_id": "a\\tb", "text": "y"}\n'), r"queries.jsonl line 6"),
    "id with an escape": (append("queries.jsonl", '{"_id": "a\\u009b31m", "text": "y"}\n'), r"line 6: .*without control"),
    "id of two lines": (append("queries.jsonl", '{"_id": "a\\u2028b", "text": "y"}\n'), r"line 6: .*without control"),
    "id is true": (append("queries.jsonl", '{"_id": true, "text": "y"}\n'), r"queries.jsonl line 6: .*found True"),
    "text is a number": (append("corpus.jsonl", '{"_id": "x", "text": 5}\n'), r"line 6: expected text: text, found int 5"),
    "title is a list": (
        append("corpus.jsonl", '{"_id": "x", "title": [], "text": "a"}\n'),
        r"line 6: expected title: text, found list",
    ),
    "duplicate document": (
        append("corpus.jsonl", '{"_id": "d1", "text": "z"}\n'),
        r"line 6: .*'d1' again, first at .*corpus.jsonl line 1",
    ),
    "duplicate query": (
        append("queries.jsonl", '{"_id": "q2", "text": "z"}\n'),
        r"line 6: .*'q2' again, first at .*queries.jsonl line 2",
    ),
    "empty": (
        append("corpus.jsonl", '{"_id": "x", "text": ""}\n'),
        r"corpus.jsonl line 6: expected a text that is not empty.*on_empty=skip",
    ),
    "none": (append("corpus.jsonl", '{"_id": "x", "title": null, "text": null}\n'), r"corpus.jsonl line 6: .*not empty"),
    "blank": (
        append("corpus.jsonl", '{"_id": "x", "title": " ", "text": "\\u200b\\n"}\n'),
        r"corpus.jsonl line 6: .*not empty",
    ),
    "blank query": (append("queries.jsonl", '{"_id": "x", "text": "  "}\n'), r"queries.jsonl line 6: .*not empty"),
    "not utf-8": (
        append("corpus.jsonl", b'{"_id": "x", "text": "\xff"}\n'),
        r"corpus.jsonl line 6: expected UTF-8, found byte 0xff",
    ),
    "truncated gzip": (truncated_gzip, r"corpus.jsonl.gz after line \d+: expected sound gzip data"),
    "no gzip": (renamed, r"corpus.jsonl.gz: expected gzip data"),
    "gzip without .gz": (
        put("corpus.jsonl", gzip.compress(b"{}")),
        r"corpus.jsonl: expected text, found gzip data; add .gz",
    ),
    "unknown query": (append("qrels/train.tsv", "qX\td1\t1\n"), r"train.tsv line 5: expected the id of a query, found 'qX'"),
    "unknown document": (
        append("qrels/test.tsv", "q1\tdX\t1\n"),
        r"test.tsv line 5: expected the id of a document, found 'dX'",
    ),
    "bad score": (
        append("qrels/test.tsv", "q1\td1\thigh\n"),
        r"test.tsv line 5: expected a whole number as score, found 'high'",
    ),
    "fraction": (append("qrels/test.tsv", "q1\td1\t0.5\n"), r"test.tsv line 5: .*'0.5'"),
    "nan": (append("qrels/test.tsv", "q1\td1\tnan\n"), r"test.tsv line 5: .*'nan'"),
    "two cells": (append("qrels/test.tsv", "q1\td1\n"), r"test.tsv line 5: expected three cells separated by tabs, found 2"),
    "no header": (put("qrels/test.tsv", "q1\td1\t1\n"), r"test.tsv line 1: expected the header query-id, corpus-id, score"),
    "another column": (
        put("qrels/test.tsv", "query-id\tcorpus-id\tscore\tsource\nq1\td1\t1\tweb\n"),
        r"test.tsv line 1: expected the header query-id, corpus-id, score.*; leave these three columns, in this order",
    ),
    "empty file": (put("qrels/test.tsv", ""), r"test.tsv: .*an empty file"),
    "labels of another kind": (
        put("qrels/test.txt", HEADER),
        r"qrels/test.txt: expected files named SPLIT.tsv or SPLIT.tsv.gz only, found test.txt",
    ),
    "labels twice": (put("qrels/test.tsv.gz", gzip.compress(HEADER.encode())), r"either test.tsv or test.tsv.gz"),
    "no labels": (
        lambda f: [put(f"qrels/{s}.tsv", HEADER)(f) for s in ("train", "test")],
        r"at least one positive label, found no labels",
    ),
    "no documents": (put("corpus.jsonl", ""), r"at least one of its documents, found none"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong(tmp_path, case):
    change, message = CASES[case]
    folder = write_beir(tmp_path / "set")
    change(folder)
    with pytest.raises(InputError, match=message) as caught:
        ingest(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").glob("dataset.json")) == [] and not (tmp_path / "out" / "staged").exists()


BEYOND_THE_HEAD = (
    *("duplicate document", "duplicate query", "unknown query", "unknown document"),
    *("no labels", "truncated gzip"),
)
"""What is wrong only beside, or after, the first records: told by ingestion alone."""


@pytest.mark.parametrize("case", [case for case in CASES if case not in BEYOND_THE_HEAD])
def test_the_first_records_tell_a_plan_what_ingestion_would_say(tmp_path, case):
    change, message = CASES[case]
    folder = write_beir(tmp_path / "set")
    check_head(DatasetConfig(source=str(folder)))
    change(folder)
    with pytest.raises(InputError, match=message):
        check_head(DatasetConfig(source=str(folder)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"pairs\.jsonl: expected at least one of its documents, found none"),
        (b"\xff\xfe{\0", r"pairs\.jsonl line 1: expected UTF-8, found byte 0xff at column 1; it is UTF-16"),
        (b"\x00\x01" * 5000, r"pairs\.jsonl line 1: expected a JSON object"),
    ],
    ids=["empty", "UTF-16", "binary"],
)
def test_a_file_of_pairs_that_is_none_is_told_from_its_head(tmp_path, content, message):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    for call in (check_head, lambda c: ingest(path, tmp_path / "out")):
        with pytest.raises(InputError, match=message):
            call(DatasetConfig(source=str(path)))


@pytest.mark.parametrize("name", ["pairs.json.gz", "pairs.jsonl.gz", "pairs.csv.gz"])
def test_a_damaged_gzip_file_of_pairs_is_told(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'[{"query": "q", "positive": "p"}]')[:-12])
    for call in (check_head, lambda c: ingest(path, tmp_path / "out")):
        with pytest.raises(InputError, match=r"pairs\..*: expected sound gzip data, found a damaged file"):
            call(DatasetConfig(source=str(path)))


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_line_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr("nv_retriever.data.lines.LONGEST_LINE", 1000)
    folder = write_beir(tmp_path / "set")
    data = (folder / "corpus.jsonl").read_bytes() + b" " * 1_000_000
    (folder / "corpus.jsonl").unlink()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(InputError, match=r"corpus\.jsonl.* line 6: expected a line of at most 1,000 bytes, found more"):
        ingest(folder, tmp_path / "out")


def test_the_head_of_a_large_file_is_all_that_is_looked_at(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [f'{{"query": "question {i}", "positive": "answer {i}"}}' for i in range(FIRST)]
    path.write_text("\n".join([*rows, "no JSON"]))
    check_head(DatasetConfig(source=str(path)))
    with pytest.raises(InputError, match=f"line {FIRST + 1}: expected a JSON object"):
        ingest(path, tmp_path / "out")


def test_the_first_few_problems_at_once(tmp_path):
    folder = write_beir(tmp_path / "set")
    append("corpus.jsonl", "oops\n" * 9 + '{"_id": 7, "text": ""}\n')(folder)
    with pytest.raises(InputError, match=r"line 6: .*; 9 more: .*line 7: .*line 9: .*6 not shown"):
        ingest(folder, tmp_path / "out")


def test_too_many_problems_stop_early(tmp_path):
    folder = write_beir(tmp_path / "set")
    append("corpus.jsonl", "oops\n" * 100_000)(folder)
    with pytest.raises(InputError, match=r"999 more"):
        ingest(folder, tmp_path / "out")


def test_skip_policies_count(tmp_path, caplog):
    documents = [*DOCUMENTS, ("blank", "", " "), ("titled", "Only a title", "")]
    queries = [*QUERIES, ("empty", "")]
    labels = {
        "train": [
            ("q1", "d1", 1),
            ("q1", "blank", 1),
            ("empty", "d1", 1),
            ("qX", "d1", 1),
            ("q2", "dX", 1),
            ("q3", "titled", 1),
        ]
    }
    folder = write_beir(tmp_path / "set", documents, queries, labels)
    data = ingest(folder, tmp_path / "out", on_empty="skip", on_unknown="skip")
    assert data.n_documents == 6 and data.n_queries == 5 and labelled(data) == {("q1", "d1", 1), ("q3", "titled", 1)}
    assert data.info["skipped"] == {
        "blank_documents": 1,
        "blank_queries": 1,
        "documents_with_only_a_title": 1,
        "labels_of_blank_texts": 2,
        "labels_of_unknown_ids": 2,
    }
    assert data.info["queries_without_labels"] == 3
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 5 and f"{folder}: 2 labels of unknown ids (skipped or noted)" in told


def test_a_broken_surrogate_is_replaced_and_counted(tmp_path):
    folder = write_beir(tmp_path / "set")
    append("corpus.jsonl", '{"_id": "x", "text": "half \\ud83d emoji"}\n')(folder)
    data = ingest(folder, tmp_path / "out")
    assert data.document_texts()[list(data.document_ids).index("x")] == "half \ufffd emoji"
    assert data.info["skipped"] == {"texts_with_broken_characters_replaced": 1}


def test_byte_order_mark_crlf_numeric_ids(tmp_path):
    folder = write_beir(tmp_path / "set")
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        path = folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    append("corpus.jsonl", '\n{"_id": 7, "text": "seven"}\n')(folder)
    append("qrels/train.tsv", "q1\t7\t1\r\n")(folder)
    assert ("q1", "7", 1) in labelled(ingest(folder, tmp_path / "out"))


@pytest.mark.parametrize("source", ["nowhere/at/all", "./gone", "missing.jsonl", "no-such-set"])
def test_nothing_there(tmp_path, source):
    for call in (lambda c: ingest(source, tmp_path / "out"), source_digest):
        with pytest.raises(InputError, match=r"found (nothing there|none of these)"):
            call(DatasetConfig(source=source))


@pytest.mark.parametrize("kind", ["beir", "stdlib", "pairs"])
def test_a_setting_that_the_source_does_not_read(tmp_path, kind):
    (tmp_path / "pairs.csv").write_text("frage,antwort\na,b\n")
    source = {"beir": str(write_beir(tmp_path / "set")), "stdlib": "stdlib", "pairs": str(tmp_path / "pairs.csv")}[kind]
    with pytest.raises(InputError, match=r"dataset.revision: expected nothing: only data sets on the hub"):
        source_digest(DatasetConfig(source=source, revision="main"))
    named = DatasetConfig(source=source, columns={"query": "frage", "positive": "antwort"})
    if kind == "pairs":
        assert source_digest(named)
    else:
        with pytest.raises(InputError, match=r"dataset.columns: expected nothing: only files and data sets of pairs"):
            source_digest(named)


@pytest.mark.parametrize("source", ["", " "])
def test_a_blank_source_is_not_the_current_folder(tmp_path, monkeypatch, source):
    monkeypatch.chdir(write_beir(tmp_path / "set"))
    with pytest.raises(InputError, match=r"dataset.source: expected the name of a data set, found '"):
        source_digest(DatasetConfig(source=source))


@pytest.mark.parametrize(
    ("source", "hint"),
    [("Scifact", "did you mean scifact?"), ("stdlb", "did you mean stdlib?"), ("qqqq", ", cqadupstack-FORUM")],
)
def test_a_name_that_is_almost_known(source, hint):
    with pytest.raises(InputError) as error:
        source_digest(DatasetConfig(source=source))
    assert str(error.value).endswith(hint)


@pytest.mark.parametrize("source", ["hf:", "irds:"])
def test_a_kind_of_source_without_a_name(source):
    with pytest.raises(InputError, match=f"expected {source}NAME, found '{source}'"):
        source_digest(DatasetConfig(source=source))
