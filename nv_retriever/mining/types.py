"""What the miner's steps pass to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.selection import Selection
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, OffsetArray, ScoreKind, Scorer

BoolArray = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]


class Why(IntEnum):
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


class Short(IntEnum):
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
    scorer: Callable[[], Scorer] | None = None
    """Searches deeper; None leaves samples short."""

    @property
    def usable(self) -> BoolArray:
        """(n_samples,): whether the teacher can judge the sample at all."""
        return np.isfinite(self.positive_scores) & ~np.isnan(self.limits)


@dataclass(frozen=True)
class Plan:
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
class Pool:
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

    def put(self, rows: Rows, other: Pool) -> None:
        """Overwrite some samples with those of another pool."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def take(self, rows: Rows) -> Pool:
        """Return the pool of some samples."""
        return Pool(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass
class Choice:
    """The negatives of some samples."""

    documents: IntArray
    """(s, n) int32 by position; -1 where there are no more (only at the end of a row)."""
    scores: FloatArray
    ranks: OffsetArray
    teachers: npt.NDArray[np.int16]
    reasons: npt.NDArray[np.uint8]
    """(s, n) values of Why."""
    short: npt.NDArray[np.uint8]
    """(s,) values of Short: the state before a shortage was filled."""
    found: IntArray
    """(s,) rule-abiding negatives."""
    depth: OffsetArray
    """(s,) allowed documents that were looked at."""

    def take(self, rows: Rows) -> Choice:
        """Return the choice of some samples."""
        return Choice(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def put(self, rows: Rows, other: Choice) -> None:
        """Overwrite some samples with those of another choice."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)


class Veto(Protocol):
    """Says which pairs can never be negatives after all: near-duplicates of a positive, or a judge's verdicts."""

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return True where the document is no negative of the query, (n,) each."""
        ...
