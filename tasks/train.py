"""Training: the untrained student, and the checkpoint trained on mined triples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.stages import CheckpointSpec, StudentSpec
from tasks.opening import open_dataset
from tasks.stage import build, stage_task


@stage_task("train")
def make_student(spec: StudentSpec, home: str, runtime: Runtime, upstream: list[ArtifactRef]) -> ArtifactRef:
    """Write the untrained student as a plain sentence-transformers folder."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.training.build import write_student
        from nv_retriever.training.config import StudentConfig

        fields = {name: getattr(spec, name) for name in ("layers", "bidirectional", "pool_prompt", "dtype")}
        return write_student(folder, StudentConfig(encoder=spec.location.encoder, **fields))

    return build(spec, home, write)


@stage_task("train")
def train(spec: CheckpointSpec, home: str, runtime: Runtime, upstream: list[ArtifactRef]) -> ArtifactRef:
    """Train the student on mined triples, with its curves in MLflow."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.training.build import write_checkpoint
        from tasks.tracking import TrainingRun

        first = spec.mining.candidates[0]
        guide = None
        if first.documents and first.queries and spec.training.guide and spec.training.guide.scores == "teacher":
            guide = (store.open(first.documents.ref), store.open(first.queries.ref))
        with TrainingRun(spec, home) as run:
            return write_checkpoint(
                folder,
                open_dataset(spec.dataset, store),
                spec.mining.split,
                store.open(spec.mining.ref),
                store.open(spec.student.ref) / "model",
                spec.training,
                spec.seed,
                runtime,
                on_log=run.log,
                guide=guide,
            )

    return build(spec, home, write)
