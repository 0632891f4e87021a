"""Iterative mining: train, mine again with the student as teacher, train again; how far the negatives drift is tracked."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run
from flows.summary import flow_run_id, mining_json, mlflow_link, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.iteration import plan_rounds
from tasks.drift import negatives_drift
from tasks.mine import add_to_database, run_id
from tasks.stage import StageReport
from tasks.tracking.study import track_round
from tasks.tracking.training import track_training


@flow(name="nv-retriever-rounds", flow_run_name="{rounds} rounds on {config.dataset.source} {config.mining.rule}")
def rounds_of_training(
    config: PipelineConfig = PipelineConfig(),  # noqa: B008
    home: str | None = None,
    rounds: int = 2,
) -> dict[str, Any]:
    """Train the student, mine with it, train again.

    Args:
        config: what to do; evaluation settings are not used.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
        rounds: trainings in all; the last student is registered.
    """
    home = home_of_run(home)
    specs = plan_rounds(config, rounds)
    reports: list[StageReport] = []
    done: list[dict[str, Any]] = []
    for number, spec in enumerate(specs, 1):
        reports = execute([spec], home, config.runtime, done=reports)
        add_to_database(spec.mining, home)
        mlflow_run = track_training(spec, home, register=number == rounds)
        drift = negatives_drift(specs[number - 2].mining, spec.mining, home) if number > 1 else None
        track_round(spec, number, drift, home)
        checkpoint = str(ArtifactStore(home).open(spec.ref) / "model")
        done.append({"round": number, "checkpoint": checkpoint, "mining_run": run_id(spec.mining.ref), "jaccard": drift})
    stage_table(reports)
    mlflow_link(mlflow_run, home)
    return {
        "checkpoint": done[-1]["checkpoint"],
        "mining": mining_json(specs[-1].mining, home),
        "rounds": done,
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
