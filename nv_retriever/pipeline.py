"""The configuration of a whole run, and the plan that follows from it: every artifact named before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from nv_retriever.audit.config import AuditConfig
from nv_retriever.config import MOST_SEED, Frozen, Runtime
from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import benchmark_settings
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.mining.config import MiningConfig
from nv_retriever.search.config import SearchConfig
from nv_retriever.stages import (
    AuditSpec,
    BlendedCheckpointSpec,
    BlendLocation,
    CandidatesSpec,
    CheckpointSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    LabelledSpec,
    Location,
    MiningSpec,
    Spec,
    StudentSpec,
    TeacherLocation,
    Title,
    TrainedSpec,
)
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.identity import EncoderIdentity
from nv_retriever.training.blend import BlendConfig, BlendSource, BlendStage
from nv_retriever.training.config import StudentConfig, TrainingConfig

EmbeddingModel = EncoderIdentity | StudentSpec | TrainedSpec | str


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
    student: StudentConfig = StudentConfig(layers=2)
    """The model that is trained; by default the first two layers of the packaged MiniLM."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""
    blend: BlendConfig | None = None
    """Train on several data sets, in stages; then `dataset` is what is measured, and the stages say what `training`, and
    `mining.selection`, say otherwise."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How retrievers are measured."""
    audit: AuditConfig = AuditConfig()
    """What an audit of the miner sweeps, and the rate above which it fails the run."""
    leakage: Literal["fail", "allow"] = "fail"
    """What to do when queries of the evaluation split are, word for word, queries of the training split."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """The one seed."""
    runtime: Runtime = Runtime()
    """How the run is carried out; changes no result."""

    @model_validator(mode="after")
    def _an_audit_mines_as_the_run(self) -> Self:
        for name, setting in (("rule", "mining.rule"), ("selection", "mining.selection"), ("seed", "seed")):
            if self.audit.differs(name):
                found = repr(getattr(self.audit, name))
                raise InputError(f"audit.{name}", f"nothing: a run audits what it mines, which {setting} says", found)
        return self


def dataset_spec(config: DatasetConfig) -> DatasetSpec:
    """Return the specification of the data set; reads its files' digests, raises InputError where it is missing."""
    from nv_retriever.data.build import source_digest

    digest = source_digest(config)
    name = Path(config.source).resolve().name if Path(config.source).exists() else config.source
    return DatasetSpec(
        config=config.model_copy(update={"source": name}), digest=digest, location=Location(source=config.source)
    )


def student_spec(config: StudentConfig) -> StudentSpec:
    """Return the specification of the untrained student.

    The precision of its encoder is how it is evaluated; how it is trained is `training.precision`.
    """
    from nv_retriever.teachers.encoder import resolve_encoder

    return StudentSpec(
        identity=resolve_encoder(config.encoder).model_copy(update={"precision": "auto"}),
        layers=config.layers,
        bidirectional=config.bidirectional,
        pool_prompt=config.pool_prompt,
        dtype=config.dtype,
        location=Location(encoder=config.encoder),
    )


def embedding_specs(
    dataset: DatasetSpec, split: str, model: EmbeddingModel, location: Location
) -> tuple[EmbeddingSpec, EmbeddingSpec]:
    """Return the specifications of the vectors of the documents, and of the queries of `split`."""
    documents, queries = (
        EmbeddingSpec(dataset=dataset, part=part, model=model, precision=location.encoder.precision, location=location)
        for part in ("documents", split)
    )
    return documents, queries


def candidates_specs(config: PipelineConfig, dataset: DatasetSpec) -> tuple[CandidatesSpec, ...]:
    """Return the specification of every teacher's candidate table; a cross-encoder rescores the first table."""
    from nv_retriever.teachers.parse import teacher_digest

    specs: list[CandidatesSpec] = []
    for teacher in config.teachers:
        location = TeacherLocation(teacher=teacher)
        documents, queries = teacher_embeddings(teacher, dataset, config.split)
        rescores = teacher.name.startswith("cross-encoder:")
        specs.append(
            CandidatesSpec(
                dataset=dataset,
                split=config.split,
                teacher=teacher.label,
                digest="" if documents else teacher_digest(teacher),
                documents=documents,
                queries=queries,
                first=specs[0] if rescores and specs else None,
                search=config.search,
                location=location,
            )
        )
    return tuple(specs)


def teacher_embeddings(
    teacher: TeacherConfig, dataset: DatasetSpec, split: str
) -> tuple[EmbeddingSpec | None, EmbeddingSpec | None]:
    """Return the vectors that a teacher needs, or (None, None) where it scores texts directly."""
    from nv_retriever.teachers.encoder import resolve_encoder
    from nv_retriever.teachers.parse import teacher_digest

    if teacher.kind in ("bm25", "cross-encoder"):
        return None, None
    model = resolve_encoder(teacher.encoder_config()) if teacher.kind == "encoder" else teacher_digest(teacher)
    location = Location(source=teacher.name, encoder=teacher.encoder_config())
    return embedding_specs(dataset, split, model, location)


def one_data_set_only() -> InputError:
    """Return the error of what works on one data set and was given a blend."""
    return InputError("blend", "`nvr run`, `nvr train` or `nvr plan`", "a command that works on one data set")


def mining_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> MiningSpec:
    """Return the specification of the mined triples, with everything upstream of it."""
    from nv_retriever.mining.judge import judge_digest
    from nv_retriever.mining.teachers import check_plan, plan_of
    from nv_retriever.teachers.parse import score_kind

    if config.blend is not None:
        raise one_data_set_only()
    check_plan(plan_of(config.mining, config.seed), [(teacher.label, score_kind(teacher)) for teacher in config.teachers])
    dataset = dataset or dataset_spec(config.dataset)
    return MiningSpec(
        dataset=dataset,
        split=config.split,
        candidates=candidates_specs(config, dataset),
        mining=config.mining,
        judge=judge_digest(config.mining.judge),
        seed=config.seed,
    )


def audit_spec(config: PipelineConfig) -> AuditSpec:
    """Return the specification of the audit: rules over the stored candidates of every teacher."""
    if config.blend is not None:
        raise one_data_set_only()
    dataset = dataset_spec(config.dataset)
    mining = {"rule": config.mining.rule, "selection": config.mining.selection, "seed": config.seed}
    audit = config.audit.model_copy(update=mining | {"max_rate": None})
    return AuditSpec(dataset=dataset, split=config.split, candidates=candidates_specs(config, dataset), audit=audit)


def checkpoint_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> CheckpointSpec:
    """Return the specification of the trained student, with everything upstream of it."""
    mining = mining_spec(config, dataset)
    return CheckpointSpec(
        dataset=mining.dataset,
        mining=mining,
        student=student_spec(config.student),
        training=config.training,
        seed=config.seed,
    )


def blended_spec(config: PipelineConfig, blend: BlendConfig) -> BlendedCheckpointSpec:
    """Return the specification of the last stage of a blend, with everything upstream of it."""
    datasets = {source.name: blend_dataset(source) for source in blend.sources if source.task == "retrieval"}
    start: StudentSpec | BlendedCheckpointSpec = student_spec(config.student)
    for stage in blend.stages:
        chosen = blend.of(stage)
        start = BlendedCheckpointSpec(
            sources=tuple(blend_source_spec(config, stage, source, datasets.get(source.name)) for source in chosen),
            query_prompts=tuple(source.query_prompt for source in chosen),
            samples=tuple(source.samples for source in chosen),
            start=start,
            training=stage.training,
            seed=config.seed,
            title=Title(blend=blend.name, stage=stage.name, sources=tuple(source.name for source in chosen)),
        )
    assert isinstance(start, BlendedCheckpointSpec)
    return start


def blend_dataset(source: BlendSource) -> DatasetSpec:
    """Return the data set of a retrieval source; of `samples` samples, as many queries are enough."""
    return dataset_spec(DatasetConfig(source=source.source, columns=source.columns, train_limit=source.samples))


def blend_source_spec(
    config: PipelineConfig, stage: BlendStage, source: BlendSource, dataset: DatasetSpec | None
) -> MiningSpec | LabelledSpec:
    """Return how a source becomes the samples of a stage: mined, or drawn from its labels."""
    from nv_retriever.mining.selection import parse_selection
    from nv_retriever.training.labelled_source import rows_digest

    if dataset is not None:
        mining = config.mining.model_copy(update={"selection": stage.selection})
        return mining_spec(config.model_copy(update={"mining": mining, "blend": None}), dataset)
    return LabelledSpec(
        digest=rows_digest(source.source),
        task=source.task,
        columns=source.columns,
        samples=source.samples,
        negatives=parse_selection(stage.selection).count,
        seed=config.seed,
        location=BlendLocation(source=source),
    )


def evaluation_spec(
    config: PipelineConfig, dataset: DatasetSpec, system: str, model: StudentSpec | TrainedSpec | TeacherConfig
) -> EvaluationSpec:
    """Return the specification of one system's scores on the evaluation split; a benchmark's name brings its own rules.

    An encoder whose precision is left to `auto` is measured in fp32: scores are then the published ones, on every machine.
    """
    from nv_retriever.teachers.parse import teacher_digest

    evaluation = benchmark_settings(config.evaluation, dataset.location.source)
    split = evaluation.split
    documents: EmbeddingSpec | None
    queries: EmbeddingSpec | None
    if isinstance(model, TeacherConfig):
        teacher = model.model_copy(update={"encoder": measured_encoder(model.encoder)})
        documents, queries = teacher_embeddings(teacher, dataset, split)
    else:
        encoder = measured_encoder(config.student.encoder)
        teacher = TeacherConfig(name=encoder.model, encoder=encoder)
        location = Location(encoder=encoder)
        documents, queries = embedding_specs(dataset, split, model, location)
    return EvaluationSpec(
        dataset=dataset,
        system=system,
        digest="" if documents else teacher_digest(teacher),
        documents=documents,
        queries=queries,
        evaluation=evaluation,
        location=TeacherLocation(teacher=teacher),
    )


def measured_encoder(encoder: EncoderConfig) -> EncoderConfig:
    """Return the encoder as it is evaluated."""
    return encoder.model_copy(update={"precision": "fp32"}) if encoder.precision == "auto" else encoder


@dataclass(frozen=True)
class Plan:
    """The artifacts of a whole run."""

    checkpoint: TrainedSpec
    base: EvaluationSpec
    bm25: EvaluationSpec
    trained: EvaluationSpec
    earlier: tuple[EvaluationSpec, ...] = ()
    """Of a blend: what the stages before the last one reached."""

    @property
    def evaluations(self) -> tuple[EvaluationSpec, ...]:
        """Every system that is measured."""
        return (self.base, self.bm25, *self.earlier, self.trained)

    def specs(self) -> list[Spec]:
        """Return every specification once, each after what it reads from."""
        return ordered([self.checkpoint, *self.evaluations])


def trained_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> TrainedSpec:
    """Return the specification of what a run trains: on one data set, or on a blend of several."""
    return checkpoint_spec(config, dataset) if config.blend is None else blended_spec(config, config.blend)


def trainings(spec: TrainedSpec) -> tuple[TrainedSpec, ...]:
    """Return the trainings that lead to a checkpoint, the first one first."""
    return spec.stages() if isinstance(spec, BlendedCheckpointSpec) else (spec,)


def minings(spec: TrainedSpec) -> list[MiningSpec]:
    """Return every mining that the trainings of a checkpoint read from, each once."""
    found = {str(one.ref): one for stage in trainings(spec) for one in stage.sources if isinstance(one, MiningSpec)}
    return list(found.values())


def plan_run(config: PipelineConfig) -> Plan:
    """Return the plan of the whole pipeline; a pure function of the configuration and of the inputs' content."""
    dataset = dataset_spec(config.dataset)
    checkpoint = trained_spec(config, dataset)
    earlier = checkpoint.stages()[:-1] if isinstance(checkpoint, BlendedCheckpointSpec) else ()
    return Plan(
        checkpoint=checkpoint,
        earlier=tuple(evaluation_spec(config, dataset, f"after {one.title.stage}", one) for one in earlier),
        base=evaluation_spec(config, dataset, "base", checkpoint.student),
        bm25=evaluation_spec(config, dataset, "bm25", TeacherConfig(name="bm25")),
        trained=evaluation_spec(config, dataset, "trained", checkpoint),
    )


def ordered(specs: Sequence[Spec]) -> list[Spec]:
    """Return the specifications and all upstream ones, each once, each after what it reads from."""
    found: dict[str, Spec] = {}

    def visit(spec: Spec) -> None:
        """Add a specification after all that it reads from."""
        if str(spec.ref) not in found:
            for upstream in spec.upstream():
                visit(upstream)
            found.setdefault(str(spec.ref), spec)

    for spec in specs:
        visit(spec)
    return list(found.values())
