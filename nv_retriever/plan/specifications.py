"""From a configuration to specifications: every artifact of a stage named before anything runs."""

from __future__ import annotations

from pathlib import Path

from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import benchmark_settings
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.stages import (
    AuditSpec,
    CandidatesSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    JudgeLocation,
    LabelledSpec,
    Location,
    MiningSpec,
    Spec,
    StudentSpec,
    TeacherLocation,
    TrainedSpec,
)
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.identity import EncoderIdentity
from nv_retriever.teachers.model_folder import check_revision
from nv_retriever.training.config import StudentConfig

EmbeddingModel = EncoderIdentity | StudentSpec | TrainedSpec | str


def dataset_spec(config: DatasetConfig) -> DatasetSpec:
    """Return the specification of the data set; reads its files' digests, raises InputError where it is missing."""
    from nv_retriever.data.build import source_digest
    from nv_retriever.data.open import empty_policy

    digest = source_digest(config)
    path = Path(config.source).expanduser()
    name = path.resolve().name if path.exists() else config.source
    settled = config.model_copy(update={"source": name, "on_empty": empty_policy(config)})
    return DatasetSpec(config=settled, digest=digest, location=Location(source=config.source))


def check_unchanged(spec: Spec) -> None:
    """Raise InputError where what a stage reads from outside is not what the plan saw: the artifact is named after that."""
    where, planned, now = _external(spec)
    if planned != now:
        expected = "what it held when the run was planned"
        raise InputError(where, expected, "something else", "it was changed meanwhile: run the same command again")


def _external(spec: Spec) -> tuple[str, object, object]:
    """Return what a stage reads from outside: where it lies, its digest as planned, and as it is now."""
    from nv_retriever.data.build import source_digest
    from nv_retriever.mining.judge import judge_digest
    from nv_retriever.teachers.encoder import resolve_encoder
    from nv_retriever.teachers.names import teacher_digest
    from nv_retriever.training.labelled_source import rows_digest

    match spec:
        case DatasetSpec(location=place):
            return place.source, spec.digest, source_digest(spec.config.model_copy(update={"source": place.source}))
        case StudentSpec(location=place):
            return place.encoder.model, spec.identity, student_spec(StudentConfig(encoder=place.encoder)).identity
        case EmbeddingSpec(model=EncoderIdentity(), location=place):
            return place.source, spec.model, resolve_encoder(place.encoder)
        case EmbeddingSpec(model=str(), location=place):
            return place.source, spec.model, teacher_digest(TeacherConfig(name=place.source, encoder=place.encoder))
        case CandidatesSpec(documents=None, location=place) | EvaluationSpec(documents=None, location=place):
            return place.teacher.name, spec.digest, teacher_digest(place.teacher)
        case MiningSpec():
            return spec.location.judge or "", spec.judge, judge_digest(spec.location.judge)
        case LabelledSpec(location=rows):
            return rows.source.source, spec.digest, rows_digest(rows.source.source)
    return "", None, None


def student_spec(config: StudentConfig) -> StudentSpec:
    """Return the specification of the untrained student.

    The precision of its encoder is how it is evaluated; how it is trained is `training.precision`.
    """
    from nv_retriever.teachers.encoder import resolve_encoder

    check_revision(config.encoder.model, config.encoder.revision, "student.encoder")
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
    """Return the specification of every choosing teacher's candidate table; a cross-encoder rescores the first teacher's."""
    from nv_retriever.teachers.names import target, teacher_digest

    specs: list[CandidatesSpec] = []
    for place, teacher in enumerate(config.teachers):
        check_revision(target(teacher), teacher.encoder.revision, f"teachers.{place}.encoder")
        location = TeacherLocation(teacher=teacher)
        documents, queries = teacher_embeddings(teacher, dataset, config.split)
        rescores = teacher.kind == "cross-encoder"
        if rescores and not specs:
            hint = "name another teacher before it, e.g. --teacher minilm"
            raise InputError(f"teacher {teacher.name}", "a teacher before it, whose candidates it rescores", "none", hint)
        specs.append(
            CandidatesSpec(
                dataset=dataset,
                split=config.split,
                teacher=teacher.label,
                digest="" if documents else teacher_digest(teacher),
                documents=documents,
                queries=queries,
                first=specs[0] if rescores else None,
                search=config.search,
                location=location,
            )
        )
    return tuple(spec for spec, teacher in zip(specs, config.teachers, strict=True) if not teacher.only_retrieves)


def teacher_embeddings(
    teacher: TeacherConfig, dataset: DatasetSpec, split: str
) -> tuple[EmbeddingSpec | None, EmbeddingSpec | None]:
    """Return the vectors that a teacher needs, or (None, None) where it scores texts directly."""
    from nv_retriever.teachers.encoder import resolve_encoder
    from nv_retriever.teachers.names import teacher_digest

    if teacher.kind in ("bm25", "cross-encoder"):
        return None, None
    model = resolve_encoder(teacher.encoder_config()) if teacher.kind == "encoder" else teacher_digest(teacher)
    location = Location(source=teacher.name, encoder=teacher.encoder_config())
    return embedding_specs(dataset, split, model, location)


def check_one_dataset(config: PipelineConfig) -> None:
    """Raise InputError where what works on one data set is given a blend."""
    if config.blend is not None:
        raise InputError("blend", "`nvr run`, `nvr train` or `nvr plan`", "a command that works on one data set")


def mining_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> MiningSpec:
    """Return the specification of the mined triples, with everything upstream of it."""
    from nv_retriever.mining.judge import judge_digest, judge_label
    from nv_retriever.mining.teachers import check_plan, plan_of
    from nv_retriever.teachers.names import score_kind

    check_one_dataset(config)
    choosing = [(teacher.label, score_kind(teacher)) for teacher in config.choosing_teachers]
    check_plan(plan_of(config.mining, config.seed), choosing)
    dataset, judge = dataset or dataset_spec(config.dataset), config.mining.judge
    return MiningSpec(
        dataset=dataset,
        split=config.split,
        candidates=candidates_specs(config, dataset),
        mining=config.mining.model_copy(update={"judge": judge and judge_label(judge)}),
        judge=judge_digest(judge),
        seed=config.seed,
        location=JudgeLocation(judge=judge),
    )


def audit_spec(config: PipelineConfig) -> AuditSpec:
    """Return the specification of the audit: rules over the stored candidates of every teacher."""
    check_one_dataset(config)
    dataset = dataset_spec(config.dataset)
    mining = {"rule": config.mining.rule, "selection": config.mining.selection, "seed": config.seed}
    audit = config.audit.model_copy(update=mining | {"max_rate": None})
    return AuditSpec(dataset=dataset, split=config.split, candidates=candidates_specs(config, dataset), audit=audit)


def evaluation_spec(
    config: PipelineConfig, dataset: DatasetSpec, system: str, model: StudentSpec | TrainedSpec | TeacherConfig
) -> EvaluationSpec:
    """Return the specification of one system's scores on the evaluation split; a benchmark's name brings its own rules.

    The resamples of comparisons are left out: they change no score. An encoder whose precision is left to `auto` is
    measured in fp32: scores are then the published ones, on every machine. An untrained student of which nothing was
    changed is its encoder: where that teaches too, in the same precision, the documents have its vectors already.
    """
    from nv_retriever.teachers.names import teacher_digest

    evaluation = benchmark_settings(config.evaluation, dataset.location.source)
    evaluation = evaluation.model_copy(update={"resamples": EvaluationConfig().resamples})
    split = evaluation.split
    documents: EmbeddingSpec | None
    queries: EmbeddingSpec | None
    if isinstance(model, StudentSpec) and model.as_given:
        model = TeacherConfig(name=config.student.encoder.model, encoder=config.student.encoder)
    if isinstance(model, TeacherConfig):
        if model.kind == "cross-encoder":
            expected = "a model that retrieves (an encoder, bm25, an endpoint, vectors)"
            raise InputError(f"model {model.name}", expected, "a cross-encoder, which rescores candidates")
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
