"""What every export reads: the samples of a mining artifact with their texts, streamed in blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.errors import ArtifactError
from nv_retriever.store.mining_artifact import SHORTFALL, TRIPLES, MiningArtifact
from nv_retriever.store.schema import glob_escaped

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

BLOCK_TRIPLES = 32_768
"""Triples whose texts are in memory at a time."""

NEGATIVE_COLUMNS = (
    "negative_id",
    "position",
    "teacher",
    "rank",
    "positive_score",
    "negative_score",
    "score_kind",
    "limit_score",
    "reason",
)


@dataclass(frozen=True, slots=True)
class Negative:
    """One mined negative of a sample; scores that are missing or not finite are None."""

    id: str
    text: str
    position: int
    teacher: str
    rank: int | None
    """None where the document was drawn at random: it was never ranked."""
    positive_score: float | None
    score: float | None
    score_kind: str
    limit_score: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The unit of training: a query and one of its positives, with at least one negative, hardest first."""

    query_id: str
    query: str
    positive_id: str
    positive: str
    negatives: list[Negative]

    @property
    def positive_score(self) -> float | None:
        """The positive's score; None where several teachers gave the negatives, each with a score of its own for it."""
        scores = {(negative.teacher, negative.score_kind, negative.positive_score) for negative in self.negatives}
        return next(iter(scores))[2] if len(scores) == 1 else None


@dataclass(frozen=True)
class Counts:
    """What an export has to know of a run before it streams it."""

    sizes: dict[int, int]
    """Number of negatives -> number of samples with so many."""
    without: int
    """Samples without negatives: they are in shortfall.parquet only."""
    mixed: int
    """Samples whose negatives come from several teachers, so that their scores are not of one kind."""
    unscored: int
    """Triples with a score that is missing or not finite."""


class Source:
    """A mining artifact and the data set that it was mined from."""

    def __init__(self, mining_folder: Path | str, dataset: Dataset) -> None:
        self.artifact = MiningArtifact.open(Path(mining_folder))
        self.dataset = dataset

    @cached_property
    def counts(self) -> Counts:
        """Counts over the whole run, one pass in DuckDB."""
        import duckdb

        triples = glob_escaped(str(self.artifact.folder / TRIPLES))
        with duckdb.connect() as connection:
            groups = connection.execute(
                "SELECT n, count(*), count(*) FILTER (kinds > 1), sum(unscored) FROM (SELECT count(*) AS n, "
                "count(DISTINCT (teacher, score_kind)) AS kinds, count(*) FILTER "
                "(NOT coalesce(isfinite(positive_score) AND isfinite(negative_score), false)) AS unscored "
                "FROM read_parquet(?) GROUP BY query_id, positive_id) GROUP BY n ORDER BY n",
                [triples],
            ).fetchall()
            without = 0
            if (self.artifact.folder / SHORTFALL).exists():
                row = connection.execute(
                    "SELECT count(*) FROM (SELECT DISTINCT query_id, positive_id FROM read_parquet(?)) "
                    "ANTI JOIN read_parquet(?) USING (query_id, positive_id)",
                    [glob_escaped(str(self.artifact.folder / SHORTFALL)), triples],
                ).fetchone()
                without = int(row[0]) if row else 0
        sizes = {int(n): int(samples) for n, samples, _, _ in groups}
        return Counts(sizes, without, sum(int(row[2]) for row in groups), sum(int(row[3]) for row in groups))

    def blocks(self) -> Iterator[pa.Table]:
        """Yield the triples in order, whole samples together, with the columns query, positive, negative: their texts."""
        for table in self._whole_samples():
            queries, documents = self._texts(table)
            for name, texts in (("query", queries), ("positive", documents), ("negative", documents)):
                column = [texts[item] for item in table[f"{name}_id"].to_pylist()]
                table = table.append_column(name, pa.array(column, pa.large_string()))
            yield table

    def samples(self) -> Iterator[Sample]:
        """Yield the samples in order, each with its negatives by position."""
        for table in self.blocks():
            columns = [table[name].to_pylist() for name in ("query_id", "query", "positive_id", "positive", "negative")]
            negatives = [table[name].to_pylist() for name in NEGATIVE_COLUMNS]
            current: Sample | None = None
            for query_id, query, positive_id, positive, text, *rest in zip(*columns, *negatives, strict=True):
                if current is None or (current.query_id, current.positive_id) != (query_id, positive_id):
                    if current is not None:
                        yield current
                    current = Sample(query_id, query, positive_id, positive, [])
                current.negatives.append(_negative(text, rest))
            if current is not None:
                yield current

    def _whole_samples(self) -> Iterator[pa.Table]:
        """Yield tables of about BLOCK_TRIPLES rows that end where a sample ends; raises ArtifactError when out of order."""
        last: tuple[Any, ...] = ()
        rest: pa.Table | None = None
        with pq.ParquetFile(self.artifact.folder / TRIPLES) as file:
            for batch in file.iter_batches(batch_size=BLOCK_TRIPLES):
                table = pa.Table.from_batches([batch])
                table = table if rest is None else pa.concat_tables([rest, table])
                keys = list(zip(*(table[name].to_pylist() for name in ("query_id", "positive_id", "position")), strict=True))
                previous = [last, *keys[:-1]]
                if any(key <= before for before, key in zip(previous, keys, strict=True)):
                    problem = f"{self.artifact.folder / TRIPLES} is not ordered by query, positive, position"
                    raise ArtifactError(f"{problem}; delete its folder, the next mining builds it again")
                start = len(keys)
                while start > 0 and keys[start - 1][:2] == keys[-1][:2]:
                    start -= 1
                if start:
                    last = keys[start - 1]
                    yield table.slice(0, start)
                rest = table.slice(start)
        if rest is not None and rest.num_rows:
            yield rest

    def _texts(self, table: pa.Table) -> tuple[dict[str, str], dict[str, str]]:
        queries = sorted(set(table["query_id"].to_pylist()))
        documents = sorted({*table["positive_id"].to_pylist(), *table["negative_id"].to_pylist()})
        query_rows = self._rows(queries, self.dataset.query_ids, "query")
        document_rows = self._rows(documents, self.dataset.document_ids, "document")
        return (
            dict(zip(queries, self.dataset.query_texts(query_rows), strict=True)),
            dict(zip(documents, self.dataset.document_texts(document_rows), strict=True)),
        )

    def _rows(self, ids: list[str], known: Any, what: str) -> Any:
        """Return the rows of ids in the data set, whose ids are sorted by code points."""
        wanted = np.array(ids, dtype=object)
        rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1).astype(np.int32)
        wrong = np.flatnonzero(known[rows] != wanted)
        if len(wrong):
            raise ArtifactError(f"{self.artifact.folder}: the data set {self.dataset.name} has no {what} {ids[wrong[0]]!r}")
        return rows


def _negative(text: str, values: list[Any]) -> Negative:
    negative_id, position, teacher, rank, positive_score, score, kind, limit, reason = values
    return Negative(
        negative_id, text, position, teacher, rank, finite(positive_score), finite(score), kind, finite(limit), reason
    )


def finite(value: float | None) -> float | None:
    """Return the value, or None where JSON has no spelling for it (NaN, infinities)."""
    return value if value is not None and math.isfinite(value) else None
