"""Carry out a plan: every specification once, in order, as its stage's cached task."""

from __future__ import annotations

from collections.abc import Sequence

from flows.cluster import Cluster
from flows.run_log import prepare_run_log
from nv_retriever.config import Runtime
from nv_retriever.plan.pipeline import ordered
from nv_retriever.plan.stages import (
    AuditSpec,
    BlendedCheckpointSpec,
    CandidatesSpec,
    CheckpointSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    LabelledSpec,
    MiningSpec,
    Spec,
    StudentSpec,
)
from tasks.audit import audit
from tasks.checks import check_splits, check_trainings
from tasks.embed import embed
from tasks.evaluate import evaluate
from tasks.index import index
from tasks.ingest import ingest
from tasks.mine import draw, mine
from tasks.stage import StageReport, StageTask, result_storage, run_stage
from tasks.train import make_student, train, train_stage

TASKS: dict[type[Spec], StageTask] = {
    DatasetSpec: ingest,
    EmbeddingSpec: embed,
    CandidatesSpec: index,
    MiningSpec: mine,
    LabelledSpec: draw,
    StudentSpec: make_student,
    CheckpointSpec: train,
    BlendedCheckpointSpec: train_stage,
    EvaluationSpec: evaluate,
    AuditSpec: audit,
}


prepare_run_log()


def execute(targets: Sequence[Spec], home: str, runtime: Runtime, done: Sequence[StageReport] = ()) -> list[StageReport]:
    """Carry out the targets and everything upstream of them that is not `done`; return all reports, in order."""
    storage = result_storage(home)
    reports = {report.artifact: report for report in done}
    planned = ordered(targets)
    check_trainings(planned, home, runtime)
    with Cluster(runtime, home) as cluster:
        for spec in planned:
            if str(spec.ref) not in reports:
                reports[str(spec.ref)] = run_stage(TASKS[type(spec)], spec, home, runtime, storage, cluster.prepare)
                cluster.tidy(spec)
            if isinstance(spec, DatasetSpec):
                check_splits(spec, planned, home)
    return list(reports.values())
