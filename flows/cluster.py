"""Scale-out: the parts of a stage, mapped over the workers of a Dask or Ray cluster by Prefect's task runners."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from typing import Any

from prefect import unmapped
from prefect.futures import PrefectFutureList
from prefect.task_runners import TaskRunner

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.plan.stages import CandidatesBlockSpec, CandidatesSpec, EmbeddingSpec, Spec
from nv_retriever.remote_store import origin
from tasks.parts import divide_embedding, divide_search, embed_part, search_part

logger = logging.getLogger("nv_retriever.stages")
RAY_STORE_BYTES = 128 * 2**20
"""Ray's object store carries references only; by default it would take a third of the memory."""


class Cluster:
    """The workers that a runtime names, from the first part on; with `runner: local` there are none and no parts."""

    def __init__(self, runtime: Runtime, home: str) -> None:
        self.runtime, self.home = runtime, home
        self._stack = ExitStack()
        self._runner: TaskRunner[Any] | None = None
        self._blocks: dict[ArtifactRef, list[CandidatesBlockSpec]] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exception: Any) -> None:
        try:
            self._stack.__exit__(*exception)
        except TimeoutError:  # Dask, on a busy machine, of processes that it has killed: what they did is kept
            logger.warning("the workers of %s took too long to end", self.runtime.runner)

    def prepare(self, spec: Spec) -> dict[str, Any]:
        """Do a stage's parts on the workers; return the parameters by which the stage's task finds them."""
        if self.runtime.runner != "local":
            if isinstance(spec, EmbeddingSpec):
                self._embed(spec)  # into the vectors by content, where the task looks anyway
            if isinstance(spec, CandidatesSpec):
                return {"blocks": self._search(spec)}
        return {}

    def tidy(self, spec: Spec) -> None:
        """Remove the parts of a stage that is complete."""
        for block in self._blocks.pop(spec.ref, []):
            ArtifactStore(self.home).discard(block.ref)

    def _embed(self, spec: EmbeddingSpec) -> None:
        plan = divide_embedding(spec, self.home, self.runtime)
        if plan is None or not plan.ranges:
            return
        starts, stops = zip(*plan.ranges, strict=True)
        fixed = {"spec": spec, "precision": plan.precision, "fetch": plan.known > 0}
        self._map(embed_part, fixed, {"start": list(starts), "stop": list(stops)})

    def _search(self, spec: CandidatesSpec) -> list[ArtifactRef]:
        blocks = self._blocks[spec.ref] = divide_search(spec, self.home, self.runtime)
        if blocks:
            self._map(search_part, {}, {"spec": blocks})
        return [block.ref for block in blocks]

    def _map(self, task: Any, fixed: dict[str, Any], mapped: dict[str, list[Any]]) -> None:
        if self._runner is None:
            self._runner = self._stack.enter_context(task_runner(self.runtime))
        fixed = fixed | {"home": origin(self.home) or self.home, "runtime": worker_runtime(self.runtime)}
        parameters: dict[str, Any] = {name: unmapped(value) for name, value in fixed.items()} | mapped
        futures: PrefectFutureList[Any] = self._runner.map(task, parameters)
        logger.info("%s: %d parts on the workers of %s", task.name, len(futures), self.runtime.runner)
        futures.result()


def worker_runtime(runtime: Runtime) -> Runtime:
    """Return the runtime of a worker: those that start on this machine share its memory."""
    if runtime.cluster is not None:
        return runtime
    budget = runtime.memory_budget_bytes() // runtime.processes // 2**20
    return runtime.model_copy(update={"memory_budget_mb": max(budget, 16)})


def task_runner(runtime: Runtime) -> TaskRunner[Any]:
    """Return the task runner; raises InputError where its package is not installed."""
    try:
        return dask_runner(runtime) if runtime.runner == "dask" else ray_runner(runtime)
    except ImportError as error:
        hint = f"pip install 'prefect-{runtime.runner}' (the extra `{runtime.runner}` of this project)"
        raise InputError("runtime.runner", f"an installed {runtime.runner}", str(error), hint) from None


def dask_runner(runtime: Runtime) -> TaskRunner[Any]:
    """Return Prefect's runner on a Dask cluster; a worker that dies is replaced, its part goes to another."""
    from prefect_dask import DaskTaskRunner

    if runtime.cluster is not None:
        found: TaskRunner[Any] = DaskTaskRunner(address=runtime.cluster)
        return found
    # The library keeps to its own memory budget: Dask's limit would count mapped files and kill workers for them.
    local = {"n_workers": runtime.processes, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": None}
    found = DaskTaskRunner(cluster_kwargs=local)
    return found


def ray_runner(runtime: Runtime) -> TaskRunner[Any]:
    """Return Prefect's runner on a Ray cluster; Ray runs the part of a worker that dies again on another."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from prefect_ray import RayTaskRunner

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if runtime.cluster is None:
        quiet |= {"num_cpus": runtime.processes, "object_store_memory": RAY_STORE_BYTES}
    # Without an address Ray would join a cluster that runs on this machine for someone else.
    found: TaskRunner[Any] = RayTaskRunner(address=runtime.cluster or "local", init_kwargs=quiet)
    return found
