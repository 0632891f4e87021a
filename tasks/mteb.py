"""mteb: an evaluation in its layout of result files, and its own evaluator as a second opinion."""

from __future__ import annotations

from pathlib import Path

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.stages import EvaluationSpec
from tasks.opening import open_dataset


def write_mteb_files(spec: EvaluationSpec, home: str, folder: str) -> str:
    """Write an evaluation as mteb's result file below a folder; returns its path."""
    from nv_retriever.evaluation.mteb_result import export_evaluation
    from nv_retriever.evaluation.results import EvaluationResult

    result = EvaluationResult.open(ArtifactStore(home).open(spec.ref))
    return str(export_evaluation(Path(folder), result, spec.ref.fingerprint[:16]))


def measure_with_mteb(spec: EvaluationSpec, home: str) -> dict[str, float]:
    """Return what mteb's evaluator finds for the same model on the same data."""
    from nv_retriever.evaluation.mteb_task import evaluate_with_mteb, open_for_mteb

    model, store = open_for_mteb(spec.location.teacher), ArtifactStore(home)
    ignore = spec.evaluation.ignore_identical_ids is True
    return evaluate_with_mteb(model, open_dataset(spec.dataset, store), spec.evaluation.split, store.home / "mteb", ignore)
