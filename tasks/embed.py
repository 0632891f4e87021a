"""Embedding: vectors of a data set's documents, or of the queries of one split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import EmbeddingSpec
from tasks.opening import open_dataset, open_embedder, shared_vectors
from tasks.stage import build, stage_task


@stage_task("embed")
def embed(spec: EmbeddingSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Encode what was never encoded before, and lay the vectors out in row order."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.embedding.build import write_embeddings

        embedder = open_embedder(spec, store, runtime)
        dataset = open_dataset(spec.dataset, store)
        with shared_vectors(store, embedder) as vectors:
            return write_embeddings(folder, dataset, spec.part, embedder, vectors)

    return build(spec, home, write)
