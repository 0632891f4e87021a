"""The whole pipeline: documents, queries and labels in, a better retriever and the proof of it out."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute, resolve_home
from flows.summary import (
    flow_run_id,
    metrics_json,
    mining_json,
    mining_table,
    mlflow_link,
    score_table,
    stage_table,
    stages_json,
)
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.pipeline import PipelineConfig, plan_run
from tasks.checks import check_leakage, compare_json
from tasks.mine import add_to_database
from tasks.tracking import promote, track_evaluation, track_training


@flow(name="nv-retriever", flow_run_name="{config.dataset.source} {config.mining.rule}")
def pipeline(config: PipelineConfig = PipelineConfig(), home: str | None = None) -> dict[str, Any]:  # noqa: B008
    """Mine hard negatives, train a student on them, and compare it with its base and with BM25.

    Args:
        config: what to do; every field has a default that works.
        home: folder of artifacts, database and tracking; NVR_HOME or .nvr by default.
    """
    home = resolve_home(home)
    plan = plan_run(config)
    dataset = plan.checkpoint.dataset
    reports = execute([dataset], home, config.runtime)
    leakage = check_leakage(dataset, config.split, dataset, config.evaluation.split, home, config.leakage)
    reports = execute([plan.checkpoint, plan.base, plan.bm25, plan.trained], home, config.runtime, done=reports)
    add_to_database(plan.checkpoint.mining, home)
    mlflow_run = track_training(plan.checkpoint, home)
    for spec in (plan.base, plan.bm25, plan.trained):
        track_evaluation(spec, home)
    systems = {spec.system: metrics_json(spec, home) for spec in (plan.base, plan.bm25, plan.trained)}
    difference = compare_json(plan.base, plan.trained, home, config.seed)
    if difference["ci95"][0] > 0:
        promote(plan.checkpoint, home)
    stage_table(reports)
    mining_table(plan.checkpoint.mining, home)
    score_table(systems, config.dataset.source, difference)
    mlflow_link(mlflow_run, home)
    return {
        "stages": stages_json(reports),
        "mining": mining_json(plan.checkpoint.mining, home),
        "checkpoint": str(ArtifactStore(home).open(plan.checkpoint.ref) / "model"),
        "evaluation": {**systems, "difference": difference},
        "leakage": leakage,
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
