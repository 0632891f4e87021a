"""The stages of the workflow as specifications: what determines an artifact, named before anything runs.

A specification holds its configuration, the specifications that it reads from, and digests of external inputs.
In a fingerprint an upstream specification counts as its reference only, so the whole plan is one graph of values.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal, Self

from nv_retriever.artifacts import ArtifactRef
from nv_retriever.audit.config import AuditConfig
from nv_retriever.config import Frozen, Unfingerprinted
from nv_retriever.data.config import DatasetConfig
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.fingerprint import canonical, fingerprint
from nv_retriever.mining.config import MiningConfig
from nv_retriever.search.config import SearchConfig
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.identity import EncoderIdentity, Precision
from nv_retriever.training.blend import BlendSource, Task
from nv_retriever.training.config import TrainingConfig

StageName = Literal["ingest", "embed", "index", "mine", "train", "evaluate", "audit"]


class Location(Unfingerprinted):
    """Where an external input lies: needed to read it, irrelevant for what it is."""

    source: str = ""
    encoder: EncoderConfig = EncoderConfig()


class TeacherLocation(Unfingerprinted):
    """The teacher as configured."""

    teacher: TeacherConfig


class JudgeLocation(Unfingerprinted):
    """The judge as configured."""

    judge: str | None = None


class BlendLocation(Unfingerprinted):
    """The source as configured."""

    source: BlendSource


class Title(Unfingerprinted):
    """What a blended training is called."""

    blend: str
    stage: str
    sources: tuple[str, ...]


class Spec(Frozen):
    """What determines one artifact."""

    kind: ClassVar[str]
    stage: ClassVar[StageName]
    version: ClassVar[int] = 1
    """Raised when the stage's code changes what it writes."""

    @cached_property
    def ref(self) -> ArtifactRef:
        """The artifact's reference."""
        return ArtifactRef(kind=self.kind, fingerprint=fingerprint(self.describe()))

    def __copy__(self) -> Self:
        """Return a copy that forgets the reference: `model_copy` changes fields of it."""
        copied = super().__copy__()
        copied.__dict__.pop("ref", None)
        return copied

    def describe(self) -> dict[str, Any]:
        """Return what the fingerprint is taken of, as plain JSON data."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {"kind": self.kind, "version": self.version, **canonical(fields)}

    def upstream(self) -> list[Spec]:
        """Return the specifications that this one reads from."""
        values = [getattr(self, name) for name in type(self).model_fields]
        flat = [item for value in values for item in (value if isinstance(value, tuple) else (value,))]
        return [item for item in flat if isinstance(item, Spec)]

    def __fingerprint__(self) -> str:
        return str(self.ref)


class DatasetSpec(Spec):
    """Documents, queries and labels in canonical order."""

    kind: ClassVar[str] = "dataset"
    version: ClassVar[int] = 4
    stage: ClassVar[StageName] = "ingest"
    config: DatasetConfig
    digest: str
    location: Location


class StudentSpec(Spec):
    """The untrained student."""

    kind: ClassVar[str] = "model"
    version: ClassVar[int] = 4
    stage: ClassVar[StageName] = "train"
    identity: EncoderIdentity
    layers: int | None
    bidirectional: bool = False
    pool_prompt: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    location: Location

    @property
    def as_given(self) -> bool:
        """Whether it is its encoder with nothing changed, so that its vectors are the encoder's."""
        return self.layers is None and not self.bidirectional and self.pool_prompt and self.dtype == "float32"


class EmbeddingSpec(Spec):
    """Vectors of a data set's documents, or of the queries of one split."""

    kind: ClassVar[str] = "embeddings"
    stage: ClassVar[StageName] = "embed"
    dataset: DatasetSpec
    part: str
    model: EncoderIdentity | StudentSpec | TrainedSpec | str
    """Who embeds: an encoder, a model of this workflow, or the digest of an endpoint or of precomputed vectors."""
    precision: Precision
    """As asked for; a model is evaluated in another one than it is mined with."""
    location: Location


class CandidatesSpec(Spec):
    """The candidate table of one teacher."""

    kind: ClassVar[str] = "candidates"
    stage: ClassVar[StageName] = "index"
    dataset: DatasetSpec
    split: str
    teacher: str
    """Name under which the teacher appears in tables."""
    digest: str
    """Of a teacher without vectors (a cross-encoder's weights, BM25's settings)."""
    documents: EmbeddingSpec | None = None
    queries: EmbeddingSpec | None = None
    first: CandidatesSpec | None = None
    """The table whose candidates a cross-encoder rescores."""
    search: SearchConfig
    location: TeacherLocation


class CandidatesBlockSpec(Spec):
    """Candidates of some of the queries: a part of a table that is searched on a cluster."""

    kind: ClassVar[str] = "candidates-block"
    stage: ClassVar[StageName] = "index"
    table: CandidatesSpec
    start: int
    """The first query, counted within the split."""
    stop: int
    """After the last query."""


class MiningSpec(Spec):
    """Mined triples."""

    kind: ClassVar[str] = "mining"
    version: ClassVar[int] = 5
    stage: ClassVar[StageName] = "mine"
    dataset: DatasetSpec
    split: str
    candidates: tuple[CandidatesSpec, ...]
    mining: MiningConfig
    """As configured; the judge by its label."""
    judge: str
    """Digest of the judge's weights or prompt, empty without one."""
    seed: int
    location: JudgeLocation

    @property
    def configured(self) -> MiningConfig:
        """The configuration with the judge from where it lies."""
        return self.mining.model_copy(update={"judge": self.location.judge})


class CheckpointSpec(Spec):
    """A trained student."""

    kind: ClassVar[str] = "checkpoint"
    version: ClassVar[int] = 2
    stage: ClassVar[StageName] = "train"
    dataset: DatasetSpec
    mining: MiningSpec
    student: StudentSpec
    training: TrainingConfig
    seed: int

    @property
    def sources(self) -> tuple[MiningSpec, ...]:
        """What it is trained on."""
        return (self.mining,)


class LabelledSpec(Spec):
    """Samples drawn from the labels of a classification, clustering or similarity set, as if they had been mined."""

    kind: ClassVar[str] = "labelled"
    stage: ClassVar[StageName] = "mine"
    digest: str
    """Of the rows."""
    task: Task
    columns: dict[str, str]
    samples: int | None
    negatives: int
    seed: int
    location: BlendLocation


class BlendedCheckpointSpec(Spec):
    """A student trained on several sources, in one stage of a blend."""

    kind: ClassVar[str] = "checkpoint"
    version: ClassVar[int] = 2
    stage: ClassVar[StageName] = "train"
    sources: tuple[MiningSpec | LabelledSpec, ...]
    query_prompts: tuple[str, ...]
    """One a source."""
    samples: tuple[int | None, ...]
    """At most so many of each source."""
    start: StudentSpec | BlendedCheckpointSpec
    training: TrainingConfig
    seed: int
    title: Title

    @property
    def student(self) -> StudentSpec:
        """The untrained student."""
        return self.start if isinstance(self.start, StudentSpec) else self.start.student

    def stages(self) -> tuple[BlendedCheckpointSpec, ...]:
        """Return the stages up to this one, the first one first."""
        return (self,) if isinstance(self.start, StudentSpec) else (*self.start.stages(), self)


TrainedSpec = CheckpointSpec | BlendedCheckpointSpec


class EvaluationSpec(Spec):
    """Scores of one system on one split."""

    kind: ClassVar[str] = "evaluation"
    version: ClassVar[int] = 2
    stage: ClassVar[StageName] = "evaluate"
    dataset: DatasetSpec
    system: str
    """`base`, `trained`, or a teacher's name: how the system appears in tables."""
    digest: str = ""
    documents: EmbeddingSpec | None = None
    queries: EmbeddingSpec | None = None
    evaluation: EvaluationConfig
    location: TeacherLocation


class AuditSpec(Spec):
    """How many of the negatives that rules would mine are false."""

    kind: ClassVar[str] = "audit"
    version: ClassVar[int] = 6
    stage: ClassVar[StageName] = "audit"
    dataset: DatasetSpec
    split: str
    candidates: tuple[CandidatesSpec, ...]
    audit: AuditConfig


for _spec in Spec.__subclasses__():  # some name classes that are defined below them
    _spec.model_rebuild()
