"""What a cross-encoder said of pairs of texts, by their content: a pair that was scored once is never scored again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from nv_retriever.embedding.vector_store import KEY, KEY_BYTES, DamagedShardError, Keys, VectorStore, text_keys
from nv_retriever.ragged import Index
from nv_retriever.search.types import FloatArray


class PairScores:
    """The scores that a folder keeps of one cross-encoder: vectors of length one in a content-keyed store.

    It is a cache: what is damaged is dropped with a warning, deleting it costs time only.
    """

    def __init__(self, folder: Path) -> None:
        self._store = VectorStore(folder)
        self._store.clean()

    def __len__(self) -> int:
        return len(self._store)

    def read(self, keys: Keys) -> FloatArray:
        """Return the scores of pairs (n,) float32, NaN where a pair was not there when the folder was opened."""
        while True:
            try:
                scores: FloatArray = self._store.read(self._store.locate(keys), 1)[:, 0]
                return scores
            except DamagedShardError as error:
                self._store.drop(error.name)

    def commit(self, keys: Keys, scores: FloatArray) -> None:
        """Keep the scores (n,) float32 of pairs, durably; those that are not finite are left out."""
        finite = np.isfinite(scores)
        self._store.commit(keys[finite], np.ascontiguousarray(scores[finite, None]))


def pair_keys(queries: list[str], query_of: Index, documents: list[str], document_of: Index) -> Keys:
    """Return the keys (n,) of pairs, which are numbers of `queries` and of `documents`, (n,) each."""
    left, right = (
        text_keys(texts, "").view(np.uint8).reshape(-1, KEY_BYTES)[of]
        for texts, of in ((queries, query_of), (documents, document_of))
    )
    joined, size = np.concatenate([left, right], axis=1).tobytes(), 2 * KEY_BYTES
    pairs = (joined[start : start + size] for start in range(0, len(joined), size))
    return np.frombuffer(b"".join(hashlib.blake2b(pair, digest_size=KEY_BYTES).digest() for pair in pairs), KEY)
