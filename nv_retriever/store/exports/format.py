"""What an export format is, and the writers that several formats share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.store.exports.source import Source

BUFFERED_ROWS = 4096


@dataclass
class Written:
    """What a format wrote, and what it could not represent."""

    rows: int = 0
    """Rows, lines or entries of the main file."""
    lost: Counter[str] = field(default_factory=Counter)
    """Why -> how many triples (or samples) are not in the export."""
    notes: list[str] = field(default_factory=list)
    """What else is not in it (scores, ids)."""


@dataclass(frozen=True)
class Format:
    """One export format."""

    name: str
    """What users write: `--export NAME`."""
    main: str
    """The file, inside the export's folder, that the consumer is pointed at."""
    write: Callable[[Source, Path], Written]
    """Writes the format's files into an empty folder."""
    usage: str
    """How the consumer loads it: Markdown for the export's README, `{path}` = the folder."""
    alone: tuple[str, ...] = ()
    """Suffixes of output paths that take the main file alone; other paths are folders."""
    parts: dict[str, str] = field(default_factory=dict)
    """Configurations of the `datasets` library: name -> file."""


def format_with_ids(name: str, write: Callable[[Source, Path], Written], trainers: str) -> Format:
    """Return a format of sentence-transformers, which takes every column for an input: ids lie in a file of their own."""
    usage = (
        f'`datasets.load_dataset("{{path}}", split="train")` is a training set for {trainers}; '
        '`load_dataset("{path}", "ids", split="train")` has the ids and scores of the same rows.'
    )
    return Format(name, "train.parquet", write, usage, parts={"default": "train.parquet", "ids": "ids.parquet"})


class ParquetRows:
    """A Parquet file that is written row by row in bounded memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._rows: list[dict[str, Any]] = []

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; missing columns are NULL."""
        self._rows.append(row)
        if len(self._rows) >= BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def json_line(value: object) -> str:
    """Return strict JSON (no NaN, no Infinity) on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
