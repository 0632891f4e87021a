"""Searches below limits are kept on disk: what was searched once is not searched again, whatever is decided upon it.

A record says which documents of a query come next below a limit. It answers that search, and every search of the query
below a lower limit for which enough of its documents are left: other selections, guards and policies, and the second run
of a killed one, start from what is there. It is a cache: what is damaged is dropped with a warning, deleting it costs time,
and beyond a number of bytes what answered nothing for the longest time goes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.files import remove_abandoned, write_aside
from nv_retriever.search.ranking import pack
from nv_retriever.search.types import Exclusions, FloatArray, Scorer, TopK

logger = logging.getLogger(__name__)
_FEWEST = 10
"""Documents below a limit that are searched at least: as many as the paper samples from, at the price of one."""
MOST_BYTES = 1 << 30
"""Of the searches that are kept of a candidate table: eleven million, ten documents each."""
_NAME = re.compile(r"(\d+)-(\d+)-([0-9a-f]{16})\.npy")
Records = npt.NDArray[np.void]


def _record(width: int) -> np.dtype[np.void]:
    head = [("query", np.int32), ("limit", np.float32), ("above", np.int64)]
    return np.dtype([*head, ("documents", np.int32, (width,)), ("scores", np.float32, (width,))])


@dataclass(eq=False)
class _Shard:
    """The records of one search, by query, then descending limit, in a file named after its queries and its content."""

    path: Path
    first: int
    last: int
    digest: str
    records: Records | None = None
    """Memory-mapped once they are needed."""

    @staticmethod
    def at(path: Path) -> _Shard | None:
        """Return the shard of a path, None for other files."""
        name = _NAME.fullmatch(path.name)
        return _Shard(path, int(name[1]), int(name[2]), name[3]) if name else None

    @staticmethod
    def write(folder: Path, query_rows: npt.NDArray[np.integer], limits: FloatArray, found: TopK) -> _Shard:
        """Store what was searched."""
        order = np.argsort(_keys(query_rows, limits), kind="stable")
        records = np.empty(len(order), _record(found.documents.shape[1]))
        columns: tuple[npt.NDArray[Any], ...] = (query_rows, limits, found.above, found.documents, found.scores)
        for name, column in zip(records.dtype.names or (), columns, strict=True):
            records[name] = column[order]
        first, last, digest = int(query_rows.min()), int(query_rows.max()), _digest(records)
        path = folder / f"{first}-{last}-{digest}.npy"
        with write_aside(path) as aside, aside.open("wb") as file:
            np.save(file, records, allow_pickle=False)
        return _Shard(path, first, last, digest)

    def open(self) -> Records:
        """Return the records; raises ValueError or OSError where they are not what was written."""
        if self.records is None:
            records = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if _digest(records) != self.digest:
                raise ValueError("its content is not that of its name")
            self.records = records
        return self.records

    def touch(self) -> None:
        """Note that it was used."""
        with suppress(OSError):
            os.utime(self.path)

    def answers(self, query_rows: npt.NDArray[np.integer], limits: FloatArray, k: int) -> tuple[npt.NDArray[np.intp], TopK]:
        """Return which searches the nearest record at or above their limit answers, and with what."""
        records = self.open()
        at = np.searchsorted(_keys(records["query"], records["limit"]), _keys(query_rows, limits), side="right") - 1
        rows = np.flatnonzero((at >= 0) & (records["query"][at] == query_rows))
        known = records[at[rows]]
        width = known["scores"].shape[1]
        over = (known["scores"] >= limits[rows, None]).sum(axis=1)
        enough = (over + max(k, 1) <= width) | np.isnan(known["scores"][:, -1])
        rows, known, over = rows[enough], known[enough], over[enough]
        columns = over[:, None] + np.arange(k)
        inside, columns = columns < width, np.minimum(columns, width - 1)
        documents = np.where(inside, np.take_along_axis(known["documents"], columns, 1), np.int32(-1))
        scores = np.where(inside, np.take_along_axis(known["scores"], columns, 1), np.float32(np.nan))
        return rows, TopK(documents, scores, known["above"] + over)


class RememberedScorer:
    """A teacher whose searches below limits are kept in a folder, which is one candidate table's alone.

    Everything else is the teacher's own. Searches have to leave out what the table leaves out, which is not checked.
    """

    def __init__(self, scorer: Scorer, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._scorer, self._folder = scorer, folder
        self.score_kind, self.n_queries, self.n_documents = scorer.score_kind, scorer.n_queries, scorer.n_documents
        self.score_pairs = scorer.score_pairs
        remove_abandoned(folder.glob(".*.part"))
        shards = [shard for path in sorted(folder.glob("*.npy")) if (shard := _Shard.at(path)) is not None]
        self._shards = _lately_used(shards, most_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return what the teacher's search returns; only what is not known is searched, and kept."""
        if limits is None or np.isnan(limits).any():
            return self._scorer.search(query_rows, k, excluded, limits)
        limits, n = np.asarray(limits, np.float32), len(query_rows)
        result = TopK.empty(n, k)
        left = self._read(query_rows, limits, result)
        if len(left):
            deep = max(k, min(_FEWEST, self.n_documents))
            found = self._scorer.search(query_rows[left], deep, excluded.take(left), limits[left])
            self._shards.append(_Shard.write(self._folder, query_rows[left], limits[left], found))
            _put(result, left, found)
        return result

    def _read(self, query_rows: npt.NDArray[np.integer], limits: FloatArray, result: TopK) -> npt.NDArray[np.intp]:
        """Fill the rows of the result that are known, and return the others."""
        left = np.arange(len(query_rows))
        for shard in list(self._shards):
            here = left[(query_rows[left] >= shard.first) & (query_rows[left] <= shard.last)]
            if not len(here):
                continue
            try:
                rows, found = shard.answers(query_rows[here], limits[here], result.documents.shape[1])
            except (OSError, ValueError, EOFError) as error:
                logger.warning("dropped %s, its searches are made again: %s", shard.path, error)
                shard.path.unlink(missing_ok=True)
                self._shards.remove(shard)
                continue
            if len(rows):
                shard.touch()
            _put(result, here[rows], found)
            left = np.setdiff1d(left, here[rows], assume_unique=True)
        return left


def _lately_used(shards: list[_Shard], most_bytes: int) -> list[_Shard]:
    """Return the shards that were used last, as many as fit, in their order; remove the others."""
    used: list[tuple[int, int, _Shard]] = []
    for shard in shards:
        with suppress(FileNotFoundError):  # another process tidies as well
            stat = shard.path.stat()
            used.append((stat.st_mtime_ns, stat.st_size, shard))
    used.sort(key=lambda one: one[0], reverse=True)
    total = np.cumsum([size for _, size, _ in used])
    gone = [shard for (_, _, shard), size in zip(used, total.tolist(), strict=True) if size > most_bytes]
    for shard in gone:
        shard.path.unlink(missing_ok=True)
    return [shard for shard in shards if shard not in gone]


def _put(result: TopK, rows: npt.NDArray[np.intp], found: TopK) -> None:
    k = result.documents.shape[1]
    result.documents[rows], result.scores[rows] = found.documents[:, :k], found.scores[:, :k]
    result.above[rows] = found.above


def _keys(query_rows: npt.NDArray[np.integer], limits: FloatArray) -> npt.NDArray[np.uint64]:
    """Return keys that sort by query, then descending limit."""
    descending = pack(np.ascontiguousarray(limits), np.zeros(len(limits), np.int32)) >> np.uint64(32)
    return query_rows.astype(np.uint64) << np.uint64(32) | descending


def _digest(records: Records) -> str:
    return hashlib.blake2b(np.ascontiguousarray(records).view(np.uint8).data, digest_size=8).hexdigest()
