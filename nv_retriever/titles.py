"""What people call the artifact of a specification: whose vectors, of which texts, of which data set."""

from __future__ import annotations

from nv_retriever.stages import (
    AuditSpec,
    BlendedCheckpointSpec,
    CandidatesSpec,
    CheckpointSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    LabelledSpec,
    MiningSpec,
    Spec,
    StudentSpec,
)
from nv_retriever.teachers.config import TeacherConfig


def title(spec: Spec) -> str:
    """Return what a specification makes, in words, such as `scifact documents by trained student`."""
    match spec:
        case DatasetSpec():
            return spec.config.source
        case EmbeddingSpec():
            part = spec.part if spec.part == "documents" else f"{spec.part} queries"
            return f"{title(spec.dataset)} {part} by {model_title(spec)}"
        case CandidatesSpec():
            return f"{title(spec.dataset)} {spec.split} by {spec.teacher}"
        case MiningSpec():
            return f"{title(spec.dataset)} {spec.split} by {spec.mining.rule}"
        case AuditSpec():
            return f"{title(spec.dataset)} {spec.split}"
        case LabelledSpec():
            return spec.location.source.name
        case EvaluationSpec():
            return f"{spec.system} on {title(spec.dataset)} {spec.evaluation.split}"
        case StudentSpec() | CheckpointSpec() | BlendedCheckpointSpec():
            return student_title(spec)
    return spec.kind


def model_title(spec: EmbeddingSpec) -> str:
    """Return who embeds."""
    if isinstance(spec.model, Spec):
        return student_title(spec.model)
    return TeacherConfig(name=spec.location.source).label


def student_title(spec: StudentSpec | CheckpointSpec | BlendedCheckpointSpec) -> str:
    """Return which student: before training, after a stage of a blend, or after training."""
    if isinstance(spec, StudentSpec):
        return "untrained student"
    return f"student after {spec.title.stage}" if isinstance(spec, BlendedCheckpointSpec) else "trained student"
