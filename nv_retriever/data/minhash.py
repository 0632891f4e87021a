"""MinHash and locality-sensitive hashing: near-duplicate texts without vectors, in vectorised numpy.

Broder 1997, On the resemblance and containment of documents; Leskovec et al., Mining of Massive Datasets, 3.3-3.4.
Everything is deterministic: hashes come from the words' bytes and a fixed seed, results do not depend on blocks or order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.text import normalise
from nv_retriever.ragged import ranges, row_offsets
from nv_retriever.splitmix import GOLDEN, U64Array, scramble

Signatures = npt.NDArray[np.uint32]
"""(n_texts, PERMUTATIONS) uint32."""

PERMUTATIONS = 128
"""Numbers in a signature."""
WORDS = 3
"""In a shingle."""
_BLOCK_TEXTS = 8192
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces, so that each character counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


@dataclass(frozen=True)
class Shingles:
    """The sets of hashed word shingles of texts, in compressed rows."""

    offsets: npt.NDArray[np.int64]
    """(n + 1,)."""
    hashes: U64Array
    """(total,) uint64, ascending and different within each text; a text without words has none."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.int64], U64Array]:
        """Return (index into `rows`, hash) of all shingles of some texts."""
        owner, inside = ranges(self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows])
        return owner, self.hashes[inside]


def shingle(texts: Sequence[str], words: int = WORDS) -> Shingles:
    """Return the sets of `words` consecutive normalised words of each text; shorter texts are one shingle."""
    vocabulary: dict[str, int] = {}
    tokens, lengths = [], []
    for text in texts:
        found = _WORD.findall(normalise(text))
        lengths.append(len(found))
        tokens.extend([vocabulary.setdefault(word, len(vocabulary)) for word in found])
    digests = b"".join(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in vocabulary)
    values = np.frombuffer(digests, "<u8")[np.array(tokens, np.int64)] if tokens else np.empty(0, np.uint64)
    length = np.array(lengths, np.int64)
    first = row_offsets(length)[:-1]
    count = np.where(length == 0, 0, np.maximum(length - words + 1, 1))
    owner, at = ranges(first, count)
    end = (first + length)[owner]
    hashes = np.zeros(len(at), np.uint64)
    for step in range(words):
        inside = at + step < end
        part = (
            np.where(inside, values[np.minimum(at + step, max(len(values) - 1, 0))], np.uint64(step)) if len(at) else values
        )
        hashes = scramble(hashes * GOLDEN + part)
    return _distinct(owner, hashes, len(texts))


def _distinct(owner: npt.NDArray[np.int64], hashes: U64Array, n: int) -> Shingles:
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    new = np.ones(len(owner), np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1])
    return Shingles(row_offsets(np.bincount(owner[new], minlength=n)), hashes[new])


def signatures(texts: Sequence[str]) -> Signatures:
    """Return the MinHash signatures of texts, (n, PERMUTATIONS) uint32; without words: the maximum."""
    generator = np.random.Generator(np.random.PCG64(0))
    odd = generator.integers(0, 2**63, PERMUTATIONS, np.uint64) * np.uint64(2) + np.uint64(1)
    add = generator.integers(0, 2**64 - 1, PERMUTATIONS, np.uint64, endpoint=True)
    result = np.full((len(texts), PERMUTATIONS), np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(texts), _BLOCK_TEXTS):
        found = shingle(texts[start : start + _BLOCK_TEXTS])
        filled = np.flatnonzero(np.diff(found.offsets))
        if not len(filled):
            continue
        starts = found.offsets[filled]
        for column in range(PERMUTATIONS):
            smallest = np.minimum.reduceat(found.hashes * odd[column] + add[column], starts)
            result[start + filled, column] = (smallest >> np.uint64(32)).astype(np.uint32)
    return result


def signature_similarity(
    left: Signatures, right: Signatures, left_rows: npt.NDArray[np.integer[Any]], right_rows: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float32]:
    """Return the estimated Jaccard similarity of pairs of rows, (n,) float32.

    The standard error is 0.5/√PERMUTATIONS at most. Texts without words resemble nothing: their similarity is 0.
    """
    result = np.empty(len(left_rows), np.float32)
    for start in range(0, len(left_rows), _BLOCK_TEXTS):
        part = slice(start, start + _BLOCK_TEXTS)
        a, b = left[left_rows[part]], right[right_rows[part]]
        empty = (a == np.iinfo(np.uint32).max).all(axis=1)
        result[part] = np.where(empty, 0, (a == b).mean(axis=1))
    return result


def jaccard(
    shingles: Shingles, rows_a: npt.NDArray[np.integer[Any]], rows_b: npt.NDArray[np.integer[Any]]
) -> npt.NDArray[np.float32]:
    """Return the exact Jaccard similarity of pairs of texts, (n,) float32; 0 for texts without words."""
    result = np.zeros(len(rows_a), np.float32)
    for start in range(0, len(rows_a), _BLOCK_TEXTS):
        part = slice(start, start + _BLOCK_TEXTS)
        a, b = np.asarray(rows_a[part], np.int64), np.asarray(rows_b[part], np.int64)
        owner = [np.concatenate(pair) for pair in zip(shingles.take(a), shingles.take(b), strict=True)]
        order = np.lexsort((owner[1], owner[0]))
        pair, value = owner[0][order], owner[1][order]
        again = (pair[1:] == pair[:-1]) & (value[1:] == value[:-1])
        shared = np.bincount(pair[1:][again], minlength=len(a))
        union = np.bincount(pair, minlength=len(a)) - shared
        result[part] = shared / np.maximum(union, 1)
    return result


def band_width(threshold: float, permutations: int = PERMUTATIONS) -> int:
    """Return how many values of a signature make a band: the most that find a pair at the threshold with 99 %."""
    widths = range(permutations, 1, -1)
    return next((w for w in widths if 1 - (1 - threshold**w) ** (permutations // w) >= 0.99), 1)


@dataclass(frozen=True)
class Pairs:
    """Near-duplicate pairs, first < second, ascending."""

    first: npt.NDArray[np.int64]
    """(n,) rows."""
    second: npt.NDArray[np.int64]
    """(n,) rows."""
    similarity: npt.NDArray[np.float32]
    """(n,) exact Jaccard similarities of the shingle sets."""


def near_duplicate_pairs(texts: Sequence[str], threshold: float = 0.8, most: int = 200) -> Pairs:
    """Return pairs of texts whose word shingles have a Jaccard similarity of at least `threshold`.

    Every pair returned is verified exactly; one at the threshold is found with 99 % probability, closer ones with more. In a
    bucket of more than `most` texts (boilerplate) each is paired with the next `most` only, so that work stays linear.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"expected a threshold above 0 and at most 1, found {threshold}")
    found = signatures(texts)
    first, second = np.divmod(_candidates(found, threshold, most), max(len(texts), 1))
    named, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = np.split(inverse, 2)
    similarity = jaccard(shingle([texts[row] for row in named.tolist()]), left, right)
    kept = similarity >= np.float32(threshold)
    return Pairs(first[kept], second[kept], similarity[kept])


def _candidates(found: Signatures, threshold: float, most: int) -> npt.NDArray[np.int64]:
    """Return first * n + second of the pairs that agree in a whole band, each once, ascending.

    Pairs whose signatures are five standard errors below the threshold are dropped at once, to keep memory flat.
    """
    n = len(found)
    width = band_width(threshold, found.shape[1])
    lowest = threshold - 2.5 / found.shape[1] ** 0.5
    filled = np.flatnonzero((found != np.iinfo(np.uint32).max).any(axis=1))
    result = np.empty(0, np.int64)
    for start in range(0, found.shape[1] - width + 1, width):
        key = np.zeros(len(filled), np.uint64)
        for column in range(start, start + width):
            key = scramble(key * GOLDEN + found[filled, column])
        order = np.argsort(key, kind="stable")
        ordered, rows = key[order], filled[order]
        parts, at = [result], np.arange(len(rows))
        for step in range(1, most + 1):
            at = at[at < len(rows) - step]
            at = at[ordered[at] == ordered[at + step]]  # who has no equal at a smaller step has none at a larger one
            if not len(at):
                break
            pairs = rows[at] * n + rows[at + step]
            place = np.minimum(np.searchsorted(result, pairs), max(len(result) - 1, 0))
            pairs = pairs[result[place] != pairs] if len(result) else pairs
            parts.append(pairs[signature_similarity(found, found, *np.divmod(pairs, n)) >= lowest])
        result = np.unique(np.concatenate(parts))
    return result
