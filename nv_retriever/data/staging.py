"""Staging: what a source yields is checked, hashed and written as it comes, in flat memory, to unsorted parquet files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.records import Document, Label, Place, Problems, Query, shorten
from nv_retriever.data.text import HASH_BYTES, TextView, content_hash, is_blank

_ROWS, _CHARACTERS = 8192, 1 << 23
_HASH = pa.binary(HASH_BYTES)
_PLACE = [pa.field("file", pa.string()), pa.field("row", pa.int64()), pa.field("unit", pa.string())]
DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("view_hash", _HASH),
        pa.field("text_hash", _HASH),
        pa.field("blank", pa.bool_()),
        *_PLACE,
    ]
)
QUERIES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("text_hash", _HASH),
        pa.field("blank", pa.bool_()),
        *_PLACE,
    ]
)
LABELS = pa.schema(
    [
        pa.field("split", pa.string()),
        pa.field("query_id", pa.string()),
        pa.field("doc_id", pa.string()),
        pa.field("grade", pa.int32()),
        *_PLACE,
    ]
)
_BAD_IN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_EMPTY_HINT = "--set dataset.on_empty=skip leaves such rows out and counts them"


class RowWriter:
    """Writes tuples to a parquet file in row groups that are bounded in rows and in characters."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=["file", "unit"])
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def add(self, row: tuple[Any, ...], characters: int = 0) -> None:
        """Append one row; `characters` is about how much text it holds."""
        self._rows.append(row)
        self._characters += characters
        if len(self._rows) >= _ROWS or self._characters >= _CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._rows, self._characters = [], 0

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.flush()
        self._writer.close()


class Staging:
    """Checks and writes documents, queries and labels; `counts` says what was left out or repaired."""

    def __init__(self, folder: Path, view: TextView, on_empty: Literal["fail", "skip"]) -> None:
        self.folder, self.view, self.on_empty = folder, view, on_empty
        self.counts: Counter[str] = Counter()

    def documents(self, records: Iterable[Document], problems: Problems) -> None:
        """Write documents.parquet; a document is blank when its text view is (a title may be all there is)."""
        with RowWriter(self.folder / "documents.parquet", DOCUMENTS) as writer:
            for identifier, title, text, place in records:
                name = self._id(identifier, "_id", place, problems)
                title = self._text("" if title is None else title, "title", place, problems)
                text = self._text("" if text is None else text, "text", place, problems)
                if name is None or title is None or text is None:
                    continue
                view = self.view(title, text)
                blank = is_blank(view)
                if blank:
                    self._blank("documents", name, text, place, problems)
                elif not text.strip():
                    self.counts["documents_with_only_a_title"] += 1
                view_hash = content_hash(view)
                text_hash = content_hash(text) if view != text.strip() else view_hash
                writer.add((name, title, text, view_hash, text_hash, blank, *place), len(text) + len(title))
        problems.check()

    def queries(self, records: Iterable[Query], problems: Problems) -> None:
        """Write queries.parquet; texts are stripped."""
        with RowWriter(self.folder / "queries.parquet", QUERIES) as writer:
            for identifier, text, place in records:
                name = self._id(identifier, "_id", place, problems)
                text = self._text("" if text is None else text, "text", place, problems)
                if name is None or text is None:
                    continue
                text = text.strip()
                blank = is_blank(text)
                if blank:
                    self._blank("queries", name, text, place, problems)
                writer.add((name, text, content_hash(text), blank, *place), len(text))
        problems.check()

    def labels(self, records: Iterable[Label], problems: Problems) -> None:
        """Write labels.parquet."""
        with RowWriter(self.folder / "labels.parquet", LABELS) as writer:
            for split, query_id, document_id, grade, place in records:
                query = self._id(query_id, "query-id", place, problems)
                document = self._id(document_id, "corpus-id", place, problems)
                if query is not None and document is not None:
                    writer.add((split, query, document, grade, *place))
        problems.check()

    def _id(self, value: object, field: str, place: Place, problems: Problems) -> str | None:
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # pandas makes integers with gaps floats
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and value.strip() and not _BAD_IN_ID.search(value):
            return value
        hint = "cast the column to integers or text" if isinstance(value, float) else ""
        problems.add(place, f"{field}: an id (text without control characters, or a whole number)", shorten(value), hint)
        return None

    def _text(self, value: object, field: str, place: Place, problems: Problems) -> str | None:
        if not isinstance(value, str):
            problems.add(place, f"{field}: text", f"{type(value).__name__} {shorten(value)}")
            return None
        if not value.isascii() and _SURROGATES.search(value):
            self.counts["texts_with_broken_characters_replaced"] += 1
            return _SURROGATES.sub("\ufffd", value)
        return value

    def _blank(self, kind: str, name: str, text: str, place: Place, problems: Problems) -> None:
        if self.on_empty == "fail":
            problems.add(place, "a text that is not empty", f"{shorten(text)} for id {shorten(name)}", _EMPTY_HINT)
        else:
            self.counts[f"blank_{kind}"] += 1
