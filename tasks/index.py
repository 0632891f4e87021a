"""Index: search the corpus once with each teacher, and keep the candidate table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import CandidatesSpec
from tasks.opening import open_dataset, open_scorer
from tasks.stage import build, stage_task


@stage_task("index")
def index(spec: CandidatesSpec, home: str, runtime: Runtime, blocks: Sequence[ArtifactRef] = ()) -> ArtifactRef:
    """Search the k best candidates of every query of the split, but for the blocks that other workers have searched."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.search.candidates import write_candidates

        scorer = open_scorer(spec, store, runtime)
        dataset = open_dataset(spec.dataset, store)
        searched = [store.open(block) for block in blocks]
        return write_candidates(folder, scorer, dataset, spec.split, spec.search, spec.teacher, searched)

    return build(spec, home, write)
