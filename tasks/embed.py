"""Embedding: vectors of a data set's documents, or of the queries of one split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.stages import CheckpointSpec, EmbeddingSpec, StudentSpec
from tasks.opening import model_folder, open_dataset
from tasks.stage import build, stage_task


@stage_task("embed")
def embed(spec: EmbeddingSpec, home: str, runtime: Runtime, upstream: list[ArtifactRef]) -> ArtifactRef:
    """Encode what was never encoded before, and lay the vectors out in row order."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.embedding.build import write_embeddings
        from nv_retriever.teachers.open import open_embedder

        own_model = model_folder(spec.model, store) if isinstance(spec.model, StudentSpec | CheckpointSpec) else None
        embedder = open_embedder(spec.location.source, spec.location.encoder, own_model, runtime)
        dataset = open_dataset(spec.dataset, store)
        return write_embeddings(folder, dataset, spec.part, embedder, store.root / "vectors", runtime)

    return build(spec, home, write)
