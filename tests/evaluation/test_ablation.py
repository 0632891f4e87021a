from __future__ import annotations

import math

import numpy as np
import pytest

from flows.settings import build_ablation, build_config
from nv_retriever import mine
from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.evaluation.ablation import Ablation, Cell, overlaps
from nv_retriever.evaluation.ablation_report import Question, ablation_page, datasets_table, results_table
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.evaluation.paper_numbers import METHODS
from nv_retriever.evaluation.seeds import mean_interval
from nv_retriever.mining.config import MiningConfig
from nv_retriever.plan.ablation import (
    PAPER_METHODS,
    meaningful,
    method_config,
    plan_ablation,
    plan_audit,
    plan_references,
)
from nv_retriever.plan.specifications import evaluation_spec
from nv_retriever.plan.stages import DatasetSpec, Location
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.names import score_kind
from tasks.ablation_report import overlaps_json, study_fingerprint

EFFECTS = {"topk": 0.0, "topk-shift(10)": 0.002, "topk-percpos(0.95)": 0.05}


def cells(methods=EFFECTS, seeds=3, datasets=(("scifact", 80), ("cisi", 40))):
    generator = np.random.default_rng(0)
    for dataset, count in datasets:
        ids = tuple(f"{dataset}-{i}" for i in range(count))
        hard = generator.normal(0.5, 0.2, count)
        for seed in range(seeds):
            for method, effect in methods.items():
                values = hard + effect + generator.normal(0, 0.001) + generator.normal(0, 0.05, count)
                yield Cell(method, "minilm", seed, dataset, ids, values)


def test_rows_are_means_over_data_sets_with_paired_tests():
    ablation = Ablation(cells())
    base, shifted, best = ablation.rows("topk")
    assert base.difference is None and base.p is None
    assert best.estimate.mean == pytest.approx(np.mean(list(best.by_dataset.values())))
    assert best.difference.mean == pytest.approx(best.estimate.mean - base.estimate.mean)
    assert best.difference.standard_error < best.estimate.standard_error / 2  # the pairing pays
    assert best.p < 0.05
    alone = mean_interval(ablation.differences("topk-percpos(0.95)", "topk"))
    assert best.p == pytest.approx(2 * alone.p)  # Holm over two comparisons
    assert shifted.p == pytest.approx(max(shifted.difference.p, best.p))
    assert best.difference.p == pytest.approx(alone.p)


def test_order_of_the_cells_does_not_matter():
    some = list(cells())
    one, other = Ablation(some), Ablation(reversed(some))
    rows = {row.name: row for row in other.rows("topk")}
    for row in one.rows("topk"):
        assert row.estimate.mean == pytest.approx(rows[row.name].estimate.mean, abs=1e-15)
        assert row.p == pytest.approx(rows[row.name].p) if row.p else rows[row.name].p is None


def test_incomplete_studies_are_refused():
    some = list(cells())
    with pytest.raises(InputError, match="seed 2, cisi"):
        Ablation(some[:-1])
    with pytest.raises(InputError, match="two for"):
        Ablation([*some, some[0]])
    with pytest.raises(InputError, match="at least one"):
        Ablation([])
    other = Cell("topk", "minilm", 0, "scifact", ("x",), np.zeros(1))
    with pytest.raises(InputError, match="same queries"):
        Ablation([other, *some[1:]])
    with pytest.raises(InputError, match="baseline among"):
        Ablation(some).rows("nothing")


def test_power_says_what_is_drowned_in_noise():
    small, large = Ablation(cells()).power("topk")
    assert small.detectable > abs(small.difference)
    assert small.queries is None or small.queries > 120
    assert large.detectable < large.difference
    assert large.queries < 120
    with pytest.raises(InputError, match="2 seeds"):
        Ablation(cells(seeds=1)).power("topk")


def test_a_study_of_one_query_is_reported_without_a_power_analysis():
    """`nvr ablate --limit 1` fails no more after its last training."""
    page = ablation_page([question(seeds=2, datasets=(("scifact", 1),))])
    assert "Table 3" in page.markdown() and "Power analysis" not in page.markdown()


def test_overlaps():
    found = overlaps({"a": {"q": {"1", "2"}}, "b": {"q": {"2", "3"}}, "c": {"r": {"1"}}})
    assert found["a", "b"] == pytest.approx(1 / 3)
    assert math.isnan(found["a", "c"])
    assert overlaps_json(found) == [("a", "b", pytest.approx(1 / 3)), ("a", "c", None), ("b", "c", None)]


def question(**more):
    rates = {"topk": 0.31, "topk-percpos(0.95)": 0.12}
    return Question("Table 3: which method", Ablation(cells(**more)), "topk", METHODS, rates)


def test_tables_have_ours_and_the_papers_numbers():
    table = results_table(question())
    assert table.columns[0] == "method"
    assert table.columns[-1] == "paper"
    row = dict(zip(table.columns, table.rows[2], strict=True))
    assert (row["paper"], row["false negatives (audit)"]) == ("0.5856 (+0.0449)", "12.0 %")
    assert dict(zip(table.columns, table.rows[1], strict=True))["false negatives (audit)"] is None
    assert len(datasets_table(question()).columns) == 4


def test_equal_best_methods_are_all_stressed():
    some = [Cell(method, "minilm", 0, "scifact", ("a", "b"), np.array([0.25, 0.5])) for method in ("topk", "random")]
    equal = Question("", Ablation(some), "topk")
    assert set(results_table(equal).strong) == {(0, 1), (1, 1)}
    assert set(datasets_table(equal).strong) == {(0, 1), (1, 1), (0, 2), (1, 2)}


def test_the_report_is_complete_in_both_forms(tmp_path):
    page = ablation_page([question()], {("minilm", "bm25"): 0.12}, findings=["`topk-percpos(0.95)` is better than `topk`."])
    text = page.write(tmp_path / "report.html").read_text()
    assert text.count("<svg") == 2
    markdown = page.write_markdown(tmp_path / "report.md").read_text()
    assert "| topk-percpos(0.95) |" in markdown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report-1.svg", "report-2.svg", "report.html", "report.md"]
    one_seed = ablation_page([question(seeds=1, datasets=(("scifact", 30),))])
    assert "Power analysis" not in one_seed.markdown()


def study(settings=None, **ablation):
    return build_ablation(build_config(settings or {}, "test"), ablation)


@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_random_negatives_are_drawn_whatever_the_scores_are(score):
    generator = np.random.default_rng(0)
    queries, documents = (generator.normal(size=(n, 4)).astype(np.float32) for n in (6, 40))
    if score == "cosine":
        queries, documents = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (queries, documents))
        documents[7] = -queries[0]  # the lowest score that there is
    settings = method_config(MiningConfig(), "random").model_dump(include={"rule", "shortfall"})
    found = mine(queries, documents, {row: row for row in range(6)}, negatives=4, **settings)
    assert len(found) and set(found.table.column("reason").to_pylist()) == {"random"}
    assert (found.negative_score < found.positive_score).all()
    if score == "cosine":
        before = mine(
            queries, documents, {row: row for row in range(6)}, negatives=4, rule="topk-abs(-1)", shortfall="random"
        )
        names = [name for name in found.table.column_names if name not in ("run_id", "limit_score")]
        assert found.table.select(names).equals(before.table.select(names))


def test_default_methods_without_a_meaning_for_the_teachers_scores_are_left_out(caplog):
    bm25 = {"teachers": [{"name": "bm25"}]}
    assert meaningful(study(bm25)).methods == tuple(name for name in PAPER_METHODS if name != "topk-abs(0.7)")
    assert "bm25 scores of bm25: topk-abs(0.7)" in caplog.text
    with pytest.raises(InputError, match=r"topk-abs\(0.7\): expected scores of kind cosine, found bm25"):
        plan_ablation(meaningful(study(bm25, methods=["topk", "topk-abs(0.7)"])))
    with pytest.raises(InputError, match=r"topk-abs\(0.6\): expected scores of kind cosine, found bm25"):
        two = [{"name": "minilm"}, {"name": "bm25"}]
        plan_ablation(meaningful(study({"mining": {"rule": "topk-abs(0.6)"}}, methods=["topk"], teachers=two)))
    assert meaningful(study()) == study()


def test_the_kind_of_a_teachers_scores_is_known_before_anything_runs(tmp_path):
    for part in ("documents", "queries"):
        np.save(tmp_path / f"{part}.npy", np.eye(2, dtype=np.float32))
        (tmp_path / f"{part}.txt").write_text("a\nb\n")
    dots = EncoderConfig(normalize=False)
    found = [
        score_kind(TeacherConfig(name=name, encoder=encoder))
        for name in ("minilm", "endpoint:http://127.0.0.1:9#m", f"vectors:{tmp_path}", "bm25", "cross-encoder:any")
        for encoder in (EncoderConfig(), dots)
    ]
    assert found == ["cosine", "dot", "cosine", "dot", "cosine", "dot", "bm25", "bm25", "logit", "logit"]


@pytest.mark.parametrize(
    "twice",
    [
        {"methods": ["topk-percpos(0.95)", "topk-percpos(0.950)"]},
        {"selections": ["top(4)", "top( 4 )"]},
        {"seeds": [0, 1, 0]},
        {"teachers": [{"name": "/runs/a/model"}, {"name": "/runs/b/model"}]},
        {"ensembles": ["cross-sample", "cross-sample"]},
    ],
)
def test_equal_names_in_a_study_are_refused_before_anything_runs(twice):
    (name,) = twice
    with pytest.raises(InputError, match=f"ablation.{name}: expected every name once"):
        study(**twice)


def test_a_baseline_that_the_study_does_not_compare_is_refused():
    """The first method would take its place without a word."""
    for name in ("topk-percpos(.95)", "topk-prcpos(0.95)", "single"):
        with pytest.raises(InputError, match=r"ablation.baseline: expected one of topk, topk-percpos\(0.95\), top\(4\)"):
            study(methods=["topk", "topk-percpos(.95)"], baseline=name)
    for name in ("topk-percpos(0.95)", "top(4)", "bm25"):
        teachers = [{"name": "minilm"}, {"name": "bm25"}]
        assert study(methods=["topk", "topk-percpos(.95)"], teachers=teachers, baseline=name).baseline == name


def test_a_benchmark_is_measured_by_its_own_rules_wherever_it_is_named():
    def spec(source: str, **evaluation: object) -> EvaluationConfig:
        dataset = DatasetSpec(config=DatasetConfig(source=source), digest="", location=Location(source=source))
        pipeline = build_config({"evaluation": evaluation}, "test")
        return evaluation_spec(pipeline, dataset, "bm25", TeacherConfig(name="bm25")).evaluation

    assert spec("msmarco").split == "dev" and spec("quora").ignore_identical_ids is True
    assert spec("msmarco", split="test").split == "test"
    assert spec("stdlib") == EvaluationConfig(split="test")


def test_a_report_is_named_by_all_that_it_shows(write_beir, tmp_path):
    folders = [write_beir(tmp_path / name) for name in ("animals", "others")]
    base = study({"dataset": {"source": str(folders[0])}}, methods=["topk", "random"], selections=[])
    elsewhere = base.model_copy(update={"evaluate_on": (DatasetConfig(source=str(folders[1])),)})
    pipeline = base.pipeline.model_copy(update={"evaluation": EvaluationConfig(metrics=("R@5",))})
    metric = base.model_copy(update={"pipeline": pipeline})
    baseline = base.model_copy(update={"baseline": "random"})
    bare = base.model_copy(update={"references": False})
    unaudited = base.model_copy(update={"audited": False})
    names = [
        study_fingerprint(one, plan_ablation(one), plan_audit(one), plan_references(one))
        for one in (base, elsewhere, metric, baseline, bare, unaudited, base.model_copy())
    ]
    assert names[0] == names[-1] and len(set(names)) == 6


def test_data_sets_of_one_name_are_refused_by_the_plan(tmp_path, write_beir):
    first, second = (write_beir(tmp_path / parent / "animals") for parent in "ab")
    with pytest.raises(InputError, match="animals more than once"):
        plan_ablation(study({"dataset": {"source": str(first)}}, evaluate_on=[{"source": str(second)}]))
    second.rename(tmp_path / "others")
    assert plan_ablation(study({"dataset": {"source": str(first)}}, evaluate_on=[{"source": str(tmp_path / "others")}]))
