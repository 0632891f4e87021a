"""Audit: how many of the negatives that rules would mine are false."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import AuditSpec
from tasks.opening import open_dataset, open_scorer
from tasks.stage import build, stage_task


@stage_task("audit")
def audit(spec: AuditSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Sweep rules over the stored candidates, and write table, JSON and page."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.audit.build import write_audit
        from nv_retriever.search.candidate_table import Candidates

        tables = [Candidates.open(store.open(candidates.ref)) for candidates in spec.candidates]
        scorers = [open_scorer(candidates, store, runtime) for candidates in spec.candidates]
        content = write_audit(folder, open_dataset(spec.dataset, store), spec.split, tables, spec.audit, scorers)
        return {"samples": content["samples"], "rules": len(content["rows"])}

    return build(spec, home, write)
