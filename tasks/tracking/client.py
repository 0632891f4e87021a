"""The client of MLflow's tracking store: what is opened, looked up and logged there. The only module that imports mlflow."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.disk import place_named
from nv_retriever.errors import InputError
from nv_retriever.plan.stages import DatasetSpec, Spec
from nv_retriever.sqlite_file import sqlite_problem
from tasks.tracking.names import flatten
from tasks.tracking.record import EXPERIMENT, USER_URI, artifact_folder, follow_home, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

MAX_PARAM_LENGTH = 6000


def open_client(home: str) -> tuple[MlflowClient, str]:
    """Return a client of the home's tracking store and the experiment's id, both made on first use."""
    for noisy in ("alembic", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Errors with their traceback, which are raised too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
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


def points(values: dict[str, float], step: int) -> list[Metric]:
    """Return values at a step as MLflow takes them."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value in values.items()]


def log_metrics(client: MlflowClient, run_id: str, values: dict[str, float]) -> None:
    """Log final values, in as few calls as MLflow takes them."""
    from mlflow.utils.validation import MAX_METRICS_PER_BATCH

    metrics = points(values, step=0)
    for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])


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
