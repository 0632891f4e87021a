"""Reading a canonical data set: ids and labels in memory when asked for, document texts streamed from parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.splits import split_order
from nv_retriever.data.text import HASH_BYTES, HashArray, TextView
from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.files import read_json

IntArray = npt.NDArray[np.int32]
Rows = Sequence[int] | npt.NDArray[np.integer]


@dataclass(frozen=True)
class Qrels:
    """Relevance labels in columns, sorted by query row, then document row."""

    query_rows: IntArray
    """(n,) int32."""
    document_rows: IntArray
    """(n,) int32."""
    grades: IntArray
    """(n,) int32; below the data set's `min_grade`: judged and found not relevant."""

    def __len__(self) -> int:
        return len(self.query_rows)

    def where(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Qrels:
        """Return the labels that `mask` (n,) selects, or those at some places."""
        return Qrels(self.query_rows[mask], self.document_rows[mask], self.grades[mask])


class Dataset:
    """A canonical data set; rows are positions in the order of the ids."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder, self.info = folder, info
        self.name: str = info["name"]
        self.n_documents: int = info["documents"]
        self.n_queries: int = info["queries"]
        self.min_grade: int = info["min_grade"]
        self.splits: tuple[str, ...] = tuple(sorted(info["splits"], key=split_order))
        self.view = TextView(info["template"])

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Open the folder that `write_dataset` filled; raises ArtifactError where it is incomplete."""
        path = Path(folder)
        try:
            info = read_json(path / "dataset.json")
            return cls(path, info)
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(f"{path} is no complete data set: {error!r}") from None

    @cached_property
    def document_ids(self) -> npt.NDArray[np.object_]:
        """(n_documents,) object array of str, ascending."""
        return self._strings("corpus", "doc_id")

    @cached_property
    def query_ids(self) -> npt.NDArray[np.object_]:
        """(n_queries,) object array of str, ascending."""
        return self._strings("queries", "query_id")

    @cached_property
    def document_hashes(self) -> HashArray:
        """(n_documents,) S16: hashes of the normalised text view."""
        return self._hashes("corpus", "view_hash")

    @cached_property
    def document_text_hashes(self) -> HashArray:
        """(n_documents,) S16: hashes of the normalised text without the title; compare queries with these."""
        return self._hashes("corpus", "text_hash")

    @cached_property
    def query_hashes(self) -> HashArray:
        """(n_queries,) S16: hashes of the normalised text."""
        return self._hashes("queries", "text_hash")

    @cached_property
    def groups(self) -> IntArray:
        """(n_documents,) int32 content groups: the row of the first document with the same view hash."""
        groups: IntArray = self._column("corpus", "group").to_numpy()
        return groups

    @cached_property
    def _query_texts(self) -> npt.NDArray[np.object_]:
        return self._strings("queries", "text")

    def query_texts(self, rows: Rows | None = None) -> list[str]:
        """Return the texts of all queries, or of some in the order given."""
        texts: list[str] = (self._query_texts if rows is None else self._query_texts[np.asarray(rows, np.int64)]).tolist()
        return texts

    def document_texts(self, rows: Rows | None = None) -> list[str]:
        """Return the text views of all documents, or of some in the order given (only their row groups are read)."""
        if rows is None:
            return [text for _, texts in self.iter_document_texts(8192) for text in texts]
        wanted = np.asarray(rows, np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.n_documents):
            raise IndexError(f"document rows are 0 to {self.n_documents - 1}, found {wanted.min()} to {wanted.max()}")
        result = np.empty(len(wanted), object)
        with self._parquet("corpus") as file:
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            starts = np.concatenate([[0], np.cumsum(sizes)])
            home = np.searchsorted(starts, wanted, side="right") - 1
            for group in np.unique(home).tolist():
                at = np.flatnonzero(home == group)
                table = file.read_row_group(group, columns=["title", "text"]).take(wanted[at] - starts[group])
                result[at] = self._views(table)
        texts: list[str] = result.tolist()
        return texts

    def iter_document_texts(self, batch: int) -> Iterator[tuple[int, list[str]]]:
        """Yield (first row, text views) for at most `batch` documents at a time, in order, in flat memory."""
        start = 0
        with self._parquet("corpus") as file:
            for part in file.iter_batches(batch_size=batch, columns=["title", "text"]):
                yield start, self._views(part)
                start += part.num_rows

    def _views(self, table: pa.Table | pa.RecordBatch) -> list[str]:
        return self.view.views(table.column("title").to_pylist(), table.column("text").to_pylist())

    @cached_property
    def _qrels(self) -> tuple[npt.NDArray[np.object_], Qrels, npt.NDArray[np.bool_]]:
        table = pq.read_table(self.folder / "qrels.parquet")
        split = np.asarray(table.column("split").to_pylist(), object)
        query, document, grade, active = (table.column(n).to_numpy() for n in ("query_row", "doc_row", "grade", "active"))
        return split, Qrels(query, document, grade), active

    def qrels(self, split: str | None = None) -> Qrels:
        """Return the labels of a split, or all that are known in any split (sorted by query row, then document row).

        All includes labels of queries beyond the data set's `limit`: what is known to be relevant is never a negative.
        """
        splits, labels, active = self._qrels
        if split is None:
            order = np.lexsort((labels.grades, labels.document_rows, labels.query_rows))
            return Qrels(labels.query_rows[order], labels.document_rows[order], labels.grades[order])
        self._check_split(split)
        return labels.where((splits == split) & active)

    def hidden(self) -> Qrels:
        """Return the positives that `known_positives` hides: for counting false negatives and for `mining.oracle` alone.

        Empty where nothing is hidden. No other method sees them.
        """
        path = self.folder / "hidden.parquet"
        if not path.exists():
            return Qrels(*(np.empty(0, np.int32) for _ in range(3)))
        table = pq.read_table(path, columns=["query_row", "doc_row", "grade"])
        labels = Qrels(*(table.column(name).to_numpy() for name in table.column_names))
        return labels.where(np.lexsort((labels.document_rows, labels.query_rows)))

    def positives(self, split: str | None = None) -> Qrels:
        """Return the labels of at least the data set's `min_grade`, of a split or of all."""
        labels = self.qrels(split)
        return labels.where(labels.grades >= self.min_grade)

    def query_rows(self, split: str) -> IntArray:
        """Return the queries of a split that have a positive, int32, ascending."""
        return np.unique(self.positives(split).query_rows)

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            found = f"only {', '.join(self.splits)}"
            hint = f"choose one with --split, or add qrels/{split}.tsv (for files of pairs a column named split)"
            raise InputError(f"data set {self.name}", f"a split {split!r} with positives", found, hint)

    def _parquet(self, table: str) -> pq.ParquetFile:
        return pq.ParquetFile(self.folder / f"{table}.parquet")

    def _column(self, table: str, name: str) -> pa.ChunkedArray:
        with self._parquet(table) as file:
            return file.read(columns=[name]).column(name)

    def _strings(self, table: str, name: str) -> npt.NDArray[np.object_]:
        column = self._column(table, name)
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values

    def _hashes(self, table: str, name: str) -> HashArray:
        column = self._column(table, name).combine_chunks()
        array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        raw = np.frombuffer(array.buffers()[1], dtype=f"S{HASH_BYTES}")
        return raw[array.offset : array.offset + len(array)]
