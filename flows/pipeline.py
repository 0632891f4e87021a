"""The whole pipeline: documents, queries and labels in, a better retriever and the proof of it out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run
from flows.summary import (
    flow_run_id,
    metrics_json,
    mining_table,
    minings_json,
    mlflow_link,
    score_table,
    stage_table,
    stages_json,
)
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.pipeline import minings, plan_run, trainings
from tasks.checks import check_leakage, compare_json
from tasks.mine import add_to_database
from tasks.tracking.champion import promote
from tasks.tracking.finished import track_evaluation
from tasks.tracking.training import track_training


@flow(name="nv-retriever", flow_run_name="{config.dataset.source} {config.mining.rule}")
def pipeline(config: PipelineConfig = PipelineConfig(), home: str | None = None) -> dict[str, Any]:  # noqa: B008
    """Mine hard negatives, train a student on them, and compare it with its base and with BM25.

    Args:
        config: what to do; every field has a default that works.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
    """
    home = home_of_run(home)
    plan = plan_run(config)
    mined = minings(plan.checkpoint)
    trained_on = {str(one.dataset.ref): one.dataset for one in mined}
    reports = execute([plan.trained.dataset, *trained_on.values()], home, config.runtime)
    found = [check_leakage(one, config.split, plan.trained, home, config.leakage) for one in trained_on.values()]
    leakage = {key: sum(one[key] for one in found) for key in ("queries", "positives")}
    reports = execute([plan.checkpoint, *plan.evaluations], home, config.runtime, done=reports)
    for one in mined:
        add_to_database(one, home)
    *_, mlflow_run = [track_training(spec, home, register=spec is plan.checkpoint) for spec in trainings(plan.checkpoint)]
    for spec in plan.evaluations:
        track_evaluation(spec, home)
    systems = {spec.system: metrics_json(spec, home) for spec in plan.evaluations}
    difference = compare_json(plan.base, plan.trained, home, config.evaluation.resamples, config.seed)
    promoted = difference["better"] and promote(plan.checkpoint, plan.trained, home)
    stage_table(reports)
    for one in mined:
        mining_table(one, home)
    score_table(systems, config.dataset.source, difference)
    mlflow_link(mlflow_run, home)
    return {
        "stages": stages_json(reports),
        "mining": minings_json(mined, home),
        "checkpoint": str(ArtifactStore(home).open(plan.checkpoint.ref) / "model"),
        "evaluation": {**systems, "difference": difference},
        "promoted": promoted,
        "leakage": leakage,
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
