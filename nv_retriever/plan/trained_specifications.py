"""From a configuration to the specifications of what it trains: one data set's student, or a blend's in stages."""

from __future__ import annotations

from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import InputError
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import dataset_spec, mining_spec, student_spec
from nv_retriever.plan.stages import (
    BlendedCheckpointSpec,
    BlendLocation,
    CheckpointSpec,
    DatasetSpec,
    LabelledSpec,
    MiningSpec,
    StudentSpec,
    Title,
    TrainedSpec,
)
from nv_retriever.teachers.encoder import model_folder
from nv_retriever.training.blend import BlendConfig, BlendSource, BlendStage
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.job import check_layers, check_lengths, check_strategy, check_teachers


def trained_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> TrainedSpec:
    """Return the specification of what a run trains: on one data set, or on a blend of several."""
    return checkpoint_spec(config, dataset) if config.blend is None else blended_spec(config, config.blend)


def checkpoint_spec(config: PipelineConfig, dataset: DatasetSpec | None = None) -> CheckpointSpec:
    """Return the specification of the trained student, with everything upstream of it."""
    mining = mining_spec(config, dataset)
    check_training(config, config.training, config.mining.selection)
    student = model_folder(config.student.encoder)
    check_layers(config.untrained, student)
    check_lengths(config.training, student)
    return CheckpointSpec(
        dataset=mining.dataset,
        mining=mining,
        student=student_spec(config.untrained),
        training=config.training,
        seed=config.seed,
    )


def check_training(config: PipelineConfig, training: TrainingConfig, selection: str, mined: bool = True) -> None:
    """Raise InputError for a training that wants what this machine or the mining has not: here it costs no mining.

    `selection` is that of its negatives, `mined` whether some of its sources are: others have no teachers.
    """
    from nv_retriever.mining.selection import parse_selection
    from nv_retriever.teachers.names import score_kind

    check_strategy(training, training.processes)
    if training.negatives is not None and training.negatives > (count := parse_selection(selection).count):
        hint = "mining.selection (or --negatives) says how many are mined"
        raise InputError("training.negatives", f"at most {count}, as {selection} mines", str(training.negatives), hint)
    if not mined:
        return
    teachers = config.choosing_teachers
    kinds = sorted({score_kind(teacher) for teacher in teachers}) if training.distillation else ()
    vectors = teachers[0].kind not in ("bm25", "cross-encoder")
    check_teachers(training, kinds, config.mining.ensemble.startswith("intra"), vectors)


def blended_spec(config: PipelineConfig, blend: BlendConfig) -> BlendedCheckpointSpec:
    """Return the specification of the last stage of a blend, with everything upstream of it."""
    datasets = {source.name: blend_dataset(source) for source in blend.sources if source.task == "retrieval"}
    start: StudentSpec | BlendedCheckpointSpec = student_spec(config.untrained)
    student = model_folder(config.student.encoder)
    check_layers(config.untrained, student)
    for stage in blend.stages:
        chosen = blend.of(stage)
        check_lengths(stage.training, student)
        mined = any(source.task == "retrieval" for source in chosen)
        check_training(config, stage.training, stage.selection, mined)
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
