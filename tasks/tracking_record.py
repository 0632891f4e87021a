"""Where MLflow keeps its runs, and what is noted of them beside the artifacts: a cached run does not import MLflow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import TRACKING_RECORD, ArtifactStore, write_json
from nv_retriever.stages import Spec

USER_URI = os.environ.get("MLFLOW_TRACKING_URI")
"""Read once: mlflow.set_tracking_uri writes this variable, which is not the user's word any more."""


def tracking_uri(home: str) -> str:
    """Return where MLflow keeps its runs: MLFLOW_TRACKING_URI, else a SQLite file in the home."""
    return USER_URI or f"sqlite:///{Path(home).resolve() / 'mlflow.db'}"


def read_record(spec: Spec, home: str) -> dict[str, Any]:
    """Return what is noted beside the artifact for the current tracking store, without opening the store; else nothing."""
    try:
        record: dict[str, Any] = json.loads((ArtifactStore(home).folder(spec.ref) / TRACKING_RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    uri = tracking_uri(home)
    lost = uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()
    return {} if lost or record.get("tracking_uri") != uri else record


def recorded_run(spec: Spec, home: str) -> str | None:
    """Return the run id that is noted beside the artifact."""
    return read_record(spec, home).get("run_id")


def note_run(spec: Spec, home: str, run_id: str, **more: Any) -> None:
    """Note the run id beside the artifact, and what else is known of it."""
    record = read_record(spec, home) | {"tracking_uri": tracking_uri(home), "run_id": run_id, **more}
    write_json(ArtifactStore(home).folder(spec.ref) / TRACKING_RECORD, record)
