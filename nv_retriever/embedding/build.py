"""The embed stage: embed the texts that the store does not have, then lay all vectors out in row order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.calibration import SAMPLE_TEXTS, Recorded
from nv_retriever.embedding.embedder import Precomputed, TextEmbedder
from nv_retriever.embedding.shards import write_vectors
from nv_retriever.embedding.vector_store import KEY, DamagedShardError, Keys, Places, VectorStore, text_keys
from nv_retriever.progress import progress
from nv_retriever.search.types import FloatArray
from nv_retriever.teachers.identity import Precision, Role

logger = logging.getLogger(__name__)
READ_TEXTS = 8192
WINDOW_CHARACTERS = 1_000_000
"""A window is what is embedded and committed at once, and so what a kill may cost."""
ATTEMPTS = 5
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    """The texts of one part of a data set, by row."""

    n: int
    role: Role
    read: Callable[[Rows], list[str]]
    stream: Callable[[], Iterator[tuple[int, list[str]]]]

    @staticmethod
    def of(dataset: Dataset, part: str) -> _Part:
        if part == "documents":
            return _Part(
                dataset.n_documents,
                "document",
                dataset.document_texts,
                lambda: dataset.iter_document_texts(READ_TEXTS),
            )
        texts = dataset.query_texts(dataset.query_rows(part))
        return _Part(len(texts), "query", lambda rows: [texts[row] for row in rows.tolist()], lambda: iter([(0, texts)]))


def write_embeddings(
    folder: Path,
    dataset: Dataset,
    part: str,
    embedder: TextEmbedder | Precomputed,
    vectors_root: Path,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Write the embeddings artifact of `documents` or of a split's queries; returns the counts for the manifest.

    Texts that the store below `vectors_root` has are not embedded again, equal texts are embedded once, finished windows
    survive a kill. Vectors that are not finite are not stored; their rows are listed as quarantined.
    """
    if isinstance(embedder, Precomputed):
        return embedder.write_part(folder, dataset, part)
    texts = _Part.of(dataset, part)
    keys = _keys(texts, embedder.role_salt(texts.role))
    unique, first = np.unique(keys, return_index=True)
    precision, fidelity = embedder.settle(_sample(texts, unique, first, embedder, vectors_root), texts.role)
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
        encoded += _embed_missing(store, texts, unique, first, embedder, precision, f"embed {part}")
        places = store.locate(keys)
        try:
            dim = store.dim or embedder.dim
            written = write_vectors(folder, texts.n, dim, _gather(store, places, dim), info)
            break
        except DamagedShardError as error:
            if attempt == ATTEMPTS - 1:
                raise
            store.drop(error.name)
    quarantined = len(written["quarantined"])
    counts = {"texts": len(unique), "encoded": encoded, "reused": len(unique) - min(encoded, len(unique))}
    return {**written, **counts, "quarantined": quarantined}


def _gather(store: VectorStore, places: Places, dim: int) -> Callable[[int, int], FloatArray]:
    return lambda start, stop: store.read(places[start:stop], dim)


def _keys(texts: _Part, salt: str) -> Keys:
    keys = np.empty(texts.n, KEY)
    for start, some in texts.stream():
        keys[start : start + len(some)] = text_keys(some, salt)
    return keys


def _sample(texts: _Part, unique: Keys, first: Rows, embedder: TextEmbedder, root: Path) -> Recorded:
    """Return the texts with the smallest keys, and the file that remembers their fidelity."""
    rows = first[:SAMPLE_TEXTS]
    names = [key.hex() for key in unique[:SAMPLE_TEXTS].tolist()]
    return Recorded(dict(zip(names, texts.read(rows), strict=True)), root / "fidelity" / f"{embedder.space('auto')}.json")


def _embed_missing(
    store: VectorStore,
    texts: _Part,
    unique: Keys,
    first: Rows,
    embedder: TextEmbedder,
    precision: Precision,
    title: str,
) -> int:
    """Embed what the store does not have, window by window, each committed; returns the number of texts embedded."""
    missing = store.locate(unique) < 0
    by_row = np.argsort(first[missing], kind="stable")
    rows, keys = first[missing][by_row], unique[missing][by_row]
    if not len(rows):
        return 0
    sizes: deque[int] = deque()

    def windows() -> Iterator[Sequence[str]]:
        for window in _windows(texts, rows, embedder.window_texts):
            sizes.append(len(window))
            yield window

    done = quarantined = 0
    with progress(title, len(rows), "texts") as bar:
        for vectors in embedder.encode_windows(windows(), texts.role, precision):
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


def _windows(texts: _Part, rows: Rows, most: int) -> Iterator[list[str]]:
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
