"""A brute-force oracle for search, and small worlds that are hard on it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from nv_retriever.search.types import Exclusions, TopK


class ArrayVectors:
    """Vectors in memory, as the embedding artifact serves them."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array, np.float32)
        self.n, self.dim = self.array.shape

    def blocks(self, max_rows: int) -> Iterator:
        for start in range(0, self.n, max_rows):
            yield start, self.array[start : start + max_rows]

    def take(self, rows):
        return self.array[np.asarray(rows)]


def true_score(query, document) -> np.float32:
    """The exact inner product, rounded to fp64, then to fp32 (saturating)."""
    if not (np.isfinite(query).all() and np.isfinite(document).all()):
        return np.float32(np.nan)
    exact = math.fsum((query.astype(np.float64) * document.astype(np.float64)).tolist())
    largest = float(np.finfo(np.float32).max)
    return np.float32(min(max(exact, -largest), largest)) + np.float32(0)


def brute_force(queries, documents, k, excluded: Exclusions, limits=None) -> TopK:
    """Every pair scored by the definition, sorted by (score descending, row)."""
    found = np.full((len(queries), k), -1, np.int32)
    scores = np.full((len(queries), k), np.nan, np.float32)
    above = np.zeros(len(queries), np.int64)
    for i, query in enumerate(queries):
        out = set(excluded.documents[excluded.offsets[i] : excluded.offsets[i + 1]].tolist())
        pairs = [(float(true_score(query, d)), row) for row, d in enumerate(documents) if row not in out]
        pairs = [(score, row) for score, row in pairs if not math.isnan(score)]
        if limits is not None:
            limit = float(limits[i])
            above[i] = sum(score >= limit for score, _ in pairs)
            pairs = [(score, row) for score, row in pairs if score < limit]
        for j, (score, row) in enumerate(sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k]):
            found[i, j], scores[i, j] = row, score
    return TopK(found, scores, above)


def exclusions_of(per_query: list[list[int]]) -> Exclusions:
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in per_query])]).astype(np.int64)
    documents = np.array([row for one in per_query for row in sorted(one)], np.int32)
    return Exclusions(offsets, documents, np.ones(len(documents), np.uint8))


KINDS = ("random", "integers", "duplicates", "tiny differences", "scales", "signs", "sparse", "huge", "denormal", "cluster")


def vectors(kind: str, rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Rows that tie, cancel, overflow, vanish, or differ in their last bits."""
    x = rng.standard_normal((n, dim))
    if kind == "integers":
        x = rng.integers(-2, 3, (n, dim))
    elif kind == "duplicates":
        x = rng.standard_normal((3, dim))[rng.integers(0, 3, n)]
    elif kind == "tiny differences":
        x = np.nextafter(np.float32(0.1), np.float32(1)) + rng.integers(0, 3, (n, dim)) * 2.0**-26
    elif kind == "scales":
        x = x * 10.0 ** rng.integers(-20, 18, (n, 1))
    elif kind == "signs":
        x = np.sign(x)
    elif kind == "sparse":
        x = x * (rng.random((n, dim)) < 0.15)
    elif kind == "huge":
        x = x * 1e37
    elif kind == "denormal":
        x = x * 10.0 ** rng.integers(-42, -18, (n, 1))
    elif kind == "cluster":
        x = rng.standard_normal((1, dim)) + 1e-3 * x
    with np.errstate(all="ignore"):
        return np.clip(x, -3e38, 3e38).astype(np.float32)


@st.composite
def worlds(draw):
    """(queries, documents, k, exclusions, limits or None)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m, dim = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 20))
    queries = vectors(draw(st.sampled_from(KINDS)), rng, n, dim)
    documents = vectors(draw(st.sampled_from(KINDS)), rng, m, dim)
    for array in (queries, documents):
        if draw(st.booleans()):
            with np.errstate(invalid="ignore"):
                array[rng.integers(len(array))] *= draw(st.sampled_from([0.0, np.nan, np.inf, -1.0]))
    share = draw(st.sampled_from([0.0, 0.1, 1.0]))
    excluded = exclusions_of([np.flatnonzero(rng.random(m) < share).tolist() for _ in range(n)])
    limits = None
    if draw(st.booleans()):
        pick = rng.integers(0, m, n)
        limits = np.array([true_score(q, documents[d]) for q, d in zip(queries, pick, strict=True)], np.float32)
        odd = draw(st.sampled_from([None, np.inf, -np.inf, np.nan, 0.0]))
        if odd is not None:
            limits[rng.integers(n)] = odd
    return queries, documents, draw(st.integers(1, m + 3)), excluded, limits
