"""MLflow: one run per training and one per evaluation, found again by the artifact that it describes.

The only module that imports mlflow. A run is identified by the tag `nvr.artifact`, so a resumed training goes on in its
run, and a database that was lost is filled again from the artifacts.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.disk import place_named
from nv_retriever.errors import InputError
from nv_retriever.sqlite_file import sqlite_problem
from nv_retriever.stages import (
    AuditSpec,
    CheckpointSpec,
    DatasetSpec,
    EvaluationSpec,
    MiningSpec,
    Spec,
    TrainedSpec,
)
from tasks.tracking_names import describe_training, flatten, metric_name, registered_name
from tasks.tracking_record import (
    EXPERIMENT,
    USER_URI,
    artifact_folder,
    follow_home,
    note_run,
    one_at_a_time,
    place_of_tracking,
    read_record,
    recorded_run,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger("nv_retriever.stages")
LOG_EVERY = 50
"""Points that are sent together: a call costs about as much as thirty points."""
MAX_PARAM_LENGTH = 6000


def open_client(home: str) -> tuple[MlflowClient, str]:
    """Return a client of the home's tracking store and the experiment's id, both made on first use."""
    for noisy in ("alembic", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # errors with their traceback, which are raised too
    import mlflow
    from mlflow.tracking import MlflowClient

    uri = tracking_uri(home)
    if not USER_URI:
        _make_database(Path(home).resolve() / "mlflow.db")
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is not None:
        return client, experiment.experiment_id
    location = None if USER_URI else artifact_folder(home).as_uri()
    return client, client.create_experiment(EXPERIMENT, artifact_location=location)


def _make_database(path: Path) -> None:
    """Make MLflow's SQLite file aside: one that a killed run left with half its tables could not be opened again."""
    from mlflow.tracking import MlflowClient

    if path.exists():
        if problem := sqlite_problem(path):
            hint = "move it away: the next run makes a new one and fills it from the artifacts"
            raise InputError(str(path), "MLflow's SQLite database", problem, hint)
        follow_home(path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(".mlflow.db.new")
    with FileLock(path.with_name(".mlflow.db.lock")):
        if not path.exists():
            for leftover in path.parent.glob(f"{aside.name}*"):
                leftover.unlink()
            MlflowClient(tracking_uri=f"sqlite:///{aside}").search_experiments(max_results=1)
            aside.replace(path)


def find_or_create(client: MlflowClient, experiment: str, spec: Spec, name: str, tags: dict[str, str]) -> str:
    """Return the id of the run that describes the artifact."""
    found = client.search_runs([experiment], f"tags.`nvr.artifact` = '{spec.ref}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {"nvr.artifact": str(spec.ref), "nvr.stage": spec.stage, **tags}
    return str(client.create_run(experiment, run_name=name, tags=tags).info.run_id)


def log_params(client: MlflowClient, run_id: str, values: dict[str, Any]) -> None:
    """Log nested settings as flat parameters; a parameter that is there already stays."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    flat = {key: text[:MAX_PARAM_LENGTH] for key, text in flatten(values).items() if key not in known}
    client.log_batch(run_id, params=[Param(key, text) for key, text in flat.items()])


def log_dataset(client: MlflowClient, run_id: str, spec: DatasetSpec, home: str, context: str) -> None:
    """Log the data set as the run's input: name, digest, counts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    store = ArtifactStore(home)
    profile = json.dumps(store.manifest(spec.ref).get("counts", {}))
    source = json.dumps({"source": spec.config.source, "artifact": str(spec.ref)})
    dataset = Dataset(
        name=spec.config.source, digest=spec.ref.fingerprint[:16], source_type="nvr", source=source, profile=profile
    )
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])


class TrainingRun:
    """The MLflow run of one training: curves while it runs, everything else when it is done."""

    def __init__(self, spec: TrainedSpec, home: str) -> None:
        self.client, experiment = open_client(home)
        name, tags = describe_training(spec)
        self.run_id = find_or_create(self.client, experiment, spec, name, tags)
        self.spec, self.home = spec, home
        self._points: list[Any] = []
        self._last_step = self._logged_steps()

    def _logged_steps(self) -> int:
        history = self.client.get_metric_history(self.run_id, "loss")
        return max((point.step for point in history), default=-1)

    def __enter__(self) -> TrainingRun:
        self.client.update_run(self.run_id, status="RUNNING")
        settings = self.spec.describe()
        if isinstance(self.spec, CheckpointSpec):
            settings["mining"] = self.spec.mining.describe()
        with one_at_a_time(self.home):
            log_params(self.client, self.run_id, settings)
            for source in self.spec.sources:
                if isinstance(source, MiningSpec):
                    log_dataset(self.client, self.run_id, source.dataset, self.home, "training")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        try:
            self.flush()
            self.client.set_terminated(self.run_id, status=status)
        except Exception as error:
            if kind is None:
                raise
            logger.warning("MLflow could not be told that the training has ended (%s): %s", status, error)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Log a point of the curves; points of a resumed run that are known already are passed over."""
        from mlflow.entities import Metric

        if step <= self._last_step:
            return
        now = int(time.time() * 1000)
        self._points += [Metric(metric_name(key), value, now, step) for key, value in metrics.items()]
        if len(self._points) >= LOG_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send the points that wait."""
        if self._points:
            with place_of_tracking(self.home):
                self.client.log_batch(self.run_id, metrics=self._points)
            self._points = []


def track_cell(spec: CheckpointSpec, evaluations: Sequence[EvaluationSpec], home: str) -> str:
    """Return the id of the run of one cell of a study: its curves and its scores; its model is not registered."""
    run_id = track_training(spec, home, register=False)
    record = read_record(spec, home)
    measured = {str(one.ref): one for one in evaluations}
    if not measured.keys() <= set(record.get("scored", [])):
        scores: dict[str, float] = {}
        for one in evaluations:
            found = json.loads((ArtifactStore(home).open(one.ref) / "metrics.json").read_text(encoding="utf-8"))
            scores |= {metric_name(f"{one.dataset.config.source}/{name}"): v for name, v in found.items()}
        log_metrics(open_client(home)[0], run_id, scores)
        note_run(spec, home, run_id, scored=sorted({*record.get("scored", []), *measured}))
    return run_id


def track_round(spec: CheckpointSpec, number: int, drift: float | None, home: str) -> None:
    """Log which round of iterative mining a training is, and its negatives' overlap with those of the round before."""
    if number > 1 and read_record(spec, home).get("round") != number:
        run_id = track_training(spec, home, register=False)
        values = {"round": float(number)} | ({} if drift is None else {"negatives/jaccard to the round before": drift})
        log_metrics(open_client(home)[0], run_id, values)
        note_run(spec, home, run_id, round=number)


def track_training(spec: TrainedSpec, home: str, register: bool = True) -> str:
    """Return the id of the checkpoint's run, after completing it: curves, the registered model, its alias `newest`."""
    with one_at_a_time(home):
        record = read_record(spec, home)
        if record and (record.get("registered", True) or not register):
            return str(record["run_id"])
        return complete_training(spec, home, register)


def complete_training(spec: TrainedSpec, home: str, register: bool) -> str:
    """Do what `track_training` does for a training whose run is not complete."""
    folder = ArtifactStore(home).open(spec.ref)
    with TrainingRun(spec, home) as run:
        for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
            point = json.loads(line)
            step = int(point.pop("step"))
            run.log(step, {key: float(value) for key, value in point.items() if isinstance(value, int | float)})
        if register:
            register_model(run.client, run.run_id, folder / "model", registered_name(spec), home)
    note_run(spec, home, run.run_id, registered=register)
    return run.run_id


def register_model(client: MlflowClient, run_id: str, folder: Path, name: str, home: str) -> None:
    """Log the checkpoint as an MLflow model of the sentence-transformers flavour, and register it as `newest`."""
    import mlflow
    from sentence_transformers import SentenceTransformer

    if not client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        places = ([] if USER_URI else [artifact_folder(home)]) + [tempfile.gettempdir()]  # from there it is copied
        with place_named(" or ".join(map(str, places))), mlflow.start_run(run_id=run_id):
            mlflow.sentence_transformers.log_model(
                SentenceTransformer(str(folder), device="cpu"),
                name="model",
                registered_model_name=name,
                pip_requirements=["sentence-transformers"],
            )
    # Also of a version that is there already: a run may have been killed before it gave the alias.
    newest = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
    client.set_registered_model_alias(name, "newest", newest[0].version)


def promote(spec: TrainedSpec, home: str) -> None:
    """Give the checkpoint's registered model the alias `champion`, once."""
    if read_record(spec, home).get("promoted"):
        return
    run_id = track_training(spec, home)
    client, _ = open_client(home)
    name = registered_name(spec)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    if versions:
        client.set_registered_model_alias(name, "champion", versions[0].version)
    note_run(spec, home, run_id, promoted=True)


def track_evaluation(spec: EvaluationSpec, home: str, extra: dict[str, float] | None = None) -> str:
    """Return the id of the evaluation's run, after logging scores, data set, and the per-query values."""
    if known := recorded_run(spec, home):
        return known
    folder, source = ArtifactStore(home).open(spec.ref), spec.dataset.config.source
    scores = json.loads((folder / "metrics.json").read_text(encoding="utf-8")) | (extra or {})
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
        for row in json.loads((folder / "audit.json").read_text(encoding="utf-8"))["rows"]
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


def log_metrics(client: MlflowClient, run_id: str, values: dict[str, float]) -> None:
    """Log final values, in as few calls as MLflow takes them."""
    from mlflow.entities import Metric
    from mlflow.utils.validation import MAX_METRICS_PER_BATCH

    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, 0) for name, value in values.items()]
    for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])


def nest_runs(name: str, children: Sequence[tuple[str, str]], written: dict[str, Any], home: str) -> str:
    """Return the id of the run that holds a study: its report, and the trainings as nested runs.

    `children` are (run id, cell); a run is called by the first of its cells: rules alone do not tell `oracle` from `topk`.
    """
    client, experiment = open_client(home)
    report = str(Path(written["html"]).parent.name)
    found = client.search_runs([experiment], f"tags.`nvr.report` = '{report}'", max_results=1)
    tags = {"nvr.report": report, "nvr.stage": "ablate"}
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
