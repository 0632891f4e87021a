import csv
import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import ingest, labelled

from nv_retriever.data.build import source_digest
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.pair_files import split_in_name
from nv_retriever.data.pairs import document_id
from nv_retriever.data.splits import assign_splits
from nv_retriever.errors import InputError

ROWS = [{"query": f"Question {i % 12}?", "positive": f"answer {i % 15}", "negative": f"wrong {i % 9}"} for i in range(30)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def content(data):
    return (
        data.document_texts(),
        data.query_texts(),
        sorted(labelled(data)),
        [data.query_rows(s).tolist() for s in data.splits],
    )


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv", "tsv"])
def test_formats_agree_and_order_is_nothing(tmp_path, suffix):
    first = ingest(write(tmp_path / "a.jsonl", ROWS), tmp_path / "one")
    rows = ROWS[:]
    random.Random(0).shuffle(rows)
    second = ingest(write(tmp_path / f"b.{suffix}", rows), tmp_path / "two")
    assert content(first) == content(second)
    for name in ("corpus", "queries", "qrels"):
        assert (tmp_path / "one" / f"{name}.parquet").read_bytes() == (tmp_path / "two" / f"{name}.parquet").read_bytes()


def test_suffixes_in_capitals_and_hidden_files(tmp_path):
    text = write(tmp_path / "a.jsonl", ROWS).read_bytes()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "A.JSONL").write_bytes(text)
    (tmp_path / "set" / "._A.JSONL").write_bytes(b"\x00\xff")
    (tmp_path / "B.JSONL.GZ").write_bytes(gzip.compress(text))
    expected = content(ingest(tmp_path / "a.jsonl", tmp_path / "a"))
    for name in ("set", "set/A.JSONL", "B.JSONL.GZ"):
        assert content(ingest(tmp_path / name, tmp_path / "b")) == expected


def test_triples_become_labels(tmp_path):
    data = ingest(write(tmp_path / "a.jsonl", ROWS), tmp_path / "out")
    assert (data.n_queries, data.n_documents) == (12, 24) and data.splits == ("train", "dev", "test")
    texts = dict(zip(data.document_ids, data.document_texts(), strict=True))
    queries = dict(zip(data.query_ids, data.query_texts(), strict=True))
    expected = {(r["query"], r["positive"], 1) for r in ROWS} | {(r["query"], r["negative"], 0) for r in ROWS}
    assert {(queries[q], texts[d], g) for q, d, g in labelled(data)} == expected
    rows = [set(data.query_rows(split)) for split in data.splits]
    assert set.union(*rows) == set(range(12)) and sum(map(len, rows)) == 12


def test_equal_texts_merge_and_the_smallest_spelling_is_kept(tmp_path):
    rows = [{"query": "Who?", "positive": "Me"}, {"query": " who? ", "positive": "me"}, {"query": "WHO?", "positive": "You"}]
    data = ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert data.query_texts() == ["WHO?"] and sorted(data.document_texts()) == ["Me", "You"]
    assert document_id("", "Me ") == document_id(" ", "me") != document_id("T", "me")


@pytest.mark.parametrize(
    ("row", "documents", "grades"),
    [
        ({"query": "q", "pos": ["a", "b"], "neg": ["c", "d"]}, ["a", "b", "c", "d"], [0, 0, 1, 1]),
        ({"anchor": "q", "positive": "a", "negative_1": "c", "negative_2": None, "negative_10": ""}, ["a", "c"], [0, 1]),
        ({"question": "q", "answer": "a", "title": "T"}, ["T a"], [1]),
        ({"query": "q", "document": "a", "label": 0, "x": 1}, ["a"], [0]),
        (
            {
                "query_id": "7",
                "query": "q",
                "positive_passages": [{"docid": "p", "title": "T", "text": "a"}],
                "negative_passages": [{"docid": "n", "title": "", "text": "c"}],
            },
            ["T a", "c"],
            [0, 1],
        ),
        (
            {
                "dataset": "nq",
                "question": "q",
                "answers": ["short"],
                "positive_ctxs": [{"title": "T", "text": "a", "score": 1000.5, "title_score": 1, "passage_id": "3"}],
                "negative_ctxs": [{"title": "", "text": "by chance", "passage_id": "9"}],
                "hard_negative_ctxs": [{"title": "", "text": "c", "score": 7.5, "psg_id": "4"}],
            },
            ["T a", "c"],
            [0, 1],
        ),
        (
            {"query": "q", "positive": "a", "positive_id": 5, "negative": ["c", "d"], "negative_id": [6, 7]},
            ["a", "c", "d"],
            [0, 0, 1],
        ),
    ],
)
def test_known_shapes(tmp_path, row, documents, grades):
    other = {
        "query": "other",
        "pos": ["z"],
        "positive": "z",
        "document": "z",
        "answer": "z",
        "anchor": "other",
        "question": "other",
    }
    other |= {"answers": [], "positive_ctxs": [{"title": "", "text": "z", "passage_id": "1"}]}
    other |= {"positive_passages": [{"docid": "z", "title": "", "text": "z"}], "query_id": 8, "positive_id": 8, "label": 1}
    rows = [row, {key: other[key] for key in row if key in other} | ({"title": ""} if "title" in row else {})]
    data = ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "out")
    assert sorted(set(data.document_texts()) - {"z"}) == documents
    query = data.query_texts().index("q")
    assert sorted(g for q, _, g in labelled(data) if q == data.query_ids[query]) == grades


@pytest.mark.parametrize("key", ["docid", "passage_id", "psg_id"])
def test_documents_keep_the_ids_that_they_have(tmp_path, key):
    rows = [{"question": f"q{i}", "positive_ctxs": [{key: f"d{i}", "title": "", "text": f"t{i}"}]} for i in range(3)]
    assert ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "out").document_ids.tolist() == ["d0", "d1", "d2"]


def test_scores_that_are_no_labels(tmp_path):
    rows = [{"query": f"q{i}", "positive": f"a{i}", "negative": f"n{i}", "score": 0.25 * i} for i in range(1, 5)]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, match=r"line 2: expected a whole number .*'0.25'; --set dataset.columns.score=null"):
        ingest(path, tmp_path / "a")
    data = ingest(path, tmp_path / "b", columns={"score": None, "negative": None})
    assert data.n_documents == 4 and {grade for _, _, grade in labelled(data)} == {1}
    with pytest.raises(InputError, match="a column for the query"):
        ingest(path, tmp_path / "c", columns={"query": None})


def test_scores_empty_and_whole(tmp_path):
    (tmp_path / "a.csv").write_text("query,positive,label\nq,a,\nq,b,0.0\nq,c,2.0\n")
    data = ingest(tmp_path / "a.csv", tmp_path / "out")
    texts = dict(zip(data.document_ids, data.document_texts(), strict=True))
    assert {(texts[d], g) for _, d, g in labelled(data)} == {("a", 1), ("b", 0), ("c", 2)}


@pytest.mark.parametrize("column", ["documents", "passages", "passage"])
def test_labeled_lists(tmp_path, column):
    rows = [{"query": f"q{i}", column: [f"a{i}", f"b{i}", f"c{i}"], "labels": [1, 0, 2.0]} for i in range(3)]
    data = ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "out")
    texts = dict(zip(data.document_ids, data.document_texts(), strict=True))
    expected = {(f"{name}{i}", grade) for name, grade in {"a": 1, "b": 0, "c": 2}.items() for i in range(3)}
    assert {(texts[d], g) for _, d, g in labelled(data)} == expected
    with pytest.raises(InputError, match=r"line 1: expected a score for each of 3 documents, found 2 scores"):
        ingest(write(tmp_path / "a.jsonl", [rows[0] | {"labels": [1, 0]}]), tmp_path / "out")


def test_ids_that_pandas_made_floats(tmp_path):
    rows = [{"query_id": float(i), "query": f"q{i}", "positive": f"a{i}"} for i in range(3)]
    assert list(ingest(write(tmp_path / "a.parquet", rows), tmp_path / "a").query_ids) == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"row 1: .* found 0.5; cast the column to integers or text"):
        ingest(write(tmp_path / "b.parquet", [rows[0] | {"query_id": 0.5}]), tmp_path / "b")


def test_columns_by_configuration(tmp_path):
    path = write(
        tmp_path / "a.csv",
        [{"frage": f"q{i}", "antwort": f"a{i}", "query": "decoy", "split": "validation"} for i in range(3)],
    )
    data = ingest(path, tmp_path / "out", columns={"query": "frage", "positive": "antwort"})
    assert sorted(data.query_texts()) == ["q0", "q1", "q2"] and data.splits == ("dev",)


def test_records_with_other_keys_than_the_first(tmp_path):
    rows = [
        {"query": "q0", "positive": "a0"},
        {"query": "q1", "positive": "a1", "negative": "n1", "split": "test"},
        {"query": "q2", "positive": "a2", "score": 0},
        {"split": "dev", "answer": "a3", "question": "q3"},
    ]
    for name in ("a.jsonl", "a.json"):
        data = ingest(write(tmp_path / name, rows), tmp_path / name.replace(".", "-"), columns={"negative": "negative"})
        texts = dict(zip(data.document_ids, data.document_texts(), strict=True))
        queries = dict(zip(data.query_ids, data.query_texts(), strict=True))
        found = {(queries[q], texts[d], g) for q, d, g in labelled(data)}
        assert found == {("q0", "a0", 1), ("q1", "a1", 1), ("q1", "n1", 0), ("q2", "a2", 0), ("q3", "a3", 1)}
        assert [queries[data.query_ids[row]] for row in data.query_rows("test")] == ["q1"]


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"query": "b"}, {}, r"a.jsonl line 2: expected a column for the positive .*found the columns query;"),
        ({"query": "b"}, {"positive": "positive"}, r"a.jsonl line 2: expected a column 'positive', found the columns query"),
        ({"query": "b", "positive": "y"}, {"negative": "bad"}, r"a.jsonl: expected a column 'bad', found the columns"),
        (
            {"query": "b", "text": "y"},
            {},
            r"a.jsonl line 2: expected one column for the positive, found 'text' here and 'positive' at line 1",
        ),
    ],
)
def test_records_that_lack_a_column(tmp_path, row, columns, message):
    with pytest.raises(InputError, match=message):
        rows = [{"query": "a", "positive": "x", "text": "z"}, row]
        ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "out", columns=columns)


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            [{"foo": "a", "bar": "b"}],
            {},
            r"a.csv: expected a column for the query .*found the columns foo, bar; --set dataset.columns.query=",
        ),
        ([{"query": "a", "bar": "b"}], {}, r"a column for the positive .*found the columns query, bar"),
        ([{"query": "a", "bar": "b"}], {"positive": "baz"}, r"expected a column 'baz', found the columns query, bar"),
        (
            [{"query": "a", "positive": "b"}, {"query": "", "positive": "c"}],
            {},
            r"a.csv line 3: expected a text that is not empty",
        ),
        (
            [{"query": "a", "positive": "b"}, {"query": "a", "positive": " "}],
            {},
            r"a.csv line 3: expected a text that is not empty",
        ),
        (
            [{"query": "a", "passage": "b", "label": "0.3"}],
            {},
            r"a.csv line 2: expected a whole number as score, found '0.3'",
        ),
        (
            [{"query": "a", "positive": "b", "positive_id": 1}, {"query": "c", "positive": "d", "positive_id": 1}],
            {},
            r"line 3: expected one content for each id, found '1' again, first at .*line 2",
        ),
        (
            [{"query": "a", "passage": "b", "label": "0"}],
            {},
            r"at least one positive label, found 1 labels, none of grade 1",
        ),
    ],
)
def test_wrong_tables(tmp_path, rows, columns, message):
    with pytest.raises(InputError, match=message):
        ingest(write(tmp_path / "a.csv", rows), tmp_path / "out", columns=columns)


@pytest.mark.parametrize("positive", [[], None, ""])
def test_a_query_does_not_vanish_with_its_positives(tmp_path, positive):
    rows = [{"query": "a", "positive": ["x"]}, {"query": "b", "positive": positive, "negative": ["y"], "score": positive}]
    with pytest.raises(InputError, match=r"line 2: expected a text that is not empty.*--set dataset.on_empty=skip"):
        ingest(write(tmp_path / "a.jsonl", rows), tmp_path / "fail")
    data = ingest(tmp_path / "a.jsonl", tmp_path / "skip", on_empty="skip")
    assert data.info["skipped"]["blank_documents"] == 1 and data.n_queries == data.n_documents == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", 'query,positive\n"x\ny",z\na,b,c\n', r"a.csv line 4: expected 2 cells, found 3"),
        ("a.csv", "query,query\n1,2\n", r"a.csv line 1: expected a header of different column names"),
        ("a.csv", "", r"a.csv line 1: .*an empty file"),
        ("a.csv", 'query,positive\n"x"y,z\n', r"a.csv line 2: expected a CSV row"),
        ("a.csv", "query;positive\nq;p\n", r"a.csv line 1: expected a header separated by ',', found 'query;positive'"),
        ("a.csv", "query\tpositive\nq\tp\n", r"a.csv line 1: expected a header separated by ','.* tabs those of .tsv"),
        ("a.csv", "query,positive\nq,p\n".encode("utf-16"), r"line 1: expected UTF-8, found byte 0xff .*; it is UTF-16"),
        ("a.csv", b"query,r\xe9ponse\nq,p\n", r"a.csv line 1: expected UTF-8, found byte 0xe9 at column 8"),
        (
            "a.csv",
            b"query,positive\n\xff,x\nq,p\na,b,c\n",
            r"line 2: expected UTF-8.*a.csv line 4: expected 2 cells, found 3",
        ),
        ("a.json", "[1, 2]", r"a.json row 1: expected a JSON object, found int 1"),
        ("a.json", '[{"query": ', r"a.json: expected a JSON array"),
        ("a.json", "[" * 100_000, r"a.json: expected a JSON array"),
        ("a.jsonl", '{"query": 5, "positive": "p"}', r"^[^;]*a.jsonl line 1: expected text: text, found int 5$"),
        ("a.jsonl", '{"query": "q", "positive": [7]}', r"^[^;]*a.jsonl line 1: expected text: text, found int 7$"),
        ("a.parquet", "PAR1", r"a.parquet: expected a parquet file"),
        ("a.xlsx", "?", r"a.xlsx: expected a file named"),
    ],
)
def test_wrong_files(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        ingest(tmp_path / name, tmp_path / "out")


def test_wrong_parquet_files(tmp_path):
    columns = [pa.array(["q", "r"]), pa.array(["a", "b"]), pa.array(["c", "d"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["query", "positive", "positive"]), tmp_path / "twice.parquet")
    with pytest.raises(InputError, match=r"twice.parquet: expected different column names, found query, positive, positive"):
        ingest(tmp_path / "twice.parquet", tmp_path / "out")
    latin = pa.Array.from_buffers(pa.string(), 2, pa.array([b"caf\xe9", b"x"]).buffers())
    pq.write_table(pa.table({"query": columns[0], "positive": latin}), tmp_path / "latin.parquet")
    with pytest.raises(InputError, match=r"latin.parquet: expected a parquet file, found 'utf-8' codec can't decode"):
        ingest(tmp_path / "latin.parquet", tmp_path / "out")
    pq.write_table(pa.table({"query": ["q" * 99, "r"], "positive": ["a", "b"]}), tmp_path / "damaged.parquet")
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    content[20:60] = b"\xff" * 40
    (tmp_path / "damaged.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.parquet: expected a parquet file"):
        ingest(tmp_path / "damaged.parquet", tmp_path / "out")


def test_quotes_of_tsv_are_text_unless_the_header_is_quoted(tmp_path):
    rows = ['q0\t"an open quote', "q1\tplain", 'q2\tits end"', 'q3\t"Alien" is a film']
    (tmp_path / "a.tsv").write_text("\n".join(["query\tpositive", *rows, ""]))
    texts = ingest(tmp_path / "a.tsv", tmp_path / "a").document_texts()
    assert sorted(texts) == ['"Alien" is a film', '"an open quote', 'its end"', "plain"]
    (tmp_path / "b.tsv").write_text('"query"\t"positive"\n"q0"\t"says ""hi""\tand\nleaves"\n')
    assert ingest(tmp_path / "b.tsv", tmp_path / "b").document_texts() == ['says "hi"\tand\nleaves']
    (tmp_path / "c.tsv").write_text('query\tpositive\nq0\t"two\nlines"\n')
    with pytest.raises(InputError, match=r"c.tsv line 3: expected 2 cells, found 1: .*; put the header's cells in quotes"):
        ingest(tmp_path / "c.tsv", tmp_path / "c")


def test_spaces_around_names_of_columns(tmp_path):
    (tmp_path / "a.csv").write_text("query , positive\nq,p\n")
    assert ingest(tmp_path / "a.csv", tmp_path / "out").document_texts() == ["p"]


def test_multi_line_cells_keep_their_place(tmp_path):
    (tmp_path / "a.csv").write_text('query,positive\n"two\nlines",x\nq,\n')
    with pytest.raises(InputError, match=r"a.csv line 4: expected a text that is not empty"):
        ingest(tmp_path / "a.csv", tmp_path / "out")


def test_a_folder_of_splits_and_shards(tmp_path):
    write(tmp_path / "set/data/train-00000-of-00002.parquet", ROWS[:10])
    write(tmp_path / "set/data/train-00001-of-00002.parquet", ROWS[5:12])
    write(tmp_path / "set/data/validation.parquet", [{"query": "dev?", "positive": "d", "negative": "e"}])
    data = ingest(tmp_path / "set", tmp_path / "out")
    assert data.splits == ("train", "dev") and data.name == "set" and len(data.query_rows("train")) == 12
    config = DatasetConfig(source=str(tmp_path / "set"))
    before = source_digest(config)
    write(tmp_path / "set/data/validation.parquet", [{"query": "dev?", "positive": "d", "negative": "f"}])
    assert source_digest(config) != before


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train_pairs.csv", "train"), ("pairs_train.csv", "train"), ("PAIRS-TEST.jsonl", "test"), ("my.val.0.csv", "dev")),
        *(("test2.csv", "test"), ("evaluation.csv", "test"), ("training.v2.jsonl.gz", "train"), ("2024_dev", "dev")),
        *(("trainers.csv", ""), ("contest.csv", ""), ("train_test.csv", ""), ("latest.csv", ""), ("pairs.csv", "")),
    ],
)
def test_a_split_is_a_word_of_a_name(name, split):
    assert split_in_name(name) == split


@pytest.mark.parametrize(
    ("train", "test"), [("train_pairs", "test_pairs"), ("pairs_train", "pairs_test"), ("a-train", "b-eval")]
)
def test_files_named_by_splits_are_not_shuffled_together(tmp_path, train, test):
    write(tmp_path / "set" / f"{train}.csv", ROWS[:9])
    write(tmp_path / "set" / f"{test}.csv", ROWS[9:12])
    data = ingest(tmp_path / "set", tmp_path / "out")
    assert data.splits == ("train", "test") and (len(data.query_rows("train")), len(data.query_rows("test"))) == (9, 3)


@pytest.mark.parametrize("path", ["train.csv", "my-train-pairs.csv", "set/train.csv", "set-train/pairs.csv"])
def test_what_is_named_train_is_all_train(tmp_path, caplog, path):
    file = write(tmp_path / path, ROWS)
    data = ingest(file.parent if "/" in path else file, tmp_path / "out")
    assert data.splits == ("train",) and len(data.query_rows("train")) == 12 and not caplog.records


@pytest.mark.parametrize("path", ["pairs.csv", "test.csv"])
def test_splits_by_hash_are_told(tmp_path, caplog, path):
    data = ingest(write(tmp_path / path, ROWS), tmp_path / "out")
    dev, test = (len(data.query_rows(split)) for split in ("dev", "test"))
    (record,) = caplog.records
    told = f"{dev} of the 12 queries that no split is given for are kept for dev and {test} for test"
    assert told in record.getMessage() and "column split" in record.getMessage()


def test_hash_splits_do_not_depend_on_other_rows_and_none_is_empty():
    import numpy as np

    hashes = [bytes([i]) * 16 for i in range(250)]
    rows = np.arange(250, dtype=np.int32)
    all_ = assign_splits(np.full(250, "", object), rows, hashes)
    half = assign_splits(np.full(125, "", object), rows[:125], hashes)
    assert all_[:125].tolist() == half.tolist() and {"train", "dev", "test"} == set(all_)
    assert 0.7 < (all_ == "train").mean() < 0.9
    for n in range(3, 12):
        assert set(assign_splits(np.full(n, "", object), rows[:n], hashes)) == {"train", "dev", "test"}
    assert assign_splits(np.array(["x", ""], object), rows[:2], hashes)[0] == "x"
