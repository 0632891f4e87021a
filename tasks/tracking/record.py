"""Where MLflow keeps its runs, and what is noted of them beside the artifacts: a cached run does not import MLflow."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from nv_retriever.artifacts import TRACKING_RECORD, ArtifactStore
from nv_retriever.disk import place_named
from nv_retriever.files import read_json, write_json
from nv_retriever.plan.stages import Spec

EXPERIMENT = "nv-retriever"
PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("experiments", "artifact_location"),
)
"""Tables and columns in which MLflow writes down where its files lie."""
USER_URI = os.environ.get("MLFLOW_TRACKING_URI")
"""Read once: mlflow.set_tracking_uri writes this variable, which is not the user's word any more."""


def tracking_uri(home: str) -> str:
    """Return where MLflow keeps its runs: MLFLOW_TRACKING_URI, else a SQLite file in the home."""
    return USER_URI or f"sqlite:///{Path(home).resolve() / 'mlflow.db'}"


def read_record(spec: Spec, home: str) -> dict[str, Any]:
    """Return what is noted beside the artifact for the current tracking store, without opening the store; else nothing."""
    try:
        record: dict[str, Any] = read_json(ArtifactStore(home).folder(spec.ref) / TRACKING_RECORD)
    except (OSError, ValueError):
        return {}
    uri = tracking_uri(home)
    lost = uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()
    return record if isinstance(record, dict) and record.get("tracking_uri") == uri and not lost else {}


def recorded_run(spec: Spec, home: str) -> str | None:
    """Return the run id that is noted beside the artifact."""
    return read_record(spec, home).get("run_id")


def note_run(spec: Spec, home: str, run_id: str, **more: Any) -> None:
    """Note the run id beside the artifact, and what else is known of it."""
    record = read_record(spec, home) | {"tracking_uri": tracking_uri(home), "run_id": run_id, **more}
    write_json(ArtifactStore(home).folder(spec.ref) / TRACKING_RECORD, record)


def follow_home(path: Path) -> None:
    """Tell the database of a home that was moved or copied where its files are now: MLflow would write to the old place."""
    # Without its tables there is nothing to tell, and MLflow has its own words for those of another version.
    with closing(sqlite3.connect(path, timeout=60)) as connection, suppress(sqlite3.OperationalError), connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", [EXPERIMENT]).fetchone()
        before, now = found[0] if found else "", artifact_folder(path.parent).as_uri()
        if before and before != now:
            for table, column in PLACES:
                change = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE instr({column} || '/', ?) = 1"
                connection.execute(change, [now, len(before) + 1, f"{before}/"])


def artifact_folder(home: Path | str) -> Path:
    """Return where MLflow keeps the files of a home's runs and models."""
    return Path(home).resolve() / "mlartifacts"


def place_of_tracking(home: str) -> AbstractContextManager[None]:
    """Return a context that names the home's database in errors of the disk; that of a tracking server is elsewhere."""
    return nullcontext() if USER_URI else place_named(Path(home) / "mlflow.db")


@contextmanager
def one_at_a_time(home: str) -> Iterator[None]:
    """Let one process of a home look for a run and complete it: two would make two runs, or two versions of a model.

    And MLflow fails where two note the same data set for the first time. May be entered again within itself.
    """
    with FileLock(Path(home) / ".mlflow.lock", is_singleton=True), place_of_tracking(home):
        yield
