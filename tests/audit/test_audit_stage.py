import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nv_retriever.audit.audit import AuditResult, audit
from nv_retriever.audit.build import write_audit
from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.duplicates import count_duplicates
from nv_retriever.audit.ranked import Table
from nv_retriever.audit.report import judged_table, page
from nv_retriever.audit.samples import Samples, labelled_of
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import GateError, InputError
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Reason
from tasks.checks import check_false_negatives

N_QUERIES, N_DOCUMENTS = 40, 120


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Queries with three positives each, one exact copy of a positive, one judged negative a query, one train query."""
    source, target = tmp_path_factory.mktemp("beir"), tmp_path_factory.mktemp("dataset")
    (source / "qrels").mkdir()
    (source / "judged_nonrelevant").mkdir()
    words = [f"w{i} x{i * 7 % 13} y{i * 5 % 17} z{i}" for i in range(N_DOCUMENTS)]
    words[119] = words[0]
    _jsonl(source / "corpus.jsonl", [{"_id": f"d{i:03d}", "title": "", "text": t} for i, t in enumerate(words)])
    _jsonl(source / "queries.jsonl", [{"_id": f"q{i:02d}", "text": f"what is w{i}?"} for i in range(N_QUERIES + 1)])
    lines = [f"q{i:02d}\td{(3 * i + j) % N_DOCUMENTS:03d}\t1" for i in range(N_QUERIES) for j in range(3)]
    _qrels(source / "qrels" / "test.tsv", lines)
    _qrels(source / "qrels" / "train.tsv", [f"q{N_QUERIES}\td005\t1"])
    judged = [f"q{i:02d}\td{(3 * i + 50) % N_DOCUMENTS:03d}\t0" for i in range(N_QUERIES)]
    _qrels(source / "judged_nonrelevant" / "test.tsv", judged)
    write_dataset(target, DatasetConfig(source=str(source)))
    return Dataset.open(target)


def _jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def _qrels(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")


def table(dataset: Dataset, split: str = "test", depth: int = 60, kind: str = "cosine", seed: int = 0) -> Candidates:
    """A teacher that gives positives a higher score than others, with noise."""
    generator = np.random.default_rng(seed)
    rows = dataset.query_rows(split)
    scores = generator.normal(0.3, 0.1, size=(len(rows), dataset.n_documents))
    positives = dataset.positives(split)
    at = np.searchsorted(rows, positives.query_rows)
    scores[at, positives.document_rows] += 0.3
    scores = scores.astype(np.float32)
    exclusions = build_exclusions(dataset, split)
    queries = np.repeat(np.arange(len(rows)), np.diff(exclusions.offsets))
    allowed = scores.astype(np.float64)
    allowed[queries, exclusions.documents] = -np.inf
    order = np.lexsort((np.broadcast_to(np.arange(dataset.n_documents), scores.shape), -allowed), axis=1)[:, :depth]
    best = np.take_along_axis(allowed, order, axis=1)
    return Candidates.from_arrays(
        np.where(np.isfinite(best), order, -1).astype(np.int32),
        np.where(np.isfinite(best), best, np.nan).astype(np.float32),
        exclusions,
        scores[queries, exclusions.documents],
        exclusions.reasons == Reason.POSITIVE,
        teacher="toy",
        score_kind=kind,
        n_documents=dataset.n_documents,
    )


@pytest.fixture(scope="module")
def result(dataset: Dataset) -> AuditResult:
    return audit(dataset, "test", [table(dataset)], AuditConfig(resamples=200))


def test_positive_aware_rules_remove_false_negatives_of_naive_top_k(result: AuditResult) -> None:
    rows = {row.rule: row for row in result.rows}
    assert rows["topk"].samples == 120
    assert rows["topk"].negatives == 480
    assert rows["topk"].rate > 0.3
    assert rows["topk-percpos(0.5)"].rate < 0.1
    assert rows["topk-percpos(0.5)"].fewer > 0.7
    rates = [row.rate for row in result.rows if row.rule.startswith("topk-marginpos")]
    assert rates[0] > rates[2] > rates[4]
    assert result.recommended in rows
    assert rows[result.recommended].rate_high <= 0.1
    assert rows[result.recommended].aware


def test_calibration_keeps_out_the_share_that_it_says(result: AuditResult) -> None:
    half = next(setting for setting in result.teachers[0].calibration if setting.share == 0.5)
    assert -0.1 < half.margin < 0.1
    assert 0.8 < half.percentage < 1.2
    assert half.margin_drop < 0.2


def test_a_percentage_is_calibrated_only_where_percentages_have_a_meaning(dataset: Dataset) -> None:
    logits = audit(dataset, "test", [table(dataset, kind="logit")], AuditConfig(resamples=100, near_duplicates=None))
    zeros = replace(table(dataset, kind="bm25"), excluded=replace(table(dataset).excluded, scores=np.zeros(122, np.float32)))
    without = audit(dataset, "test", [zeros], AuditConfig(resamples=100, near_duplicates=None))
    for result in (logits, without):
        assert all(np.isfinite(one.margin) and np.isnan(one.percentage) for one in result.teachers[0].calibration)
        assert "nan" not in page(result).markdown()


def test_nothing_is_calibrated_on_fewer_queries_than_rates_are_measured_on(dataset: Dataset) -> None:
    few = audit(dataset, "test", [table(dataset)], AuditConfig(min_queries=N_QUERIES + 1, resamples=100))
    assert few.teachers[0].calibration == []


def test_a_rule_that_mines_nothing_judged_has_no_share_of_false_ones(result: AuditResult) -> None:
    teacher = result.teachers[0]
    nothing = replace(teacher, agreement=[replace(teacher.agreement[0], mined_nonrelevant=0, mined_relevant=0)])
    assert judged_table(nothing).texts()[0][-1] == "–"


def test_the_page_says_how_sure_its_intervals_are(result: AuditResult) -> None:
    assert "Intervals (95 %)" in page(result).markdown()
    assert "Intervals (80 %)" in page(replace(result, config=AuditConfig(confidence=0.8))).markdown()


def test_judged_negatives_are_kept_and_hidden_positives_rejected(result: AuditResult) -> None:
    teacher = result.teachers[0]
    rows = {one.rule: one for one in teacher.agreement}
    assert rows["topk"].nonrelevant_kept == 1
    assert rows["topk"].relevant_rejected == 0
    strict = rows["topk-percpos(0.8)"]
    assert strict.nonrelevant_kept > 0.8
    assert strict.relevant_rejected > 0.7
    assert strict.mined_relevant < rows["topk"].mined_relevant
    share, pairs = teacher.separation
    assert share > 0.9
    assert pairs == 120


@pytest.mark.parametrize("depth", [5, 30, 120])
def test_a_teacher_that_guesses_separates_as_chance_does_however_short_its_table(dataset: Dataset, depth: int) -> None:
    generator = np.random.default_rng(3)
    one = table(dataset, depth=N_DOCUMENTS)
    guessed = np.where(one.documents < 0, np.nan, generator.normal(size=one.documents.shape)).astype(np.float32)
    order = np.argsort(-guessed, axis=1)[:, :depth]
    documents, scores = (np.take_along_axis(values, order, axis=1) for values in (one.documents, guessed))
    labelled = replace(one.excluded, scores=generator.normal(size=len(one.excluded)).astype(np.float32))
    one = replace(one, documents=documents, scores=scores, excluded=labelled)
    found = audit(dataset, "test", [one], AuditConfig(resamples=100, near_duplicates=None)).teachers[0].separation
    assert 0.4 < found[0] < 0.6 and found[1] == 120


def test_duplicates_and_copies_are_counted(dataset: Dataset, result: AuditResult) -> None:
    found = result.duplicates
    assert (found.duplicate_documents, found.query_copies, found.repeated_queries) == (2, 0, 0)
    assert found.excluded["positive"] == 120
    assert found.excluded["duplicate"] == 2
    assert found.leakage["train"] == {"queries": 0, "positives": 1}


def test_histograms_count_every_candidate_once(dataset: Dataset, result: AuditResult) -> None:
    for one in result.teachers[0].histograms:
        assert one.counts["positives"].sum() == 120
        assert one.counts["mined"].sum() == 480
        assert sum(one.counts[name].sum() for name in ("mined", "kept", "rejected")) == 120 * 60


def test_single_positive_split_falls_back_and_says_so(dataset: Dataset) -> None:
    config = AuditConfig(resamples=200, rule="topk-abs(0.7)", near_duplicates=None)
    result = audit(dataset, "train", [table(dataset, "train", kind="bm25")], config)
    teacher = result.teachers[0]
    assert not teacher.recommendation.measured
    assert "0 queries" in teacher.recommendation.reason
    assert teacher.rows[0].samples == 1
    assert teacher.rows[0].false_negatives is None
    assert teacher.skipped == ("topk-abs(0.7)",)
    assert "toy" in page(result).html()


def test_the_stage_writes_json_of_the_contract_and_one_page_without_addresses(dataset: Dataset, tmp_path: Path) -> None:
    content = write_audit(tmp_path, dataset, "test", [table(dataset), table(dataset, kind="bm25", seed=1)])
    assert json.loads((tmp_path / "audit.json").read_text()) == content
    assert {"samples", "rows", "recommended", "report"} <= content.keys()
    assert {"rule", "false_negatives", "negatives", "rate", "hardness", "coverage"} <= content["rows"][0].keys()
    html = (tmp_path / content["report"]).read_text()
    assert "<svg" in html
    assert "src=" not in html
    assert "| topk |" in (tmp_path / "table.md").read_text()


def test_the_gate_fails_over_the_rate_and_only_then(dataset: Dataset) -> None:
    content = audit(dataset, "test", [table(dataset)], AuditConfig(rule="topk", resamples=100)).to_json()
    with pytest.raises(GateError, match="the negatives that topk mines with toy are false"):
        check_false_negatives(content, "topk", 0.05, Path("report.html"))
    check_false_negatives(content, "topk", 0.99, Path("report.html"))
    check_false_negatives(content, "topk", None, Path("report.html"))


def test_the_gate_names_what_is_recommended_for_the_teacher_that_failed(dataset: Dataset) -> None:
    content = audit(dataset, "test", [table(dataset)], AuditConfig(rule="topk", resamples=100)).to_json()
    first, row = content["teachers"][0], next(row for row in content["rows"] if row["rule"] == "topk")
    good = {**first, "teacher": "good", "recommendation": {**first["recommendation"], "rule": "topk-marginpos(0)"}}
    two = {**content, "recommended": "topk-marginpos(0)", "teachers": [good, first]}
    two["rows"] = [{**row, "teacher": "good", "rate": 0.0}, row]
    with pytest.raises(GateError, match=re.escape(f"recommended: {first['recommendation']['rule']}; see")):
        check_false_negatives(two, "topk", 0.05, Path("report.html"))


def test_what_was_not_measured_is_no_rate_of_zero_and_no_gate_lets_it_pass(dataset: Dataset) -> None:
    few = audit(dataset, "test", [table(dataset)], AuditConfig(rule="topk", min_queries=N_QUERIES + 1, resamples=100))
    assert {(row.false_negatives, row.to_json()["rate"]) for row in few.rows} == {(None, None)}
    assert all(row.negatives and row.coverage for row in few.rows)
    assert "– / " in page(few).html()
    check_false_negatives(few.to_json(), "topk", None, Path("report.html"))
    with pytest.raises(
        GateError, match=r"topk with toy are false was not measured: only 40 queries [^,]*; see report.html$"
    ):
        check_false_negatives(few.to_json(), "topk", 0.5, Path("report.html"))


def test_no_gate_passes_a_rule_that_has_no_meaning_for_a_teacher(dataset: Dataset) -> None:
    config = AuditConfig(rule="topk-abs(0.7)", resamples=100, near_duplicates=None)
    content = audit(dataset, "test", [table(dataset), table(dataset, kind="bm25", seed=1)], config).to_json()
    with pytest.raises(GateError, match=r"topk-abs\(0.7\) with toy are false was not measured: .* bm25 scores"):
        check_false_negatives(content, "topk-abs(0.7)", 0.99, Path("report.html"))


def test_a_percentile_is_that_of_the_run_not_of_the_samples_that_are_looked_at(dataset: Dataset) -> None:
    one = table(dataset)
    rule = parse_rule("topk-percentile(0.3)")
    run = one.split_positives.scores
    wanted = dict(zip(run.tolist(), rule.limits(run).tolist(), strict=True))
    looked_at = np.sort(run)[-7:]
    audited = Table.of(one)
    samples = Samples(*(np.zeros(7, np.int32) for _ in range(3)), looked_at)
    assert audited.limits(rule, samples).tolist() == [wanted[score] for score in looked_at.tolist()]
    assert rule.limits(looked_at).tolist() != audited.limits(rule, samples).tolist()


@pytest.mark.parametrize(("excluded", "hidden"), [(True, ["2", "3"]), (False, ["1", "2", "3"])])
def test_a_positive_with_the_query_s_id_comes_back_only_where_it_can_be_mined(
    tmp_path: Path, excluded: bool, hidden
) -> None:
    (tmp_path / "qrels").mkdir()
    _jsonl(tmp_path / "corpus.jsonl", [{"_id": str(i), "title": "", "text": f"passage {i}"} for i in range(9)])
    _jsonl(tmp_path / "queries.jsonl", [{"_id": "1", "text": "what?"}])
    _qrels(tmp_path / "qrels" / "test.tsv", [f"1\t{i}\t1" for i in (1, 2, 3)])
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(tmp_path)))
    small = Dataset.open(tmp_path / "dataset")
    labelled = labelled_of(small, "test", replace(table(small, depth=5), info={"exclude_same_id": excluded}))
    assert small.document_ids[labelled.documents].tolist() == hidden


@pytest.mark.parametrize("positive", ["a", "b"])
def test_a_near_duplicate_of_a_positive_counts_whichever_copy_is_labelled(tmp_path: Path, positive: str) -> None:
    (tmp_path / "qrels").mkdir()
    words = " ".join(f"word{i}" for i in range(80))
    texts = {"a": words, "b": words, "c": f"{words} more", **{f"x{i}": f"other {i} text {i * 7}" for i in range(6)}}
    _jsonl(tmp_path / "corpus.jsonl", [{"_id": name, "title": "", "text": text} for name, text in texts.items()])
    _jsonl(tmp_path / "queries.jsonl", [{"_id": "q", "text": "what?"}])
    _qrels(tmp_path / "qrels" / "test.tsv", [f"q\t{positive}\t1"])
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(tmp_path)))
    small = Dataset.open(tmp_path / "dataset")
    exclusions = build_exclusions(small, "test", True)
    assert count_duplicates(small, "test", exclusions, 0.8).unknown_near_duplicates == 1


def test_wrong_usage_is_an_input_error(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="candidate table"):
        audit(dataset, "test", [])
    with pytest.raises(ValueError, match="topk-nonsense"):
        audit(dataset, "test", [table(dataset)], AuditConfig(rules=("topk-nonsense",)))
