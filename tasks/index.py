"""Index: search the corpus once with each teacher, and keep the candidate table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import CandidatesBlockSpec, CandidatesSpec
from tasks.opening import open_dataset, open_scorer
from tasks.stage import build, stage_task


@stage_task("index")
def index(spec: CandidatesSpec, home: str, runtime: Runtime, upstream: list[ArtifactRef]) -> ArtifactRef:
    """Search the k best candidates of every query of the split; blocks among `upstream` were searched by other workers."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.search.candidates import write_candidates

        scorer = open_scorer(spec, store, runtime)
        dataset = open_dataset(spec.dataset, store)
        blocks = [store.open(ref) for ref in upstream if ref.kind == CandidatesBlockSpec.kind]
        return write_candidates(folder, scorer, dataset, spec.split, spec.search, spec.teacher, blocks)

    return build(spec, home, write)
