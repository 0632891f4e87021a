"""Training: from mined triples (mined now, or from the cache) to a checkpoint."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run
from flows.summary import flow_run_id, minings_json, mlflow_link, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.pipeline import minings, trainings
from nv_retriever.plan.trained_specifications import trained_spec
from tasks.mine import add_to_database
from tasks.tracking.training import track_training


@flow(name="nv-retriever-train", flow_run_name="train {config.dataset.source} {config.mining.rule}")
def training(config: PipelineConfig = PipelineConfig(), home: str | None = None) -> dict[str, Any]:  # noqa: B008
    """Train the student on mined hard negatives.

    Args:
        config: what to do; evaluation settings are not used.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
    """
    home = home_of_run(home)
    spec = trained_spec(config)
    reports = execute([spec], home, config.runtime)
    mined = minings(spec)
    for one in mined:
        add_to_database(one, home)
    *_, mlflow_run = [track_training(one, home, register=one is spec) for one in trainings(spec)]
    stage_table(reports)
    mlflow_link(mlflow_run, home)
    return {
        "checkpoint": str(ArtifactStore(home).open(spec.ref) / "model"),
        "mining": minings_json(mined, home),
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
