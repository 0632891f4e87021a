"""Splits and samples of queries by hashes: the same whatever the order of the input."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHARES = (("train", 0.8), ("dev", 0.9), ("test", 1.0))
"""Splits and the upper end of their share of the hashes."""
_ORDER = {"train": 0, "dev": 1, "test": 2}


def split_order(name: str) -> tuple[int, str]:
    """Sort key: train, dev, test, then the others by name."""
    return _ORDER.get(name, len(_ORDER)), name


def unit_hash(value: bytes) -> float:
    """Return a number in [0, 1) that only depends on `value`."""
    return int.from_bytes(hashlib.blake2b(value, digest_size=7).digest(), "big") / 2**56


def split_of(fraction: float) -> str:
    """Return the split of a hash in [0, 1): 80 % train, 10 % dev, 10 % test."""
    return next(name for name, end in SHARES if fraction < end)


def first_by_hash(rows: npt.NDArray[np.int32], ids: Sequence[str], limit: int) -> npt.NDArray[np.int32]:
    """Return the at most `limit` rows whose ids have the smallest hashes, ascending."""
    keyed = sorted(rows.tolist(), key=lambda row: (hashlib.blake2b(ids[row].encode(), digest_size=8).digest(), ids[row]))
    return np.array(sorted(keyed[:limit]), np.int32)


def kept_labels(query_rows: npt.NDArray[np.int32], ids: Sequence[str], count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which labels are among the at most `count` of their query that stay known, (n,) bool.

    `query_rows` (n,) is ascending, a query's labels in the order of their documents. The hash is taken of the seed, the
    query's id, and the label's place among its query's.
    """
    chosen = np.zeros(len(query_rows), np.bool_)
    for row in np.unique(query_rows).tolist():
        start, stop = np.searchsorted(query_rows, [row, row + 1])
        texts = [f"{seed}\0{ids[row]}\0{place}" for place in range(stop - start)]
        hashes = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        chosen[start + np.array(sorted(range(stop - start), key=hashes.__getitem__)[:count])] = True
    return chosen


def assign_splits(
    splits: npt.NDArray[np.object_], query_rows: npt.NDArray[np.int32], text_hashes: Sequence[bytes]
) -> npt.NDArray[np.object_]:
    """Return the splits with each `""` replaced by a split that the query's text decides (equal texts stay together).

    Of few texts, so that no split stays empty, the last by hash are the test split and those before the dev split.
    """
    open_rows = np.unique(query_rows[splits == ""])
    if not len(open_rows):
        return splits
    fractions = {hash_: unit_hash(hash_) for hash_ in {bytes(text_hashes[row]) for row in open_rows.tolist()}}
    names = {hash_: split_of(fraction) for hash_, fraction in fractions.items()}
    if len(names) >= 3 and len(set(names.values())) < 3:
        ordered = sorted(names, key=lambda hash_: (fractions[hash_], hash_))
        held_out = max(1, len(ordered) // 10)
        names = dict.fromkeys(ordered, "train")
        names |= dict.fromkeys(ordered[-2 * held_out : -held_out], "dev") | dict.fromkeys(ordered[-held_out:], "test")
    result = splits.copy()
    for at in np.flatnonzero(splits == "").tolist():
        result[at] = names[bytes(text_hashes[query_rows[at]])]
    return result
