"""Evaluation of any model on any data set."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run, output_of_run
from flows.summary import flow_run_id, metrics_json, mlflow_link, score_table, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.evaluation.beir import benchmark_parts, mean_metrics
from nv_retriever.evaluation.mteb_task import check_for_mteb
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import dataset_spec, evaluation_spec
from nv_retriever.teachers.config import TeacherConfig
from tasks.mteb import measure_with_mteb, write_mteb_files
from tasks.tracking.finished import track_evaluation


@flow(name="nv-retriever-evaluate", flow_run_name="evaluate {model} on {config.dataset.source}")
def evaluation(
    model: str = "minilm",
    config: PipelineConfig = PipelineConfig(),  # noqa: B008
    home: str | None = None,
    mteb_results: str | None = None,
    with_mteb: bool = False,
) -> dict[str, Any]:
    """Measure a retriever on a data set; a benchmark's name brings its split, its rules, and the mean of its parts.

    Args:
        model: hub name or folder of an encoder, `bm25`, `endpoint:URL#MODEL` or `vectors:FOLDER`.
        config: the data set, the evaluation settings; encoder details are taken from the student's.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
        mteb_results: also write the scores in mteb's layout below this folder; an absolute path, except on the command line.
        with_mteb: let an installed mteb measure the model as well; its own result files go to `mteb` in the home.
    """
    home, mteb_results = home_of_run(home), output_of_run("mteb_results", mteb_results)
    source = config.dataset.source
    teacher = TeacherConfig(name=model, encoder=config.student.encoder)
    if with_mteb:
        check_for_mteb(teacher)
    specs = []
    for part in benchmark_parts(source):
        dataset = dataset_spec(config.dataset.model_copy(update={"source": part}))
        specs.append(evaluation_spec(config, dataset, teacher.label, teacher))
    reports = execute(specs, home, config.runtime)
    mlflow_run, *_ = [track_evaluation(spec, home) for spec in specs]
    metrics = mean_metrics([metrics_json(spec, home) for spec in specs])
    per_query = [str(ArtifactStore(home).open(spec.ref) / "per_query.parquet") for spec in specs]
    files = [write_mteb_files(spec, home, mteb_results) for spec in specs] if mteb_results else []
    theirs = [measure_with_mteb(spec, home) for spec in specs] if with_mteb else []
    stage_table(reports)
    score_table({teacher.label: metrics}, config.dataset.source)
    mlflow_link(mlflow_run, home)
    return {
        "model": model,
        "dataset": config.dataset.source,
        "split": specs[0].evaluation.split,
        "metrics": metrics,
        "per_query": per_query[0] if len(per_query) == 1 else per_query,
        "mteb": {"results": files, "scores": mean_metrics(theirs) if theirs else None},
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
