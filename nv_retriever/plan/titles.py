"""What people call the artifact of a specification: whose vectors, of which texts, of which data set."""

from __future__ import annotations

from nv_retriever.plan import stages
from nv_retriever.plan.stages import EmbeddingSpec, Spec
from nv_retriever.teachers.config import TeacherConfig


def title(spec: Spec) -> str:
    """Return what a specification makes, in words, such as `scifact documents by trained student`."""
    match spec:
        case stages.DatasetSpec():
            return spec.config.source
        case EmbeddingSpec():
            part = spec.part if spec.part == "documents" else f"{spec.part} queries"
            return f"{title(spec.dataset)} {part} by {_model_title(spec)}"
        case stages.CandidatesSpec():
            return f"{title(spec.dataset)} {spec.split} by {spec.teacher}"
        case stages.MiningSpec():
            return f"{title(spec.dataset)} {spec.split} by {spec.mining.rule}"
        case stages.AuditSpec():
            return f"{title(spec.dataset)} {spec.split}"
        case stages.LabelledSpec():
            return spec.location.source.name
        case stages.EvaluationSpec():
            return f"{spec.system} on {title(spec.dataset)} {spec.evaluation.split}"
        case stages.StudentSpec():
            return "untrained student"
        case stages.CheckpointSpec():
            return "trained student"
        case stages.BlendedCheckpointSpec():
            return f"student after {spec.title.stage}"
    return spec.kind


def _model_title(spec: EmbeddingSpec) -> str:
    """Return who embeds; a model as it is given may mine in one precision and be measured in another."""
    if isinstance(spec.model, Spec):
        return title(spec.model)
    label = TeacherConfig(name=spec.location.source).label
    return label if spec.precision == "auto" else f"{label} in {spec.precision}"
