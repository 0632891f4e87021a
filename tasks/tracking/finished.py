"""Evaluations and audits in MLflow: a finished artifact's scores, data set and files, logged all at once."""

from __future__ import annotations

from pathlib import Path

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json
from nv_retriever.plan.stages import AuditSpec, EvaluationSpec
from tasks.tracking.client import find_or_create, log_dataset, log_metrics, log_params, open_client
from tasks.tracking.names import metric_name
from tasks.tracking.record import note_run, one_at_a_time, recorded_run


def track_evaluation(spec: EvaluationSpec, home: str) -> str:
    """Return the id of the evaluation's run, after logging scores, data set, and the per-query values."""
    if known := recorded_run(spec, home):
        return known
    folder, source = ArtifactStore(home).open(spec.ref), spec.dataset.config.source
    scores = read_json(folder / "metrics.json")
    metrics = {metric_name(f"{source}/{name}"): value for name, value in scores.items()}
    name, context = f"evaluate {spec.system} on {source}", f"evaluation {spec.evaluation.split}"
    files = [folder / "metrics.json", folder / "per_query.parquet"]
    return _track(spec, home, name, context, metrics, files, {"nvr.system": spec.system})


def track_audit(spec: AuditSpec, home: str) -> str:
    """Return the id of the audit's run, after logging its rates, its table and its page."""
    if known := recorded_run(spec, home):
        return known
    folder, source = ArtifactStore(home).open(spec.ref), spec.dataset.config.source
    metrics = {
        metric_name(f"{row['teacher']}/{row['rule']}") + f"/{key}": row[key]
        for row in read_json(folder / "audit.json")["rows"]
        for key in ("rate", "hardness", "coverage")
        if row[key] is not None
    }
    files = [folder / name for name in ("report.html", "audit.json", "table.md")]
    return _track(spec, home, f"audit {source}", f"audit {spec.split}", metrics, files, {})


def _track(
    spec: EvaluationSpec | AuditSpec,
    home: str,
    name: str,
    context: str,
    metrics: dict[str, float],
    files: list[Path],
    tags: dict[str, str],
) -> str:
    """Log a finished artifact's run all at once and return its id."""
    with one_at_a_time(home):
        if known := recorded_run(spec, home):
            return known
        client, experiment = open_client(home)
        run_id = find_or_create(client, experiment, spec, name, {"nvr.dataset": spec.dataset.config.source, **tags})
        log_params(client, run_id, spec.describe())
        log_dataset(client, run_id, spec.dataset, home, context)
        log_metrics(client, run_id, metrics)
        for file in files:
            client.log_artifact(run_id, str(file))
        client.set_terminated(run_id)
        note_run(spec, home, run_id)
        return run_id
