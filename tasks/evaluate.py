"""Evaluation: one system's scores on one split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import EvaluationSpec
from tasks.opening import open_dataset, open_scorer
from tasks.stage import build, stage_task


@stage_task("evaluate")
def evaluate(spec: EvaluationSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Retrieve over the whole corpus and measure."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.evaluation.build import write_evaluation

        scorer = open_scorer(spec, store, runtime)
        dataset = open_dataset(spec.dataset, store)
        return write_evaluation(folder, scorer, dataset, spec.evaluation.split, spec.evaluation, spec.system)

    return build(spec, home, write)
