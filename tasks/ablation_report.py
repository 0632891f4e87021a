"""From finished cells to the ablation's tables and report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json, write_json
from nv_retriever.fingerprint import fingerprint
from nv_retriever.plan.ablation import AblationConfig, CellSpec
from nv_retriever.plan.stages import AuditSpec, EvaluationSpec
from tasks.drift import negatives_by_sample
from tasks.opening import open_dataset

TITLES = {
    "methods": "Which method (the paper's table 3)",
    "selections": "Top-k or sampled (table 4)",
    "teachers": "Which teacher (table 1)",
    "ensembles": "Which ensemble of teachers (table 2)",
}


def write_ablation_report(
    config: AblationConfig,
    cells: list[CellSpec],
    audit: AuditSpec | None,
    references: Sequence[EvaluationSpec],
    home: str,
) -> dict[str, Any]:
    """Write the report, its tables and its cells below `reports/`, in a folder named by the study; return the places."""
    from nv_retriever.evaluation.ablation import overlaps
    from nv_retriever.evaluation.ablation_cells import write_cells
    from nv_retriever.evaluation.ablation_report import ablation_page

    store = ArtifactStore(home)
    folder = store.home / "reports" / f"ablation-{study_fingerprint(config, cells, audit, references)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    questions = [question_of(name, config, cells, audit, store) for name in dict.fromkeys(cell.question for cell in cells)]
    by_teacher = {
        cell.name: negatives_by_sample(cell.checkpoint.mining, store)
        for cell in cells
        if cell.question == "teachers" and cell.seed == config.seeds[0]
    }
    subtitle, scores = subtitle_of(config, cells, store), reference_scores(references, store)
    shared = overlaps(by_teacher)
    metric = config.pipeline.evaluation.metrics[0]
    page = ablation_page(questions, shared, subtitle=subtitle, metric=metric, references=scores)
    page.write(folder / "report.html")
    page.write_markdown(folder / "report.md")
    write_cells(folder / "cells.parquet", {question.title: question.ablation for question in questions})
    tables = {question.title: rows_json(question) for question in questions}
    write_json(folder / "tables.json", tables)
    rates = {question.title: dict(question.false_negatives) for question in questions}
    study = {"subtitle": subtitle, "references": scores, "false_negatives": rates, "overlaps": overlaps_json(shared)}
    write_json(folder / "study.json", study)
    return {"html": str(folder / "report.html"), "markdown": str(folder / "report.md"), "tables": tables}


def study_fingerprint(
    config: AblationConfig, cells: Sequence[CellSpec], audit: AuditSpec | None, references: Sequence[EvaluationSpec]
) -> str:
    """Return the fingerprint of all that a report shows: another data set, metric or baseline is another report."""
    shown = [
        [cell.question, cell.name, cell.seed, cell.checkpoint, [str(one.ref) for one in cell.evaluations]] for cell in cells
    ]
    return fingerprint([shown, config.baseline, audit, list(references)])


def subtitle_of(config: AblationConfig, cells: list[CellSpec], store: ArtifactStore) -> str:
    """Return what the students were trained on."""
    dataset, pipeline = config.pipeline.dataset, config.pipeline
    info = open_dataset(cells[0].checkpoint.dataset, store).info
    counts = info["splits"][pipeline.split]
    known = "" if dataset.known_positives is None else f", {info['hidden']:,} more positives hidden"
    trained = f"Trained on {info['name']} {pipeline.split}: {counts['queries']:,} queries"
    return f"{trained}, {counts['positives']:,} positives{known}, {info['documents']:,} documents"


def reference_scores(references: Sequence[EvaluationSpec], store: ArtifactStore) -> dict[str, dict[str, float]]:
    """Return {system: {data set: first metric}} of systems that were not trained here."""
    scores: dict[str, dict[str, float]] = {}
    for spec in references:
        found = read_json(store.open(spec.ref) / "evaluation.json")
        scores.setdefault(spec.system, {})[found["dataset"]] = found["metrics"][spec.evaluation.metrics[0]]
    return scores


def question_of(
    name: str, config: AblationConfig, cells: list[CellSpec], audit: AuditSpec | None, store: ArtifactStore
) -> Any:
    """Return one table's cells, with the paper's numbers (of its own metric) and the measured false negatives beside."""
    from nv_retriever.evaluation.ablation import Ablation, Cell
    from nv_retriever.evaluation.ablation_report import Question
    from nv_retriever.evaluation.paper_numbers import METRIC, of_question

    own, metric = [cell for cell in cells if cell.question == name], config.pipeline.evaluation.metrics[0]
    read = [
        Cell.of(store.open(evaluation.ref), cell.name, cell.name, cell.seed, metric)
        for cell in own
        for evaluation in cell.evaluations
    ]
    names = list(dict.fromkeys(cell.name for cell in own))
    counted = counted_false_negatives(own, store)
    audited = false_negative_rates(audit, store) if audit and name == "methods" else {}
    return Question(
        title=TITLES[name],
        ablation=Ablation(read, "teacher" if name == "teachers" else "method"),
        baseline=config.baseline if config.baseline in names else names[0],
        paper=of_question(name) if metric == METRIC else {},
        false_negatives=counted or audited,
        counted=bool(counted),
    )


def counted_false_negatives(cells: Sequence[CellSpec], store: ArtifactStore) -> dict[str, float]:
    """Return {name: share of its negatives, over all seeds, that are hidden positives}, where the data set hides labels."""
    from nv_retriever.evaluation.false_negatives import FalseNegatives, count_false_negatives

    if cells[0].checkpoint.dataset.config.known_positives is None:
        return {}
    dataset = open_dataset(cells[0].checkpoint.dataset, store)
    found: dict[str, FalseNegatives] = {}
    for cell in cells:
        one = count_false_negatives(dataset, store.open(cell.checkpoint.mining.ref))
        found[cell.name] = found.get(cell.name, FalseNegatives(0, 0)) + one
    return {name: one.rate for name, one in found.items() if one.rate is not None}


def false_negative_rates(audit: AuditSpec, store: ArtifactStore) -> dict[str, float]:
    """Return {rule: share of its negatives that are hidden positives}, of the first teacher."""
    rows = read_json(store.open(audit.ref) / "audit.json")["rows"]
    first = rows[0]["teacher"]
    return {row["rule"]: row["rate"] for row in rows if row["teacher"] == first and row["rate"] is not None}


def overlaps_json(overlaps: Mapping[tuple[str, str], float]) -> list[tuple[str, str, float | None]]:
    """Return the overlaps of teachers as JSON data, which has no NaN: two may have no sample with negatives in common."""
    return [(a, b, None if math.isnan(value) else value) for (a, b), value in overlaps.items()]


def rows_json(question: Any) -> list[dict[str, Any]]:
    """Return a table as JSON data."""
    return [
        {
            "name": row.name,
            "mean": row.estimate.mean,
            "ci95": [row.estimate.low, row.estimate.high],
            "difference": row.difference.mean if row.difference else None,
            "difference_ci95": [row.difference.low, row.difference.high] if row.difference else None,
            "p": row.p,
            "by_dataset": row.by_dataset,
            "false_negatives": question.false_negatives.get(row.name),
            "paper": question.paper.get(row.name),
        }
        for row in question.rows
    ]
