"""What every stage's task shares: the cache policy, the build of the artifact, the report of what was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.filesystems import LocalFileSystem

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Frozen, Runtime
from nv_retriever.fingerprint import fingerprint
from nv_retriever.plan.specifications import check_unchanged
from nv_retriever.plan.stages import Spec
from nv_retriever.plan.titles import title
from tasks.cache_policy import ArtifactCachePolicy

logger = logging.getLogger("nv_retriever.stages")
StageTask = Task[..., ArtifactRef]


class StageReport(Frozen):
    """What became of one stage in a run."""

    stage: str
    """ingest, embed, index, mine, train, evaluate."""
    what: str
    """What it makes, in words: whose vectors, of which data set."""
    artifact: str
    """<kind>/<fingerprint>."""
    cached: bool
    """Whether the artifact was there already."""
    seconds: float
    """Wall time of the stage's own work."""


def remove_failure_record(stage: StageTask, run: TaskRun, state: State[Any]) -> None:
    """Remove Prefect's record of why a task failed: a file with a random name among the artifacts, which nothing reads."""
    storage, record = stage.result_storage, cast(Any, state.data)
    if isinstance(storage, LocalFileSystem):
        Path(str(storage.basepath), record.metadata.storage_key).unlink(missing_ok=True)


def stage_task(name: str) -> Callable[[Callable[..., ArtifactRef]], StageTask]:
    """Return a decorator: a Prefect task named after its stage, cached by the artifact that it makes."""
    return task(
        name=name,
        task_run_name=lambda parameters: f"{name} {title(parameters['spec'])}",  # type: ignore[arg-type]  # Prefect's protocol
        cache_policy=ArtifactCachePolicy(),
        persist_result=True,
        result_serializer="json",
        on_failure=[remove_failure_record],
        retries=0,
    )


def build(spec: Spec, home: str, write: Callable[[Path, ArtifactStore], dict[str, Any]]) -> ArtifactRef:
    """Fill the folder of the artifact with `write`, unless it is there, and return its reference."""
    store = ArtifactStore(home)
    with store.build(spec.ref) as artifact:
        if not artifact.complete:
            check_unchanged(spec)
            counts = write(artifact.folder, store)
            check_unchanged(spec)
            artifact.info.update(spec=spec.describe(), counts=counts)
    return spec.ref


def result_storage(home: str) -> LocalFileSystem:
    """Return the storage of the cache records, below the home's artifacts; Prefect wants it registered with its server."""
    root = ArtifactStore(home).root
    storage = LocalFileSystem(basepath=str(root))
    storage.save(f"nvr-{fingerprint(str(root))[:12]}", overwrite=True)
    return storage


def run_stage(
    stage: StageTask,
    spec: Spec,
    home: str,
    runtime: Runtime,
    storage: LocalFileSystem,
    prepare: Callable[[Spec], dict[str, Any]],
) -> StageReport:
    """Call the stage's task within a flow, and report what became of it.

    What is not cached is prepared first, on a cluster's workers; `prepare` returns what the task is told of that.
    """
    store = ArtifactStore(home)
    cached = store.is_complete(spec.ref)
    logger.info("%s %s: %s", spec.stage, spec.ref, "from the cache" if cached else "started")
    started = time.perf_counter()
    prepared = {} if cached else prepare(spec)
    stage.with_options(result_storage=storage)(spec=spec, home=home, runtime=runtime, **prepared)
    store.note_use(spec.ref)
    seconds = 0.0 if cached else time.perf_counter() - started
    if not cached:
        logger.info("%s %s: done in %.1f s", spec.stage, spec.ref, seconds)
    rounded = round(seconds, 3)
    return StageReport(stage=spec.stage, what=title(spec), artifact=str(spec.ref), cached=cached, seconds=rounded)
