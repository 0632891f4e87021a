"""Training: the untrained student, and the checkpoint trained on mined triples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import (
    BlendedCheckpointSpec,
    CheckpointSpec,
    LabelledSpec,
    MiningSpec,
    StudentSpec,
    TrainedSpec,
)
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob
from tasks.opening import model_folder, open_dataset
from tasks.stage import build, stage_task


@stage_task("train")
def make_student(spec: StudentSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Write the untrained student as a plain sentence-transformers folder."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.training.build import write_student
        from nv_retriever.training.config import StudentConfig

        fields = {name: getattr(spec, name) for name in ("layers", "bidirectional", "pool_prompt", "dtype")}
        return write_student(folder, StudentConfig(encoder=spec.location.encoder, **fields))

    return build(spec, home, write)


@stage_task("train")
def train(spec: CheckpointSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Train the student on mined triples, with its curves in MLflow."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        guide = guide_vectors(spec.mining, spec.training, store)
        mined = Mined(open_dataset(spec.dataset, store), spec.mining.split, store.open(spec.mining.ref), guide=guide)
        return train_model(folder, [mined], store.open(spec.student.ref) / "model", spec, home, runtime)

    return build(spec, home, write)


@stage_task("train")
def train_stage(spec: BlendedCheckpointSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Train one stage of a blend, every batch of one of its sources."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        sources = [
            blended(source, prompt, samples, spec.training, store)
            for source, prompt, samples in zip(spec.sources, spec.query_prompts, spec.samples, strict=True)
        ]
        return train_model(folder, sources, Path(model_folder(spec.start, store)), spec, home, runtime)

    return build(spec, home, write)


def train_model(
    folder: Path, sources: list[Mined], start: Path, spec: TrainedSpec, home: str, runtime: Runtime
) -> dict[str, Any]:
    """Train, with the curves in MLflow."""
    from nv_retriever.training.build import run_training_job
    from tasks.tracking.training import TrainingRun

    with TrainingRun(spec, home) as run:
        return run_training_job(folder, TrainingJob(sources, start, spec.training, spec.seed, runtime), run.log)


def blended(
    source: MiningSpec | LabelledSpec, prompt: str, samples: int | None, training: TrainingConfig, store: ArtifactStore
) -> Mined:
    """Return a source of a blend; the samples of a labelled one are no negatives of each other: their classes agree."""
    from nv_retriever.data.dataset import Dataset

    folder = store.open(source.ref)
    if isinstance(source, LabelledSpec):
        dataset = Dataset.open(folder / "dataset")
        return Mined(dataset, "train", folder, prompt, in_batch_negatives=False, samples=samples)
    dataset, guide = open_dataset(source.dataset, store), guide_vectors(source, training, store)
    return Mined(dataset, source.split, folder, prompt, samples=samples, guide=guide)


def guide_vectors(spec: MiningSpec, training: TrainingConfig, store: ArtifactStore) -> tuple[Path, Path] | None:
    """Return the first teacher's vectors (documents, queries) where the training's guide wants them."""
    first = spec.candidates[0]
    if first.documents and first.queries and training.guide and training.guide.scores == "teacher":
        return store.open(first.documents.ref), store.open(first.queries.ref)
    return None
