"""Random numbers that belong to things, not to a sequence: each is a hash of (seed, query id, document id).

So a draw does not depend on the batch, the block, the worker or the order of the input (pitfall 14).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
_GOLDEN, _FIRST, _SECOND = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_S30, _S27, _S31, _S11 = (np.uint64(x) for x in (30, 27, 31, 11))


def id_keys(ids: Iterable[str]) -> Keys:
    """Return 64-bit keys of ids, the first eight bytes of their BLAKE2b: the same on every machine."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _scramble(values: Keys) -> Keys:
    """Return the values through the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = values + _GOLDEN
    values = (values ^ (values >> _S30)) * _FIRST
    values = (values ^ (values >> _S27)) * _SECOND
    return values ^ (values >> _S31)


def mix(seed: int, *keys: Keys) -> Keys:
    """Return one well-mixed 64-bit hash per element of the broadcast keys."""
    mixed = _scramble(np.array([seed], np.int64).astype(np.uint64))
    for key in keys:
        mixed = _scramble(mixed ^ key)
    return mixed


def uniform(hashes: Keys) -> npt.NDArray[np.float64]:
    """Return numbers inside the open interval (0, 1), 53 bits each."""
    return ((hashes >> _S11).astype(np.float64) + 0.5) * 2.0**-53


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
