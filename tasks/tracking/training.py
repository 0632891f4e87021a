"""Trainings in MLflow: curves while they run, then the registered model."""

from __future__ import annotations

import json
import logging
from typing import Any

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.stages import CheckpointSpec, MiningSpec, TrainedSpec
from tasks.tracking.client import find_or_create, log_dataset, log_params, open_client, points, register_model
from tasks.tracking.names import describe_training, metric_name, registered_name
from tasks.tracking.record import note_run, one_at_a_time, place_of_tracking, read_record

logger = logging.getLogger("nv_retriever.stages")
LOG_EVERY = 50
"""Points that are sent together: a call costs about as much as thirty points."""


class TrainingRun:
    """The MLflow run of one training: curves while it runs, everything else when it is done."""

    def __init__(self, spec: TrainedSpec, home: str) -> None:
        self.spec, self.home = spec, home
        name, tags = describe_training(spec)
        with one_at_a_time(home):
            self.client, experiment = open_client(home)
            self.run_id = find_or_create(self.client, experiment, spec, name, tags)
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
        if step <= self._last_step:
            return
        self._points += points({metric_name(name): value for name, value in metrics.items()}, step)
        if len(self._points) >= LOG_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send the points that wait."""
        if self._points:
            with place_of_tracking(self.home):
                self.client.log_batch(self.run_id, metrics=self._points)
            self._points = []


def track_training(spec: TrainedSpec, home: str, register: bool = True) -> str:
    """Return the id of the checkpoint's run, after completing it: curves, the registered model, its alias `newest`."""
    with one_at_a_time(home):
        record = read_record(spec, home)
        if record and (record.get("registered", True) or not register):
            return str(record["run_id"])
        return _complete(spec, home, register)


def _complete(spec: TrainedSpec, home: str, register: bool) -> str:
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
