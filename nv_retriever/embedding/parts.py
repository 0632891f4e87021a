"""Embedding in parts: ranges of rows whose texts any number of workers embed into the shared content-keyed store.

A part needs no lock and leaves nothing but committed shards, so that it may be killed, repeated, or done twice. When all
are done, `write_embeddings` finds every text in the store and lays the vectors out as if one process had embedded them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import READ_TEXTS, Rows, _embed_missing, _keys, _Part, _sample
from nv_retriever.embedding.embedder import TextEmbedder
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
    texts = _Part.of(dataset, part)
    unique, first = np.unique(_keys(texts, embedder.role_salt(texts.role)), return_index=True)
    precision, _ = embedder.settle(_sample(texts, unique, first, embedder, vectors_root), texts.role)
    store = VectorStore(vectors_root / embedder.space(precision))
    missing = np.sort(first[store.locate(unique) < 0])
    groups = np.array_split(missing, min(most, max(len(missing), 1)))
    ranges = [(int(rows[0]), int(rows[-1]) + 1) for rows in groups if len(rows)]
    return EmbeddingParts(precision, ranges, len(unique) - len(missing))


def embed_rows(
    dataset: Dataset, part: str, embedder: TextEmbedder, vectors_root: Path, precision: Precision, start: int, stop: int
) -> int:
    """Embed what the store does not have of the rows from `start` to before `stop`; returns the number of texts embedded."""
    texts = _rows_of(_Part.of(dataset, part), start, stop)
    unique, first = np.unique(_keys(texts, embedder.role_salt(texts.role)), return_index=True)
    store = VectorStore(vectors_root / embedder.space(precision))
    return _embed_missing(store, texts, unique, first, embedder, precision, f"embed {part} {start}-{stop}")


def _rows_of(texts: _Part, start: int, stop: int) -> _Part:
    def read(rows: Rows) -> list[str]:
        return texts.read(rows + start)

    n = stop - start
    steps = range(0, n, READ_TEXTS)
    return _Part(n, texts.role, read, lambda: ((at, read(np.arange(at, min(at + READ_TEXTS, n)))) for at in steps))
