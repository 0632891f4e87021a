"""Random numbers that belong to things, not to a sequence: each is a hash of (seed, query id, document id).

So a draw does not depend on the batch, the block, the worker or the order of the input (pitfall 14).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nv_retriever.splitmix import GOLDEN, scramble

Keys = npt.NDArray[np.uint64]


def id_keys(ids: Iterable[str]) -> Keys:
    """Return 64-bit keys of ids, the first eight bytes of their BLAKE2b: the same on every machine."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def mix(seed: int, *keys: Keys) -> Keys:
    """Return one well-mixed 64-bit hash per element of the broadcast keys."""
    mixed = scramble(np.array([seed], np.int64).astype(np.uint64) + GOLDEN)
    for key in keys:
        mixed = scramble((mixed ^ key) + GOLDEN)
    return mixed


def uniform(hashes: Keys) -> npt.NDArray[np.float64]:
    """Return numbers inside the open interval (0, 1), 53 bits each."""
    return ((hashes >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def gumbel(hashes: Keys) -> npt.NDArray[np.float64]:
    """Return standard Gumbel numbers: the order of score + Gumbel is a draw without replacement by softmax of the scores."""
    return -np.log(-np.log(uniform(hashes)))


class IdKeys:
    """The keys of a table's queries and of the documents, computed when they are first needed."""

    def __init__(self, query_ids: Callable[[], Iterable[str]], document_ids: Callable[[], Iterable[str]]) -> None:
        self._query_ids, self._document_ids = query_ids, document_ids

    @cached_property
    def queries(self) -> Keys:
        """(n_queries,) uint64."""
        return id_keys(self._query_ids())

    @cached_property
    def documents(self) -> Keys:
        """(n_documents,) uint64."""
        return id_keys(self._document_ids())
