"""Checks between stages that can stop a run, and the comparison at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.errors import GateError, InputError
from nv_retriever.plan.stages import (
    CandidatesSpec,
    CheckpointSpec,
    DatasetSpec,
    EvaluationSpec,
    MiningSpec,
    Spec,
    TrainedSpec,
)
from nv_retriever.training.job import check_hardware
from tasks.opening import open_dataset


def check_splits(dataset: DatasetSpec, planned: Sequence[Spec], home: str) -> None:
    """Raise InputError where a data set lacks splits or hidden labels that are read, before anything is embedded."""
    from nv_retriever.mining.vetoes import check_hidden

    mined = {spec.split for spec in planned if isinstance(spec, CandidatesSpec) and spec.dataset == dataset}
    stopped = {
        spec.training.early_stopping.split
        for spec in planned
        if isinstance(spec, CheckpointSpec) and spec.dataset == dataset and spec.training.early_stopping
    }
    measured = {spec.evaluation.split for spec in planned if isinstance(spec, EvaluationSpec) and spec.dataset == dataset}
    found = open_dataset(dataset, ArtifactStore(home))
    for split in sorted(mined | measured):
        found.positives(split)
    for split in sorted(stopped - set(found.splits)):
        raise InputError("training.early_stopping.split", f"one of {', '.join(found.splits)}", repr(split))
    if any(isinstance(spec, MiningSpec) and spec.mining.oracle and spec.dataset == dataset for spec in planned):
        check_hidden(found)


def check_trainings(planned: Sequence[Spec], home: str, runtime: Runtime) -> None:
    """Raise InputError for a training that is still to be done and that this machine cannot do."""
    store = ArtifactStore(home)
    for spec in planned:
        if isinstance(spec, TrainedSpec) and not store.exists(spec.ref):
            check_hardware(spec.training, runtime)


def check_leakage(
    training: DatasetSpec, split: str, measured: EvaluationSpec, home: str, policy: Literal["fail", "allow"]
) -> dict[str, int]:
    """Return how much of the split that is measured is in the training split; raises GateError for leaked queries."""
    from nv_retriever.data.leakage import find_leakage

    store, measured_split = ArtifactStore(home), measured.evaluation.split
    dataset = open_dataset(measured.dataset, store)
    leakage = find_leakage(open_dataset(training, store), split, dataset, measured_split)
    if leakage and policy == "fail":
        first = dataset.query_ids[leakage.queries[0]]
        raise GateError(
            f"leakage between {training.config.source} {split} and {measured.dataset.config.source} {measured_split}: "
            f"{leakage}; a gain would be memory (first: query {first!r}). Remove them, or say `--set leakage=allow`"
        )
    return {"queries": len(leakage.queries), "positives": len(leakage.positives)}


def compare_json(base: EvaluationSpec, trained: EvaluationSpec, home: str, resamples: int, seed: int) -> dict[str, Any]:
    """Return difference, 95 % interval, p-value and verdict on the first metric, trained minus base, paired by query."""
    from nv_retriever.evaluation.compare import compare

    store = ArtifactStore(home)
    metric = trained.evaluation.metrics[0]
    result = compare(store.open(base.ref), store.open(trained.ref), metric, resamples, seed)
    interval = {"ci95": [result.low, result.high], "p": result.p, "queries": result.queries}
    return {metric: result.difference, **interval, "better": result.better}


def check_false_negatives(audit: dict[str, Any], rule: str, max_rate: float | None, report: Path) -> None:
    """Raise GateError when `rule`'s negatives are false more often than `max_rate` allows, or were not measured."""
    if max_rate is None:
        return
    for teacher in (teacher for teacher in audit["teachers"] if rule in teacher["skipped"]):
        why = f"it has no meaning for {teacher['score_kind']} scores"
        raise GateError(
            f"how many negatives of {rule} with {teacher['teacher']} are false was not measured: {why}; see {report}"
        )
    recommendations = {one["teacher"]: one["recommendation"] for one in audit["teachers"]}
    for row in (row for row in audit["rows"] if row["rule"] == rule):
        recommended = recommendations[row["teacher"]]
        if row["rate"] is None:
            why = recommended["reason"].partition(", so ")[0]  # what that means for the recommendation is on the page
            raise GateError(
                f"how many negatives of {rule} with {row['teacher']} are false was not measured: {why}; see {report}"
            )
        if row["rate"] > max_rate:
            raise GateError(
                f"{row['rate']:.2%} of the negatives that {rule} mines with {row['teacher']} are false, "
                f"at most {max_rate:.2%} are allowed; recommended: {recommended['rule']}; see {report}"
            )
