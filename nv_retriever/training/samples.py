"""Training samples: (query, positive, 0 to n hard negatives) as flat arrays of rows, read from the mined triples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.ragged import ranges, row_offsets
from nv_retriever.search.types import FloatArray, IntArray, OffsetArray

COLUMNS = ("query_id", "positive_id", "negative_id", "position", "positive_score", "negative_score", "score_kind")


@dataclass(frozen=True)
class Samples:
    """n samples in the order of (query, positive); the hard negatives of sample i are [offsets[i], offsets[i + 1])."""

    query_rows: IntArray
    """(n,) int32."""
    positive_rows: IntArray
    """(n,) int32 document rows."""
    offsets: OffsetArray
    """(n + 1,) int64."""
    negative_rows: IntArray
    """(total,) int32 document rows; a repeat (ensembles without deduplication) weighs double."""
    positive_scores: FloatArray
    """(total,) float32: the teacher's score of the positive, beside each negative."""
    negative_scores: FloatArray
    """(total,) float32: the teacher's score of the negative."""
    score_kinds: tuple[str, ...]
    """Kinds of the scores that occur."""
    keys: npt.NDArray[np.uint64]
    """(n,) hashes of (query id, positive id): what the order of the batches is drawn from."""

    def __len__(self) -> int:
        return len(self.query_rows)

    def document_rows(self) -> IntArray:
        """Return every document that occurs, ascending, int32."""
        return np.unique(np.concatenate([self.positive_rows, self.negative_rows]))

    def negatives(self, sample: int, wanted: int | None, epoch: int) -> IntArray:
        """Return positions in `negative_rows` of the sample's negatives of an epoch: all, or `wanted` that take turns."""
        start, stop = int(self.offsets[sample]), int(self.offsets[sample + 1])
        count = stop - start
        if wanted is None or wanted >= count:
            return np.arange(start, stop, dtype=np.int32)
        return (start + (epoch * wanted + np.arange(wanted)) % count).astype(np.int32)


def read_samples(dataset: Dataset, mining: Path) -> Samples:
    """Return the samples of a mining artifact; raises InputError for ids that the data set has not."""
    path = mining / "triples.parquet"
    dictionary = ["query_id", "positive_id", "negative_id", "score_kind"]
    table = pq.read_table(path, columns=list(COLUMNS), read_dictionary=dictionary)
    queries = _rows(table["query_id"], dataset.query_ids, path, "query")
    positives = _rows(table["positive_id"], dataset.document_ids, path, "document")
    negatives = _rows(table["negative_id"], dataset.document_ids, path, "document")
    order = np.lexsort((table["position"].to_numpy(), positives, queries))
    queries, positives, negatives = queries[order], positives[order], negatives[order]
    first = np.ones(len(queries), dtype=bool)
    first[1:] = (queries[1:] != queries[:-1]) | (positives[1:] != positives[:-1])
    starts = np.flatnonzero(first)
    samples = Samples(
        query_rows=queries[starts],
        positive_rows=positives[starts],
        offsets=np.append(starts, len(queries)).astype(np.int64),
        negative_rows=negatives,
        positive_scores=table["positive_score"].to_numpy()[order],
        negative_scores=table["negative_score"].to_numpy()[order],
        score_kinds=tuple(sorted(str(kind) for kind in pc.unique(table["score_kind"]).to_pylist())),
        keys=sample_keys(dataset, queries[starts], positives[starts]),
    )
    return _with_bare_samples(samples, dataset, mining)


def judged_away(dataset: Dataset, mining: Path) -> tuple[IntArray, IntArray]:
    """Return the queries and documents, (n,) rows each, that a judge did not keep as negatives: no batch makes them some.

    A document that it called a positive is a sample only where a negative was left for it.
    """
    path = mining / "verdicts.parquet"
    if not path.exists():
        return np.empty(0, np.int32), np.empty(0, np.int32)
    dictionary = ["query_id", "document_id"]
    table = pq.read_table(path, columns=[*dictionary, "verdict"], read_dictionary=dictionary)
    table = table.filter(pc.not_equal(table["verdict"], "keep"))
    queries = _rows(table["query_id"], dataset.query_ids, path, "query")
    return queries, _rows(table["document_id"], dataset.document_ids, path, "document")


def mixes_teachers(mining: Path) -> bool:
    """Return whether some sample of a mining artifact has negatives of several teachers: their scores do not compare."""
    table = pq.read_table(mining / "triples.parquet", columns=["query_id", "positive_id", "teacher"])
    counts = table.group_by(["query_id", "positive_id"]).aggregate([("teacher", "count_distinct")])
    return bool(pc.any(pc.greater(counts["teacher_count_distinct"], 1)).as_py())


def first_samples(samples: Samples, limit: int | None) -> Samples:
    """Return at most `limit` samples, those of the smallest keys; their order stays."""
    if limit is None or limit >= len(samples):
        return samples
    chosen = np.sort(np.argsort(samples.keys, kind="stable")[:limit])
    return _taken(samples, chosen)


def _taken(samples: Samples, order: npt.NDArray[np.int64]) -> Samples:
    """Return the samples of the given numbers, in that order."""
    lengths = np.diff(samples.offsets)[order]
    _, inside = ranges(samples.offsets[order], lengths)
    return replace(
        samples,
        query_rows=samples.query_rows[order],
        positive_rows=samples.positive_rows[order],
        offsets=row_offsets(lengths),
        negative_rows=samples.negative_rows[inside],
        positive_scores=samples.positive_scores[inside],
        negative_scores=samples.negative_scores[inside],
        keys=samples.keys[order],
    )


def sample_keys(dataset: Dataset, query_rows: IntArray, positive_rows: IntArray) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each sample's ids, (n,) uint64."""
    keys = np.empty(len(query_rows), dtype=np.uint64)
    query_ids, document_ids = dataset.query_ids, dataset.document_ids
    for i, (query, positive) in enumerate(zip(query_rows.tolist(), positive_rows.tolist(), strict=True)):
        text = f"{query_ids[query]}\0{document_ids[positive]}".encode()
        keys[i] = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return keys


def _rows(column: pa.ChunkedArray, ids: npt.NDArray[np.object_], path: Path, what: str) -> IntArray:
    """Return the row of every id, (n,) int32."""
    chunks = column.combine_chunks()
    array = chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks
    values = array.dictionary.cast(pa.string())
    found = pc.index_in(values, value_set=pa.array(ids, type=pa.string()))
    if found.null_count:
        missing = values.filter(pc.is_null(found))[0].as_py()
        raise InputError(
            str(path), f"{what} ids of the data set", repr(missing), "were the triples mined from another data set?"
        )
    rows: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int32)
    indices: IntArray = array.indices.to_numpy(zero_copy_only=False)
    return np.take(rows, indices)


def _with_bare_samples(samples: Samples, dataset: Dataset, mining: Path) -> Samples:
    """Add the samples for which nothing was found, where the shortfall policy keeps them: they learn from the batch."""
    path = mining / "shortfall.parquet"
    if not path.exists():
        return samples
    table = pq.read_table(
        path, columns=["query_id", "positive_id", "written", "reason"], read_dictionary=["query_id", "positive_id"]
    )
    keep = pc.and_(pc.equal(table["written"], 0), pc.invert(pc.match_substring(pc.fill_null(table["reason"], ""), "drop")))
    table = table.filter(keep)
    if not len(table):
        return samples
    queries = _rows(table["query_id"], dataset.query_ids, path, "query")
    positives = _rows(table["positive_id"], dataset.document_ids, path, "document")
    both = replace(
        samples,
        query_rows=np.append(samples.query_rows, queries),
        positive_rows=np.append(samples.positive_rows, positives),
        offsets=np.append(samples.offsets, np.full(len(table), samples.offsets[-1])),
        keys=np.append(samples.keys, sample_keys(dataset, queries, positives)),
    )
    return _taken(both, np.lexsort((both.positive_rows, both.query_rows)))
