"""Every format holds exactly what was mined: ids, texts, scores, repeats, order; the rest is counted and explained."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import ir_measures
import pyarrow.parquet as pq
import pytest
from export_readers import flagembedding_rows, nemo_rows, tevatron_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import ODD_IDS, Mined, odd_world, write_dataset, write_mining

from nv_retriever.errors import ArtifactError
from nv_retriever.store.exports import source as source_module
from nv_retriever.store.exports.export import FORMATS, export
from nv_retriever.store.exports.n_tuple import columns_for

World = tuple[Path, Any, list[Mined]]
Key = tuple[str, str, tuple[str, ...]]
NO_NEGATIVES = "1 samples without negatives"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return odd_world(tmp_path)


def negative_ids(sample: Mined) -> tuple[str, ...]:
    return tuple(n["negative_id"] if isinstance(n, dict) else n for n in sample.negatives)


def mined(samples: list[Mined]) -> Counter[Key]:
    return Counter((s.query_id, s.positive_id, negative_ids(s)) for s in samples if s.negatives)


def text_of(dataset: Any) -> dict[str, str]:
    return dict(zip(dataset.document_ids, dataset.document_texts(), strict=True))


def read_back(name: str, out: Path, dataset: Any) -> Counter[Key]:
    """Return the samples (ids) that an export holds, after checking that its texts are those of its ids."""
    texts, queries = text_of(dataset), dict(zip(dataset.query_ids, dataset.query_texts(), strict=True))
    found: Counter[Key] = Counter()
    if name == "flagembedding":
        for line in map(json.loads, (out / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]):
            assert line["query"] == queries[line["query_id"]]
            assert line["pos"] == [texts[i] for i in line["pos_ids"]]
            assert line["neg"] == [texts[i] for i in line["neg_ids"]]
            found[line["query_id"], line["pos_ids"][0], tuple(line["neg_ids"])] += 1
    elif name == "tevatron":
        for line in map(json.loads, (out / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]):
            passages = [*line["positive_passages"], *line["negative_passages"]]
            assert line["query"] == queries[line["query_id"]]
            assert all(passage["text"] == texts[passage["docid"]] for passage in passages)
            found[line["query_id"], passages[0]["docid"], tuple(p["docid"] for p in passages[1:])] += 1
    elif name == "nemo":
        for row in nemo_rows(out / "train.json", out.parent / "cache", 2):
            item = row["item"]
            assert row["question"] == queries[item["question_id"]]
            assert row["texts"] == [texts[item["pos_doc"][0]["id"]], texts[item["neg_doc"][0]["id"]]]
            found[item["question_id"], item["pos_doc"][0]["id"], tuple(d["id"] for d in item["neg_doc"])] += 1
    else:
        return read_back_tables(name, out, texts, queries)
    return found


def read_back_tables(name: str, out: Path, texts: dict[str, str], queries: dict[str, str]) -> Counter[Key]:
    samples: dict[tuple[str, str], list[str]] = {}
    train = pq.read_table(out / FORMATS[name].main).to_pylist()
    ids = train if name == "parquet" else pq.read_table(out / "ids.parquet").to_pylist()
    for row, key in zip(train, ids, strict=True):
        if name in ("triplet", "parquet"):
            anchor = row["query"] if name == "parquet" else row["anchor"]
            assert (anchor, row["positive"]) == (queries[key["query_id"]], texts[key["positive_id"]])
            assert row["negative"] == texts[key["negative_id"]]
            samples.setdefault((key["query_id"], key["positive_id"]), []).append(key["negative_id"])
        elif name == "n-tuple":
            negatives = [row[f"negative_{i}"] for i in range(1, len(row) - 1)]
            assert negatives == [texts[i] for i in key["negative_ids"]]
            samples[key["query_id"], key["positive_id"]] = key["negative_ids"]
        elif name == "labeled-list":
            assert row["passages"] == [texts[i] for i in key["document_ids"]]
            assert row["labels"] == [1] + [0] * (len(row["labels"]) - 1)
            samples[key["query_id"], key["document_ids"][0]] = key["document_ids"][1:]
        elif name == "labeled-pair":
            assert (row["anchor"], row["passage"]) == (queries[key["query_id"]], texts[key["document_id"]])
            assert row["label"] == key["label"]
            if key["label"] == 1:
                last = samples.setdefault((key["query_id"], key["document_id"]), [])
            else:
                last.append(key["document_id"])
    return Counter((query, positive, tuple(negatives)) for (query, positive), negatives in samples.items())


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("trec", "n-tuple")])
def test_all_samples_come_back(world: World, tmp_path: Path, name: str) -> None:
    mining, dataset, samples = world
    result = export(name, mining, dataset, tmp_path / "out")
    assert read_back(name, tmp_path / "out", dataset) == mined(samples)
    assert (result.skipped, result.why) == ((0, "") if name == "parquet" else (1, NO_NEGATIVES))


def test_n_tuples_keep_the_samples_that_fill_the_columns(world: World, tmp_path: Path) -> None:
    mining, dataset, samples = world
    result = export("n-tuple", mining, dataset, tmp_path / "out")
    expected = Counter({key: count for key, count in mined(samples).items() if len(key[2]) == 3})
    assert read_back("n-tuple", tmp_path / "out", dataset) == expected
    assert result.rows == expected.total()
    assert result.skipped == 2 + 1 + 1
    assert "3 triples of samples with fewer than 3 negatives" in result.why
    assert NO_NEGATIVES in result.why


@given(st.dictionaries(st.integers(1, 9), st.integers(1, 50)))
def test_the_number_of_columns_loses_least(sizes: dict[int, int]) -> None:
    def kept(n: int) -> int:
        return sum(min(size, n) * samples for size, samples in sizes.items() if size >= n)

    chosen = columns_for(sizes)
    assert (kept(chosen) if sizes else 0) == max(map(kept, sizes), default=0)


ids = st.sampled_from(ODD_IDS[:6])
one_sample = st.builds(Mined, ids, ids, st.lists(ids, max_size=4))
some_samples = st.lists(one_sample, max_size=8, unique_by=lambda sample: (sample.query_id, sample.positive_id))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_samples, st.integers(1, 5))
def test_any_run_comes_back_whatever_the_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[Mined], block: int
) -> None:
    monkeypatch.setattr(source_module, "BLOCK_TRIPLES", block)
    shutil.rmtree(tmp_path, ignore_errors=True)
    dataset = write_dataset(tmp_path / "d", {i: ("", f"text {i}") for i in ODD_IDS}, {i: f"query {i}" for i in ODD_IDS})
    mining = write_mining(tmp_path / "m", samples)
    without = sum(not sample.negatives for sample in samples)
    for name in ("triplet", "flagembedding", "tevatron", "labeled-list", "labeled-pair"):
        result = export(name, mining, dataset, tmp_path / name)
        assert read_back(name, tmp_path / name, dataset) == mined(samples)
        assert result.skipped == without
    result = export("n-tuple", mining, dataset, tmp_path / "n")
    columns = len(pq.read_schema(tmp_path / "n" / "train.parquet").names) - 2
    assert result.rows * columns + result.skipped == sum(len(s.negatives) for s in samples) + without


def test_parquet_has_everything(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    export("parquet", mining, dataset, tmp_path / "out")
    written, truth = pq.read_table(tmp_path / "out" / "triples.parquet"), pq.read_table(mining / "triples.parquet")
    assert written.select(truth.column_names).equals(truth)
    file = str(tmp_path / "out" / "triples.parquet")
    assert duckdb.execute("select count(*), count(limit_score) from read_parquet(?)", [file]).fetchall() == [
        (truth.num_rows, truth.num_rows - 2)
    ]
    for name in ("run.json", "shortfall.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (mining / name).read_bytes()


def test_flagembedding_trains_from_file_and_folder(world: World, tmp_path: Path) -> None:
    mining, dataset, samples = world
    export("flagembedding", mining, dataset, tmp_path / "out")
    for path in (tmp_path / "out", tmp_path / "out" / "train.jsonl"):
        rows = flagembedding_rows(path, tmp_path / "cache", group_size=5, distillation=True)
        assert len(rows) == mined(samples).total()
        for row in rows:
            assert set(row["passages"][1:]) <= set(row["line"]["neg"])
            assert row["scores"][0] == pytest.approx(0.8)
    repeated = next(row["line"] for row in rows if row["line"]["query_id"] == ODD_IDS[1])
    assert repeated["neg_ids"] == [ODD_IDS[2], ODD_IDS[2], ODD_IDS[3]]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"teacher": "bm25", "score_kind": "bm25"}, "1 samples mix teachers"),
        ({"negative_score": math.nan}, "1 triples have none"),
        ({"positive_score": None}, "1 triples have none"),
        ({"negative_score": -math.inf}, "1 triples have none"),
    ],
)
def test_scores_that_do_not_compare_are_left_out_and_json_stays_finite(
    tmp_path: Path, broken: dict[str, Any], reason: str
) -> None:
    dataset = write_dataset(tmp_path / "d", {i: ("", f"text {i}") for i in "pabc"}, {"q": "question"})
    mining = write_mining(tmp_path / "m", [Mined("q", "p", ["a", {"negative_id": "b", **broken}, "c"])])
    result = export("flagembedding", mining, dataset, tmp_path / "fe")
    assert result.why.startswith("no scores")
    assert reason in result.why
    (row,) = flagembedding_rows(tmp_path / "fe", tmp_path / "cache", 3, distillation=False)
    assert "pos_scores" not in row["line"]
    for name in ("tevatron", "nemo"):
        export(name, mining, dataset, tmp_path / name)
        text = (tmp_path / name / FORMATS[name].main).read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert read_back(name, tmp_path / name, dataset) == Counter({("q", "p", ("a", "b", "c")): 1})


def test_tevatron_trains_in_every_epoch(world: World, tmp_path: Path) -> None:
    mining, dataset, samples = world
    export("tevatron", mining, dataset, tmp_path / "out")
    for epoch in (0, 1):
        rows = tevatron_rows(tmp_path / "out" / "train.jsonl", tmp_path / "cache", group_size=3, epoch=epoch)
        assert [len(row["passages"]) for row in rows] == [3] * mined(samples).total()
        assert all(row["passages"][0] == text_of(dataset)[row["group"]["positive_passages"][0]["docid"]] for row in rows)


def test_nemo_keeps_scores_and_the_whole_corpus(world: World, tmp_path: Path) -> None:
    mining, dataset, _ = world
    export("nemo", mining, dataset, tmp_path / "out")
    rows = nemo_rows(tmp_path / "out" / "train.json", tmp_path / "cache", group_size=5)
    assert rows[0]["item"]["pos_doc"][0]["score"] == pytest.approx(0.8)
    assert all(document["score"] == pytest.approx(0.7, abs=0.03) for row in rows for document in row["item"]["neg_doc"])
    assert pq.read_table(tmp_path / "out" / "corpus" / "train.parquet")["id"].to_pylist() == dataset.document_ids.tolist()
    shutil.move(tmp_path / "out", tmp_path / "moved elsewhere")
    assert nemo_rows(tmp_path / "moved elsewhere" / "train.json", tmp_path / "cache", group_size=5) == rows


def test_a_positive_of_several_teachers_has_no_one_score(tmp_path: Path) -> None:
    negatives = ["a", {"negative_id": "b", "teacher": "bm25", "score_kind": "bm25"}]  # 0.8 is the positive's score of both
    mining = write_mining(tmp_path / "mining", [Mined("q", "p", negatives)])
    dataset = write_dataset(tmp_path / "dataset", {i: ("", i) for i in "abp"}, {"q": "query"})
    export("nemo", mining, dataset, tmp_path / "nemo")
    (entry,) = json.loads((tmp_path / "nemo" / "train.json").read_text())["data"]
    assert entry["pos_doc"] == [{"id": "p", "score": None}]
    export("labeled-pair", mining, dataset, tmp_path / "pairs")
    assert pq.read_table(tmp_path / "pairs" / "ids.parquet")["score"].to_pylist()[0] is None


def test_a_trec_run_is_read_by_ir_measures(world: World, tmp_path: Path) -> None:
    mining, dataset, samples = world
    result = export("trec", mining, dataset, tmp_path / "out.trec")
    plain = {i for i in ODD_IDS if len(i.split()) == 1}
    expected = {(s.query_id, i) for s in samples for i in negative_ids(s) if {s.query_id, i} <= plain}
    run = list(ir_measures.read_trec_run(str(tmp_path / "out.trec")))
    assert {(row.query_id, row.doc_id) for row in run} == expected
    assert len(run) == result.rows == len(expected)
    triples = sum(len(s.negatives) for s in samples)
    assert result.skipped == triples - result.rows + 1
    assert "white space" in result.why
    qrels = [ir_measures.Qrel(query, document, 1) for query, document in expected]
    assert ir_measures.calc_aggregate([ir_measures.AP], qrels, run)[ir_measures.AP] == pytest.approx(1.0)


def test_a_trec_run_of_several_teachers_ranks_by_rank(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", {i: ("", i) for i in "pabc"}, {"q": "question"})
    bm25 = {"negative_id": "b", "teacher": "bm25", "score_kind": "bm25", "negative_score": 31.0, "rank": 4}
    filler = {"negative_id": "c", "rank": None, "reason": "random"}
    mining = write_mining(tmp_path / "m", [Mined("q", "p", [{"negative_id": "a", "rank": 2}, bm25, filler])])
    result = export("trec", mining, dataset, tmp_path / "x.run")
    run = [(row.doc_id, row.score) for row in ir_measures.read_trec_run(str(result.path))]
    assert run == [("a", 0.5), ("b", 0.25), ("c", 0.0)]


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_run_is_an_empty_export(tmp_path: Path, name: str) -> None:
    dataset = write_dataset(tmp_path / "d", {"p": ("", "text")}, {"q": "question"})
    result = export(name, write_mining(tmp_path / "m", [Mined("q", "p", [])]), dataset, tmp_path / "out")
    assert result.rows == 0
    assert result.skipped == (0 if name == "parquet" else 1)


def test_ids_that_the_data_set_lacks_are_an_error(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", {"p": ("", "text")}, {"q": "question"})
    for sample, what in ((Mined("q", "p", ["zz"]), "document 'zz'"), (Mined("a", "p", ["p"]), "query 'a'")):
        with pytest.raises(ArtifactError, match=f"data set odd has no {what}"):
            export("triplet", write_mining(tmp_path / "m", [sample]), dataset, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_triples_out_of_order_are_an_error(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", {i: ("", i) for i in "pabc"}, {"q": "question", "r": "other"})
    mining = write_mining(tmp_path / "m", [Mined("q", "p", ["a"]), Mined("r", "p", ["b", "c"])])
    table = pq.read_table(mining / "triples.parquet")
    for order in ([1, 2, 0], [0, 2, 1], [0, 1, 1]):
        pq.write_table(table.take(order), mining / "triples.parquet")
        with pytest.raises(ArtifactError, match="not ordered"):
            export("triplet", mining, dataset, tmp_path / "out")
