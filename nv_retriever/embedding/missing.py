"""Embed the texts that the store does not have, window by window, each committed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from nv_retriever.embedding.embedder import TextEmbedder
from nv_retriever.embedding.texts import READ_TEXTS, KeyedTexts, Rows, Texts
from nv_retriever.embedding.vector_store import VectorStore
from nv_retriever.progress import progress
from nv_retriever.teachers.identity import Precision

logger = logging.getLogger(__name__)
WINDOW_CHARACTERS = 1_000_000
"""A window is what is embedded and committed at once, and so what a kill may cost."""


def embed_missing(store: VectorStore, keyed: KeyedTexts, embedder: TextEmbedder, precision: Precision, title: str) -> int:
    """Embed what the store does not have, window by window, each committed; returns the number of texts embedded."""
    missing = np.flatnonzero(store.locate(keyed.unique) < 0)
    missing = missing[np.argsort(keyed.first[missing], kind="stable")]
    rows, keys = keyed.first[missing], keyed.unique[missing]
    if not len(rows):
        return 0
    sizes: deque[int] = deque()

    def windows() -> Iterator[Sequence[str]]:
        """Yield the windows, noting how many texts each has."""
        for window in _windows(keyed.texts, rows, embedder.window_texts):
            sizes.append(len(window))
            yield window

    done = quarantined = 0
    with progress(title, len(rows), "texts") as bar:
        for vectors in embedder.encode_windows(windows(), keyed.texts.role, precision):
            size = sizes.popleft()
            finite = np.isfinite(vectors).all(axis=1)
            store.commit(keys[done : done + size][finite], np.ascontiguousarray(vectors[finite], np.float32))
            quarantined += size - int(finite.sum())
            done += size
            bar.advance(size)
    if quarantined:
        logger.warning("%d texts have vectors of %s that are not finite: they are quarantined", quarantined, embedder.label)
    store.refresh()
    return done


def _windows(texts: Texts, rows: Rows, most: int) -> Iterator[list[str]]:
    """Yield the texts of rows in order, `most` or about WINDOW_CHARACTERS at a time."""
    window: list[str] = []
    size = 0
    for start in range(0, len(rows), READ_TEXTS):
        for text in texts.read(rows[start : start + READ_TEXTS]):
            if window and (len(window) >= most or size + len(text) > WINDOW_CHARACTERS):
                yield window
                window, size = [], 0
            window.append(text)
            size += len(text)
    if window:
        yield window
