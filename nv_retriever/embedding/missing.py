"""Embed the texts that the store does not have, window by window, each committed."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator

import numpy as np

from nv_retriever.embedding.embedder import TextEmbedder
from nv_retriever.embedding.texts import READ_TEXTS, KeyedTexts, Rows, Texts
from nv_retriever.embedding.vector_store import VectorStore
from nv_retriever.progress import progress
from nv_retriever.teachers.identity import Precision
from nv_retriever.window import WindowSize

logger = logging.getLogger(__name__)
FIRST, FEWEST, MOST = 1 << 15, 1 << 12, 1 << 23
"""Characters that are embedded and committed at once: of the first window, and of any."""


def embed_missing(store: VectorStore, keyed: KeyedTexts, embedder: TextEmbedder, precision: Precision, title: str) -> int:
    """Embed what the store does not have, window by window, each committed; returns the number of texts embedded."""
    missing = np.flatnonzero(store.locate(keyed.unique) < 0)
    missing = missing[np.argsort(keyed.first[missing], kind="stable")]
    rows, keys = keyed.first[missing], keyed.unique[missing]
    if not len(rows):
        return 0
    size, under_way = WindowSize(FIRST, FEWEST, MOST), deque[list[str]]()

    def windows() -> Iterator[list[str]]:
        """Yield the windows, noting those that the model was given."""
        for window in _windows(keyed.texts, rows, embedder.window_texts, size):
            under_way.append(window)
            yield window

    done = quarantined = 0
    with progress(title, len(rows), "texts") as bar:
        for vectors in embedder.encode_windows(windows(), keyed.texts.role, precision):
            window = under_way.popleft()
            finite = np.isfinite(vectors).all(axis=1)
            store.commit(keys[done : done + len(window)][finite], np.ascontiguousarray(vectors[finite], np.float32))
            quarantined += len(window) - int(finite.sum())
            done += len(window)
            bar.advance(len(window))
            size.measure(sum(map(len, window)))
    if quarantined:
        logger.warning("%d texts have vectors of %s that are not finite: they are quarantined", quarantined, embedder.label)
    store.refresh()
    return done


def _windows(texts: Texts, rows: Rows, most: int, size: WindowSize) -> Iterator[list[str]]:
    """Yield the texts of rows in order, at most `most` or about `size.units` at a time."""
    window: list[str] = []
    characters = 0
    for start in range(0, len(rows), READ_TEXTS):
        for text in texts.read(rows[start : start + READ_TEXTS]):
            if window and (len(window) >= most or characters + len(text) > size.units):
                yield window
                window, characters = [], 0
            window.append(text)
            characters += len(text)
    if window:
        yield window
