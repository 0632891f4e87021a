"""Vectors that somebody else computed, as a teacher: `vectors:FOLDER`.

The folder holds `documents.npy` (n, dim) with `documents.txt` (an id a line), or `documents.parquet` (columns `id` and
`vector`); likewise for `queries`. They are used as they are: scores are dot products, or cosines where all have length 1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.shards import unit_length, write_vectors
from nv_retriever.errors import InputError, first_line
from nv_retriever.fingerprint import file_digest
from nv_retriever.search.types import FloatArray, ScoreKind

logger = logging.getLogger(__name__)
FILES = ("documents", "queries")
BLOCK_ROWS = 8192
UNIT_TOLERANCE = 1e-3
Array = npt.NDArray[Any]


def precomputed_digest(folder: Path) -> list[list[str]]:
    """Return names and sha256 of the folder's files; raises InputError where one is missing."""
    return [[path.name, file_digest(path)] for name in FILES for path in _paths(folder, name)]


def _paths(folder: Path, name: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"vectors:{folder}", "a folder", "no such folder")
    parquet, array, ids = (folder / f"{name}.{ending}" for ending in ("parquet", "npy", "txt"))
    if parquet.exists():
        return [parquet]
    missing = [path.name for path in (array, ids) if not path.is_file()]
    if missing:
        expected = f"{name}.npy and {name}.txt (an id a line), or {name}.parquet (id, vector)"
        raise InputError(f"vectors:{folder}", expected, f"no {' and no '.join(missing)}")
    return [array, ids]


@dataclass(frozen=True)
class _Table:
    """Vectors by id, as they lie in the folder."""

    where: str
    ids: list[str]
    vectors: Array

    @staticmethod
    def open(folder: Path, name: str) -> _Table:
        """Read `<name>.parquet`, or `<name>.npy` with its ids; raises InputError for other shapes and types."""
        paths = _paths(folder, name)
        table = _from_parquet(paths[0]) if len(paths) == 1 else _from_npy(*paths)
        found = f"{table.vectors.dtype} {table.vectors.shape}"
        if table.vectors.ndim != 2 or table.vectors.dtype.kind != "f" or not table.vectors.shape[1]:
            raise InputError(table.where, "floats of shape (n, dim)", found)
        if len(table.ids) != len(table.vectors):
            raise InputError(table.where, f"an id for each of the {len(table.vectors)} vectors", f"{len(table.ids)} ids")
        return table

    def rows_of(self, ids: list[str], what: str) -> npt.NDArray[np.int64]:
        """Return where each id's vector is; raises InputError for ids without a vector or with several."""
        rows: dict[str, int] = {}
        for row, name in enumerate(self.ids):
            if rows.setdefault(name, row) != row:
                raise InputError(
                    f"{self.where} row {row + 1}", "every id once", f"{name!r} again (first in row {rows[name] + 1})"
                )
        missing = [name for name in ids if name not in rows]
        if missing:
            some = ", ".join(repr(name) for name in missing[:3])
            raise InputError(
                self.where, f"a vector for each of the {len(ids)} {what}", f"none for {len(missing)}: {some}, …"
            )
        if len(rows) > len(ids):
            logger.info("%s: %d vectors belong to no one of the %d %s", self.where, len(rows) - len(ids), len(ids), what)
        return np.array([rows[name] for name in ids], np.int64)


def _from_npy(array: Path, ids: Path) -> _Table:
    try:
        vectors: Array = np.load(array, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(str(array), "a .npy array of floats", f"{error}") from None
    if not isinstance(vectors, np.ndarray):  # numpy opens archives too, whatever their names
        raise InputError(str(array), "a .npy array of floats", "an .npz archive")
    try:
        lines = ids.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(str(ids), "UTF-8 text, an id a line", str(error)) from None
    names = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    return _Table(str(array), names, vectors)


def _from_parquet(path: Path) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        columns = {name.lower(): table.column(name).combine_chunks() for name in table.column_names}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(path), "a parquet file", first_line(error)) from None
    vector = next((columns[name] for name in ("vector", "embedding", "values") if name in columns), None)
    if vector is None or "id" not in columns:
        raise InputError(str(path), "the columns id and vector", ", ".join(table.column_names))
    lists = isinstance(vector, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray)
    if not lists or vector.null_count or not pa.types.is_floating(vector.type.value_type):
        raise InputError(str(path), "a list of floats in each row of `vector`", f"{vector.type}, {vector.null_count} nulls")
    flat, rows = vector.flatten(), len(vector)
    if rows and not pa.types.is_fixed_size_list(vector.type) and len(vector.value_lengths().unique()) != 1:
        raise InputError(str(path), "vectors of one length", "several lengths")
    names = [str(name) for name in columns["id"].to_pylist()]
    return _Table(str(path), names, flat.to_numpy(zero_copy_only=False).reshape(rows, len(flat) // max(rows, 1)))


class PrecomputedVectors:
    """A folder of vectors; writes embeddings artifacts by id."""

    def __init__(self, folder: Path, normalize: bool | None = None) -> None:
        self.folder, self.normalize = folder, normalize
        self.label = f"vectors:{folder.name}"
        self.documents, self.queries = (_Table.open(folder, name) for name in FILES)
        of_documents, of_queries = self.documents.vectors.shape[1], self.queries.vectors.shape[1]
        if of_documents != of_queries:
            expected = f"queries and documents of one length (documents have {of_documents})"
            raise InputError(self.queries.where, expected, str(of_queries))

    @cached_property
    def score_kind(self) -> ScoreKind:
        """Cosine where all vectors have, or are to get, length 1; else dot."""
        if self.normalize is not None:
            return "cosine" if self.normalize else "dot"
        return "cosine" if _all_units(self.documents.vectors) and _all_units(self.queries.vectors) else "dot"

    def write_part(self, folder: Path, dataset: Dataset, part: str) -> dict[str, Any]:
        """Write the vectors of `documents` or of a split's queries as an embeddings artifact; returns the counts."""
        if part == "documents":
            table, ids = self.documents, dataset.document_ids
        else:
            table, ids = self.queries, dataset.query_ids[dataset.query_rows(part)]
        rows = table.rows_of(ids.tolist(), "documents" if part == "documents" else f"queries of {part}")

        def gather(start: int, stop: int) -> FloatArray:
            """Return the vectors of some rows of the artifact."""
            block = np.asarray(table.vectors[rows[start:stop]], np.float32)
            return unit_length(block) if self.normalize else block

        info = {"model": self.label, "score_kind": self.score_kind, "precision": str(table.vectors.dtype), "fidelity": None}
        written = write_vectors(folder, len(rows), table.vectors.shape[1], gather, info)
        return {**written, "quarantined": len(written["quarantined"]), "texts": 0, "encoded": 0, "reused": len(rows)}


def _all_units(vectors: Array) -> bool:
    """Return whether all vectors that are finite have length 1 (and there are any)."""
    for start in range(0, len(vectors), BLOCK_ROWS):
        norms = np.sqrt((np.asarray(vectors[start : start + BLOCK_ROWS], np.float64) ** 2).sum(axis=1))
        if (np.abs(norms[np.isfinite(norms)] - 1) > UNIT_TOLERANCE).any():
            return False
    return len(vectors) > 0
