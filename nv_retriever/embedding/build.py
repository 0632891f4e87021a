"""The embed stage: embed the texts that the store does not have, then lay all vectors out in row order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.embedder import Precomputed, TextEmbedder
from nv_retriever.embedding.missing import embed_missing
from nv_retriever.embedding.shards import write_vectors
from nv_retriever.embedding.texts import KeyedTexts, Texts
from nv_retriever.embedding.vector_store import DamagedShardError, Places, VectorStore
from nv_retriever.search.types import FloatArray

ATTEMPTS = 5


def write_embeddings(
    folder: Path,
    dataset: Dataset,
    part: str,
    embedder: TextEmbedder | Precomputed,
    vectors_root: Path,
) -> dict[str, Any]:
    """Write the embeddings artifact of `documents` or of a split's queries; returns the counts for the manifest.

    Texts that the store below `vectors_root` has are not embedded again, equal texts are embedded once, finished windows
    survive a kill. Vectors that are not finite are not stored; their rows are listed as quarantined.
    """
    if isinstance(embedder, Precomputed):
        return embedder.write_part(folder, dataset, part)
    texts = Texts.of(dataset, part)
    keyed = KeyedTexts.of(texts, embedder)
    precision, fidelity = embedder.settle(keyed.sample(embedder, vectors_root), texts.role)
    store = VectorStore(vectors_root / embedder.space(precision))
    store.clean()
    info = {
        "model": embedder.label,
        "score_kind": embedder.score_kind,
        "precision": precision,
        "fidelity": fidelity.as_json() if fidelity else None,
    }
    encoded = 0
    for attempt in range(ATTEMPTS):
        encoded += embed_missing(store, keyed, embedder, precision, f"embed {part}")
        places = store.locate(keyed.keys)
        try:
            dim = store.dim or embedder.dim
            written = write_vectors(folder, texts.n, dim, _gather(store, places, dim), info)
            break
        except DamagedShardError as error:
            if attempt == ATTEMPTS - 1:
                raise
            store.drop(error.name)
    quarantined = len(written["quarantined"])
    counts = {"texts": len(keyed.unique), "encoded": encoded, "reused": max(len(keyed.unique) - encoded, 0)}
    return {**written, **counts, "quarantined": quarantined}


def _gather(store: VectorStore, places: Places, dim: int) -> Callable[[int, int], FloatArray]:
    return lambda start, stop: store.read(places[start:stop], dim)
