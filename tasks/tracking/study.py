"""Studies in MLflow: the cells of an ablation, nested below the run of its report, and the rounds of iterative mining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json
from nv_retriever.plan.stages import CheckpointSpec, EvaluationSpec
from tasks.tracking.client import log_metrics, open_client
from tasks.tracking.names import metric_name
from tasks.tracking.record import note_run, one_at_a_time, read_record
from tasks.tracking.training import track_training


def track_cell(spec: CheckpointSpec, evaluations: Sequence[EvaluationSpec], home: str) -> str:
    """Return the id of the run of one cell of a study: its curves and its scores; its model is not registered."""
    run_id = track_training(spec, home, register=False)
    record = read_record(spec, home)
    measured = {str(one.ref): one for one in evaluations}
    if not measured.keys() <= set(record.get("scored", [])):
        scores: dict[str, float] = {}
        for one in evaluations:
            found = read_json(ArtifactStore(home).open(one.ref) / "metrics.json")
            scores |= {metric_name(f"{one.dataset.config.source}/{name}"): v for name, v in found.items()}
        log_metrics(open_client(home)[0], run_id, scores)
        note_run(spec, home, run_id, scored=sorted({*record.get("scored", []), *measured}))
    return run_id


def nest_runs(name: str, children: Sequence[tuple[str, str]], written: dict[str, Any], home: str) -> str:
    """Return the id of the run that holds a study: its report, and the trainings as nested runs.

    `children` are (run id, cell); a run is called by the first of its cells: rules alone do not tell `oracle` from `topk`.
    """
    report = str(Path(written["html"]).parent.name)
    tags = {"nvr.report": report, "nvr.stage": "ablate"}
    with one_at_a_time(home):
        client, experiment = open_client(home)
        found = client.search_runs([experiment], f"tags.`nvr.report` = '{report}'", max_results=1)
        run = found[0] if found else client.create_run(experiment, run_name=name, tags=tags)
    run_id = str(run.info.run_id)
    cells: dict[str, list[str]] = {}
    for child, cell in children:
        cells.setdefault(child, []).append(cell)
    for child, names in cells.items():
        client.set_tag(child, "mlflow.parentRunId", run_id)
        client.set_tag(child, "mlflow.runName", names[0])
        client.set_tag(child, "nvr.cells", "; ".join(names))
    for path in (written["html"], written["markdown"]):
        client.log_artifact(run_id, path)
    for table, rows in written["tables"].items():
        log_metrics(client, run_id, {metric_name(f"{table}/{row['name']}"): row["mean"] for row in rows})
    client.set_terminated(run_id)
    return run_id


def track_round(spec: CheckpointSpec, number: int, drift: float | None, home: str) -> None:
    """Log which round of iterative mining a training is, and its negatives' overlap with those of the round before."""
    if number > 1 and read_record(spec, home).get("round") != number:
        run_id = track_training(spec, home, register=False)
        values = {"round": float(number)} | ({} if drift is None else {"negatives/jaccard to the round before": drift})
        log_metrics(open_client(home)[0], run_id, values)
        note_run(spec, home, run_id, round=number)
