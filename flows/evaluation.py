"""Evaluation of any model on any data set."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute, resolve_home
from flows.summary import flow_run_id, metrics_json, mlflow_link, score_table, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.pipeline import PipelineConfig, dataset_spec, evaluation_spec
from nv_retriever.teachers.config import TeacherConfig
from tasks.tracking import track_evaluation


@flow(name="nv-retriever-evaluate", flow_run_name="evaluate {model} on {config.dataset.source}")
def evaluation(
    model: str = "minilm",
    config: PipelineConfig = PipelineConfig(),  # noqa: B008
    home: str | None = None,
) -> dict[str, Any]:
    """Measure a retriever on a data set.

    Args:
        model: hub name or folder of an encoder, `bm25`, `endpoint:URL#MODEL` or `vectors:FOLDER`.
        config: the data set, the evaluation settings; encoder details are taken from the student's.
        home: folder of artifacts, database and tracking; NVR_HOME or .nvr by default.
    """
    home = resolve_home(home)
    dataset = dataset_spec(config.dataset)
    teacher = TeacherConfig(name=model, encoder=config.student.encoder)
    spec = evaluation_spec(config, dataset, teacher.label, teacher)
    reports = execute([spec], home, config.runtime)
    mlflow_run = track_evaluation(spec, home)
    metrics = metrics_json(spec, home)
    stage_table(reports)
    score_table({teacher.label: metrics}, config.dataset.source)
    mlflow_link(mlflow_run, home)
    return {
        "model": model,
        "dataset": config.dataset.source,
        "split": config.evaluation.split,
        "metrics": metrics,
        "per_query": str(ArtifactStore(home).folder(spec.ref) / "per_query.parquet"),
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
