"""Prefect's cache, bound to the artifacts: the record of a task's result lives in the artifact's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from nv_retriever.artifacts import CACHE_RECORD, ArtifactStore
from nv_retriever.plan.stages import Spec


@dataclass
class ArtifactCachePolicy(CachePolicy):
    """The key is `<kind>/<fingerprint>/prefect.json`; a missing or damaged artifact is a miss."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return the place of the cache record below `artifacts/`, after removing the record of an unsound artifact."""
        spec: Spec = inputs["spec"]
        store = ArtifactStore(Path(inputs["home"]))
        folder = store.folder(spec.ref)
        if not store.is_complete(spec.ref):
            (folder / CACHE_RECORD).unlink(missing_ok=True)
        return f"{spec.ref}/{CACHE_RECORD}"
