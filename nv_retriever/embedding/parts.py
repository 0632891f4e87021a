"""Embedding in parts: ranges of rows whose texts any number of workers embed into the shared content-keyed store.

A part needs no lock and leaves nothing but committed shards, so that it may be killed, repeated, or done twice. When all
are done, `write_embeddings` finds every text in the store and lays the vectors out as if one process had embedded them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.embedder import TextEmbedder
from nv_retriever.embedding.missing import embed_missing
from nv_retriever.embedding.texts import KeyedTexts, Texts
from nv_retriever.embedding.vector_store import VectorStore
from nv_retriever.teachers.identity import Precision


@dataclass(frozen=True)
class EmbeddingParts:
    """What workers have to embed."""

    precision: Precision
    """The numeric path, settled once for all of them."""
    ranges: list[tuple[int, int]]
    """(first row, after the last row) of each part; none where the store has every text."""
    known: int
    """Texts that the store has already."""


def plan_parts(dataset: Dataset, part: str, embedder: TextEmbedder, vectors_root: Path, most: int) -> EmbeddingParts:
    """Return at most `most` ranges of rows of `documents` or a split's queries, with equally many texts to embed in each."""
    keyed = KeyedTexts.of(Texts.of(dataset, part), embedder)
    precision, _ = embedder.settle(keyed.sample(embedder, vectors_root), keyed.texts.role)
    store = VectorStore(vectors_root / embedder.space(precision))
    missing = np.sort(keyed.first[store.locate(keyed.unique) < 0])
    groups = np.array_split(missing, min(most, max(len(missing), 1)))
    ranges = [(int(rows[0]), int(rows[-1]) + 1) for rows in groups if len(rows)]
    return EmbeddingParts(precision, ranges, len(keyed.unique) - len(missing))


def embed_rows(
    dataset: Dataset, part: str, embedder: TextEmbedder, vectors_root: Path, precision: Precision, start: int, stop: int
) -> int:
    """Embed what the store does not have of the rows from `start` to before `stop`; returns the number of texts embedded."""
    keyed = KeyedTexts.of(Texts.of(dataset, part).between(start, stop), embedder)
    store = VectorStore(vectors_root / embedder.space(precision))
    return embed_missing(store, keyed, embedder, precision, f"embed {part} {start}-{stop}")
