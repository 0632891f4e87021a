"""What the miner's steps pass to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.selection import Selection
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, OffsetArray, ScoreKind, Scorer

BoolArray = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
NO_FLOOR = np.float32(-np.inf)


class TripleReason(IntEnum):
    """Why a document became a negative: the `reason` of a triple."""

    KEPT = 1
    """Survived the filter and was chosen."""
    DEEPENED = 2
    """The same, found below the candidate table by a search under the limit."""
    RELAXED = 3
    """Fills a shortage: fails the rule, but scores below the anchor."""
    RANDOM = 4
    """Fills a shortage: drawn from the allowed documents that score below the anchor."""

    @property
    def text(self) -> str:
        """The reason as it is stored."""
        return self.name.lower()


class ShortReason(IntEnum):
    """Why a sample has fewer rule-abiding negatives than wanted: the `reason` of a short sample."""

    NONE = 0
    EXHAUSTED = 1
    """The corpus has no more allowed documents below the limit."""
    NOT_SEARCHED = 2
    """The candidate table has no more, and there was no teacher at hand to search deeper."""
    POSITIVE_NOT_SCORED = 3
    """No teacher gives the positive a finite score."""

    @property
    def text(self) -> str:
        """The reason as it is stored."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True)
class Samples:
    """The training samples (q, d+), ordered by query, then positive."""

    queries: IntArray
    """(n,) int32 rows of the candidate tables, ascending."""
    positives: IntArray
    """(n,) int32 document rows."""

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True)
class Teacher:
    """One teacher's candidates, and its scores and limits for every sample."""

    name: str
    score_kind: ScoreKind
    documents: IntArray
    """(n_queries, k) int32 by descending score, ties by row, -1 where there are no more."""
    scores: FloatArray
    """(n_queries, k) float32, finite where documents are, NaN elsewhere."""
    positive_scores: FloatArray
    """(n_samples,) float32; NaN where the teacher has none."""
    anchors: FloatArray
    """(n_samples,) float32: what the rule compares with."""
    limits: FloatArray
    """(n_samples,) float32; +inf where the rule sets none."""
    n_documents: int
    exclusions: Callable[[], Exclusions]
    """Of all rows of the table: what a deeper search leaves out."""
    exhausted: BoolArray
    """(n_queries,): the table's row ends where the corpus does."""
    scorer: Callable[[], Scorer] | None = None
    """Searches deeper; None leaves samples short."""

    @property
    def sees_corpus(self) -> bool:
        """Whether a search ends where the corpus does: a cross-encoder sees the first teacher's candidates only."""
        return self.score_kind != "logit"

    @property
    def usable(self) -> BoolArray:
        """(n_samples,): whether the teacher can judge the sample at all."""
        return np.isfinite(self.positive_scores) & ~np.isnan(self.limits)


@dataclass(frozen=True)
class MiningPlan:
    """One mining run's decisions."""

    rule: Rule
    selection: Selection
    ensemble: str = "none"
    min_score: float | None = None
    shortfall: str = "fewer"
    seed: int = 0

    @property
    def floor(self) -> np.float32:
        """The lowest score that is kept."""
        return np.float32(-np.inf if self.min_score is None else self.min_score)


@dataclass
class _OfSamples:
    """Arrays with a row a sample."""

    def put(self, rows: Rows, other: Self) -> None:
        """Overwrite some samples with those of another."""
        for one in fields(self):
            getattr(self, one.name)[rows] = getattr(other, one.name)

    def take(self, rows: Rows) -> Self:
        """Return the arrays of some samples."""
        return replace(self, **{one.name: getattr(self, one.name)[rows] for one in fields(self)})


@dataclass
class Pool(_OfSamples):
    """The first survivors of some samples with one teacher, by rank."""

    documents: IntArray
    """(s, m) int32; -1 where there are no more."""
    scores: FloatArray
    """(s, m) float32; NaN where there are no more."""
    ranks: OffsetArray
    """(s, m) int64, counted from 1 over all allowed documents; 0 where there are no more."""
    exhausted: BoolArray
    """(s,): the corpus has no further survivor."""
    depth: OffsetArray
    """(s,) int64: allowed documents that were looked at, from the best down."""
    table_depth: OffsetArray
    """(s,) int64: ranks above this one came from a deeper search."""


@dataclass(frozen=True)
class Wanted:
    """Which survivors of the filter are read: the first `size`, from a rank on, not below a floor, not vetoed."""

    size: int
    n_documents: int
    min_rank: int = 1
    floor: np.float32 = NO_FLOOR
    vetoed: OffsetArray = field(default_factory=lambda: np.empty(0, np.int64))
    """Sorted keys query * n_documents + document, int64."""

    def is_vetoed(self, queries: npt.NDArray[np.integer], documents: IntArray) -> BoolArray:
        """Return whether pairs are vetoed (shapes are broadcast)."""
        keys = queries.astype(np.int64) * self.n_documents + documents
        if not len(self.vetoed):
            return np.zeros(keys.shape, bool)
        at = np.minimum(np.searchsorted(self.vetoed, keys), len(self.vetoed) - 1)
        found: BoolArray = self.vetoed[at] == keys
        return found


@dataclass
class Choice(_OfSamples):
    """The negatives of some samples."""

    documents: IntArray
    """(s, n) int32 by position; -1 where there are no more (only at the end of a row)."""
    scores: FloatArray
    """(s, n) float32, by the teacher that gave the document."""
    ranks: OffsetArray
    """(s, n) int64, with that teacher; 0 where the document was drawn."""
    teachers: npt.NDArray[np.int16]
    """(s, n) positions in the list of teachers."""
    reasons: npt.NDArray[np.uint8]
    """(s, n) values of TripleReason."""
    short: npt.NDArray[np.uint8]
    """(s,) values of ShortReason: the state before a shortage was filled."""
    found: IntArray
    """(s,) rule-abiding negatives."""
    depth: OffsetArray
    """(s,) allowed documents that were looked at."""


class Veto(Protocol):
    """Says which pairs can never be negatives after all: near-duplicates of a positive, or a judge's verdicts."""

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return True where the document is no negative of the query, (n,) each."""
        ...
