"""The candidate table: searched once per teacher, decided upon as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import ArtifactError
from nv_retriever.files import read_json
from nv_retriever.ragged import row_offsets
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, OffsetArray, ScoreKind

DOCUMENTS, SCORES, EXCLUDED, INFO = "documents.npy", "scores.npy", "excluded.parquet", "candidates.json"


@dataclass(frozen=True)
class Excluded:
    """Every excluded document of every query with its score, sorted by query, then document."""

    offsets: OffsetArray
    """(n_queries + 1,) where each query's rows begin."""
    queries: IntArray
    """(n,) index into the split's queries."""
    documents: IntArray
    """(n,) document row."""
    reasons: npt.NDArray[np.uint8]
    """(n,) values of Reason."""
    grades: IntArray
    """(n,) the label, 0 where there is none."""
    in_split: npt.NDArray[np.bool_]
    """(n,) a positive of the searched split."""
    scores: FloatArray
    """(n,) the teacher's score, NaN where it has none."""

    def __len__(self) -> int:
        return len(self.queries)

    def where(self, mask: npt.NDArray[np.bool_]) -> Excluded:
        """Return the rows that `mask` (n,) selects."""
        offsets, labels = row_offsets(mask)[self.offsets], (self.reasons[mask], self.grades[mask], self.in_split[mask])
        return Excluded(offsets, self.queries[mask], self.documents[mask], *labels, self.scores[mask])

    @property
    def exclusions(self) -> Exclusions:
        """As a search takes them."""
        return Exclusions(self.offsets, self.documents, self.reasons)


@dataclass(frozen=True)
class Candidates:
    """The k best allowed documents of every query of a split, and every document that is not allowed, scored alike."""

    documents: IntArray
    """(n_queries, depth) int32 by descending score, ties by row; -1 where there are no more."""
    scores: FloatArray
    """(n_queries, depth) float32; NaN where there are no more."""
    excluded: Excluded
    teacher: str
    score_kind: ScoreKind
    n_documents: int
    split: str = ""
    info: dict[str, Any] | None = None
    """What candidates.json says."""

    @staticmethod
    def open(folder: Path | str) -> Candidates:
        """Open the folder that `write_candidates` filled, arrays memory-mapped; raises ArtifactError where it is damaged."""
        import pyarrow.parquet as pq

        path = Path(folder)
        try:
            info = read_json(path / INFO)
            documents: IntArray = np.asarray(np.load(path / DOCUMENTS, mmap_mode="r", allow_pickle=False))
            scores: FloatArray = np.asarray(np.load(path / SCORES, mmap_mode="r", allow_pickle=False))
            table = pq.read_table(path / EXCLUDED)
            columns = {name: table.column(name).to_numpy() for name in table.column_names}
            excluded = Excluded(offsets_of(columns["query"], len(documents)), *(columns[name] for name in COLUMNS))
            return Candidates(
                documents, scores, excluded, info["teacher"], info["score_kind"], info["documents"], info["split"], info
            )
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{path} is no complete candidate table: {error!r}") from None

    @staticmethod
    def from_arrays(
        documents: IntArray,
        scores: FloatArray,
        exclusions: Exclusions,
        excluded_scores: FloatArray,
        positives: npt.NDArray[np.bool_],
        *,
        teacher: str,
        score_kind: ScoreKind,
        n_documents: int,
    ) -> Candidates:
        """Return a table in memory; `positives` (n_excluded,) says which excluded documents are the samples' positives."""
        queries, grades = exclusions.queries, positives.astype(np.int32)
        columns = (queries, exclusions.documents, exclusions.reasons, grades, positives.astype(bool), excluded_scores)
        return Candidates(documents, scores, Excluded(exclusions.offsets, *columns), teacher, score_kind, n_documents)

    @property
    def n_queries(self) -> int:
        """Queries of the split."""
        return len(self.documents)

    @property
    def depth(self) -> int:
        """Candidates kept per query."""
        return int(self.documents.shape[1])

    @property
    def exclusions(self) -> Exclusions:
        """What every query excludes, as a search takes it."""
        return self.excluded.exclusions

    @cached_property
    def split_positives(self) -> Excluded:
        """The positives of the split with their scores: the (query, positive) samples, sorted."""
        return self.excluded.where(self.excluded.in_split)

    def positives(self, query: int) -> tuple[IntArray, FloatArray]:
        """Return the documents and scores of one query's positives in the split."""
        all_of = self.split_positives
        part = slice(int(all_of.offsets[query]), int(all_of.offsets[query + 1]))
        return all_of.documents[part], all_of.scores[part]

    @cached_property
    def exhausted(self) -> npt.NDArray[np.bool_]:
        """(n_queries,): the row reaches the end of the corpus, nothing allowed lies below it."""
        if not self.depth:
            return np.full(self.n_queries, self.n_documents == 0)
        allowed = self.n_documents - np.diff(self.excluded.offsets)
        ended: npt.NDArray[np.bool_] = (self.documents[:, -1] < 0) | (allowed <= self.depth)
        return ended


COLUMNS = ("query", "document", "reason", "grade", "in_split", "score")
"""Of excluded.parquet, in the order of the fields of Excluded."""


def offsets_of(sorted_rows: IntArray, n: int) -> OffsetArray:
    """Return where each of n rows begins in a sorted column, (n + 1,)."""
    return np.searchsorted(sorted_rows, np.arange(n + 1)).astype(np.int64)
