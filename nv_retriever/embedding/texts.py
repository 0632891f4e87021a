"""The texts of one part of a data set, by row and by content key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.calibration import SAMPLE_TEXTS, Recorded
from nv_retriever.embedding.embedder import TextEmbedder
from nv_retriever.embedding.vector_store import KEY, Keys, text_keys
from nv_retriever.teachers.identity import Role

READ_TEXTS = 8192
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """The documents, or a split's queries."""

    n: int
    role: Role
    read: Callable[[Rows], list[str]]
    stream: Callable[[], Iterator[tuple[int, list[str]]]]

    @staticmethod
    def of(dataset: Dataset, part: str) -> Texts:
        """Return the texts of `documents` or of a split's queries."""
        if part == "documents":
            return Texts(
                dataset.n_documents,
                "document",
                dataset.document_texts,
                lambda: dataset.iter_document_texts(READ_TEXTS),
            )
        texts = dataset.query_texts(dataset.query_rows(part))
        return Texts(len(texts), "query", lambda rows: [texts[row] for row in rows.tolist()], lambda: iter([(0, texts)]))

    def between(self, start: int, stop: int) -> Texts:
        """Return the texts of the rows from `start` to before `stop`, as rows of their own."""

        def read(rows: Rows) -> list[str]:
            """Return the texts of some of these rows."""
            return self.read(rows + start)

        n = stop - start
        steps = range(0, n, READ_TEXTS)
        return Texts(n, self.role, read, lambda: ((at, read(np.arange(at, min(at + READ_TEXTS, n)))) for at in steps))


@dataclass(frozen=True)
class KeyedTexts:
    """Texts with their keys: equal texts have one, under the prompt and length of an embedder."""

    texts: Texts
    keys: Keys
    """(n,) of each row."""
    unique: Keys
    """The different keys, ascending."""
    first: Rows
    """The first row of each different key."""

    @staticmethod
    def of(texts: Texts, embedder: TextEmbedder) -> KeyedTexts:
        """Read all texts once."""
        keys, salt = np.empty(texts.n, KEY), embedder.role_salt(texts.role)
        for start, some in texts.stream():
            keys[start : start + len(some)] = text_keys(some, salt)
        unique, first = np.unique(keys, return_index=True)
        return KeyedTexts(texts, keys, unique, first)

    def sample(self, embedder: TextEmbedder, vectors_root: Path) -> Recorded:
        """Return the texts with the smallest keys, and the file that remembers their fidelity."""
        names = [key.hex() for key in self.unique[:SAMPLE_TEXTS].tolist()]
        texts = dict(zip(names, self.texts.read(self.first[:SAMPLE_TEXTS]), strict=True))
        return Recorded(texts, vectors_root / "fidelity" / f"{embedder.space('auto')}.json")
