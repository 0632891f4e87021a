"""The configuration of a whole run: one source for YAML, command line, the Prefect form, MLflow and fingerprints."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nv_retriever.audit.config import AuditConfig
from nv_retriever.config import MOST_SEED, Frozen, Runtime
from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.mining.config import MiningConfig
from nv_retriever.search.config import SearchConfig
from nv_retriever.teachers.config import TeacherConfig, choosing
from nv_retriever.teachers.names import check_labels
from nv_retriever.training.blend import BlendConfig
from nv_retriever.training.config import StudentConfig, TrainingConfig

_DEFAULTS = (DatasetConfig().source, StudentConfig().encoder.model)
"""The data set and the model of a run of which nothing was said."""


class PipelineConfig(Frozen):
    """Everything that a run can be told; one source for YAML, command line, the Prefect form, MLflow and fingerprints."""

    dataset: DatasetConfig = DatasetConfig()
    """Documents, queries and labels."""
    split: str = "train"
    """The split that is mined and trained on."""
    teachers: tuple[TeacherConfig, ...] = Field(default=(TeacherConfig(),), min_length=1)
    """Who scores candidates; several ones form an ensemble."""
    search: SearchConfig = SearchConfig()
    """The candidate tables."""
    mining: MiningConfig = MiningConfig()
    """Which candidates become negatives."""
    student: StudentConfig = StudentConfig()
    """The model that is trained: the packaged MiniLM, whole; on the default data set its first two layers."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""
    blend: BlendConfig | None = None
    """Train on several data sets, in stages; then `dataset` is what is measured, and the stages say what `training` and
    `mining.selection`, which must stay as they are, say without one."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How retrievers are measured."""
    audit: AuditConfig = AuditConfig()
    """What `nvr audit` sweeps, and the rate above which it fails."""
    leakage: Literal["fail", "allow"] = "fail"
    """What to do when queries of the evaluation split are, word for word, queries of the training split."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Of everything that is drawn: selections, the order of training, dropout, an audit's samples."""
    runtime: Runtime = Runtime()
    """How the run is carried out; changes no result."""

    @model_validator(mode="after")
    def _an_audit_mines_as_the_run(self) -> Self:
        for name, setting in (("rule", "mining.rule"), ("selection", "mining.selection"), ("seed", "seed")):
            if self.audit.differs(name):
                found = repr(getattr(self.audit, name))
                raise InputError(f"audit.{name}", f"nothing: a run audits what it mines, which {setting} says", found)
        return self

    @model_validator(mode="after")
    def _stages_say_how_a_blend_is_trained(self) -> Self:
        if self.blend is not None:
            if self.training != TrainingConfig():
                changed = ", ".join(name for name in TrainingConfig.model_fields if self.training.differs(name))
                raise InputError("training", "nothing beside `blend`: blend.stages.N.training says it", changed)
            if self.mining.differs("selection"):
                expected = "nothing beside `blend`: blend.stages.N.selection says it"
                raise InputError("mining.selection", expected, self.mining.selection)
        return self

    @model_validator(mode="after")
    def _teachers_read_their_settings(self) -> Self:
        for place, teacher in enumerate(self.teachers):
            for path, value in teacher.unread().items():
                hint = f"teachers.{place}.name says the model" if path == "encoder.model" else ""
                expected = f"nothing: the teacher {teacher.name!r} does not read it"
                raise InputError(f"teachers.{place}.{path}", expected, repr(value), hint)
        check_labels(self.teachers)
        return self

    @model_validator(mode="after")
    def _a_student_is_an_encoder(self) -> Self:
        if TeacherConfig(name=self.student.encoder.model).kind != "encoder":
            found = repr(self.student.encoder.model)
            raise InputError("student.encoder.model", "an encoder that can be trained: a hub name or a folder", found)
        return self

    @model_validator(mode="after")
    def _who_only_retrieves_is_rescored(self) -> Self:
        for place, teacher in enumerate(self.teachers):
            if teacher.only_retrieves and (place > 0 or {other.kind for other in self.teachers[1:]} != {"cross-encoder"}):
                expected = "the first teacher, and behind it cross-encoders, which rescore what it finds"
                found = ", ".join(one.name for one in self.teachers)
                raise InputError(f"teachers.{place}.only_retrieves", expected, found)
        return self

    @property
    def untrained(self) -> StudentConfig:
        """The student before its training: two layers of the default model on the default data set, if no number is said."""
        if self.student.layers is None and (self.dataset.source, self.student.encoder.model) == _DEFAULTS:
            return self.student.model_copy(update={"layers": 2})
        return self.student

    @property
    def choosing_teachers(self) -> tuple[TeacherConfig, ...]:
        """The teachers whose scores choose negatives."""
        return choosing(self.teachers)
