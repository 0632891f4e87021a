"""Canonical order: staged rows are checked for repeats, sorted by id, grouped by content and joined, out of core in DuckDB.

The bytes written depend on the content alone: not on the order of the input, the number of threads, or the memory limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.records import Place, Problems, shorten
from nv_retriever.data.text import HASH_BYTES
from nv_retriever.files import write_aside

ROW_GROUP = 4096
"""Rows in a row group: what has to be decoded to read a single text."""
MEMORY_LIMIT = "512MB"
_UNKNOWN_HINT = "--set dataset.on_unknown=skip leaves such labels out and counts them"
_HASH = pa.binary(HASH_BYTES)
CORPUS = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("view_hash", _HASH),
        pa.field("text_hash", _HASH),
        pa.field("group", pa.int32()),
    ]
)
QUERIES = pa.schema([pa.field("query_id", pa.string()), pa.field("text", pa.string()), pa.field("text_hash", _HASH)])


class Canonical:
    """A DuckDB over the staged files of one folder."""

    def __init__(self, staged: Path, repeats: bool) -> None:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(staged / "spill"),
            "preserve_insertion_order": False,
        }
        self._db = duckdb.connect(":memory:", config=settings)
        self._staged, self._repeats = staged, repeats

    def __enter__(self) -> Canonical:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._db.sql(query).fetchall()

    def load(self, kind: str, content: str) -> int:
        """Check that ids of `documents` or `queries` do not repeat, number them in order, return how many there are.

        Where the source may repeat itself, only other content (`content`, an expression) under a known id is an error,
        and the spelling that sorts first is kept.
        """
        path = self._literal(self._staged / f"{kind}.parquet")
        allowed = f"and count(distinct {content}) > 1" if self._repeats else ""
        self._check_repeats(kind, path, allowed)
        spelling = "title, text" if kind == "documents" else "text"
        once = f"qualify row_number() over (partition by id order by {spelling}, file, row) = 1" if self._repeats else ""
        self._db.execute(f"create view {kind} as select * from read_parquet({path}) where not blank {once}")
        self._db.execute(f"create table {kind}_blank as select distinct id from read_parquet({path}) where blank")
        columns = f"id, (row_number() over (order by id) - 1)::integer as number, {content} as content"
        self._db.execute(f"create table {kind}_ids as select {columns} from {kind}")
        return int(self._rows(f"select count(*) from {kind}_ids")[0][0])

    def _check_repeats(self, kind: str, path: str, allowed: str) -> None:
        problems = Problems()
        place = "{'file': file, 'row': row, 'unit': unit}"
        found = self._rows(f"""
            select id, list({place} order by file, row)[:2], count(*) over () from (
                select id, file, row, unit from read_parquet({path}) where id in (
                    select id from read_parquet({path}) group by id having count(*) > 1 {allowed}))
            group by id order by min(file), min(row) limit 10""")
        expected = "ids that are unique" if not self._repeats else "one content for each id"
        for name, (first, again), total in found:
            problems.add(Place(**again), expected, f"{shorten(name)} again, first at {Place(**first)}")
            problems.count = total
        problems.check()

    def write_corpus(self, path: Path) -> str:
        """Write corpus.parquet in the order of the ids and return the digest of its content.

        `group` is the row of the first document with the same view hash.
        """
        rows = self._db.sql("""
            with groups as (select content, min(number) as "group" from documents_ids group by content)
            select id as doc_id, title, text, view_hash, text_hash, "group"
            from documents join groups on view_hash = content order by id""")
        return _write_sorted(path, rows, CORPUS)

    def write_queries(self, path: Path) -> str:
        """Write queries.parquet in the order of the ids and return the digest of its content."""
        rows = self._db.sql("select id as query_id, text, text_hash from queries order by id")
        return _write_sorted(path, rows, QUERIES)

    def load_labels(self, on_unknown: str) -> dict[str, int]:
        """Join the labels with the rows they name and return how many were left out; unknown names raise or are left out."""
        path = self._literal(self._staged / "labels.parquet")
        self._db.execute(f"""
            create table labels as
            select l.*, q.number as query_row, d.number as doc_row, qb.id is not null or db.id is not null as blank
            from read_parquet({path}) l
            left join queries_ids q on q.id = l.query_id left join documents_ids d on d.id = l.doc_id
            left join queries_blank qb on qb.id = l.query_id left join documents_blank db on db.id = l.doc_id""")
        unknown = "not blank and (query_row is null or doc_row is null)"
        if on_unknown == "fail":
            problems = Problems()
            columns = "file, row, unit, query_id, doc_id, query_row is null, count(*) over ()"
            for *place, query, document, no_query, total in self._rows(
                f"select {columns} from labels where {unknown} order by file, row limit 10"
            ):
                expected, name = ("the id of a query", query) if no_query else ("the id of a document", document)
                problems.add(Place(*place), expected, shorten(name), _UNKNOWN_HINT)
                problems.count = total
            problems.check()
        known = "query_row is not null and doc_row is not null"
        counts = self._rows(f"""
            select count(*) filter (blank), count(*) filter ({unknown}),
            count(*) filter ({known}) - count(distinct (split, query_row, doc_row)) filter ({known}) from labels""")[0]
        return dict(
            zip(("labels_of_blank_texts", "labels_of_unknown_ids", "labels_repeated"), map(int, counts), strict=True)
        )

    def labels(self) -> dict[str, Any]:
        """Return split (object), query_row, doc_row, grade (int32) sorted; of repeated labels the highest grade."""
        return self._db.sql("""
            select split, query_row, doc_row, max(grade)::integer as grade from labels
            where query_row is not null and doc_row is not null
            group by split, query_row, doc_row order by split, query_row, doc_row""").fetchnumpy()

    def query_column(self, column: str) -> list[Any]:
        """Return `id` or `content` (the hash of the text) of all queries, in their order."""
        return [row[0] for row in self._rows(f"select {column} from queries_ids order by number")]

    @staticmethod
    def _literal(path: Path) -> str:
        return "'" + str(path).replace("'", "''") + "'"


def _regrouped(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield tables of exactly `rows` rows (the last may be shorter)."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, rows)
            held = table.slice(rows).combine_chunks().to_batches()
            count -= rows
    if count:
        yield pa.Table.from_batches(held)


def _write_sorted(path: Path, rows: duckdb.DuckDBPyRelation, schema: pa.Schema) -> str:
    digest = hashlib.sha256()
    with write_aside(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd", use_dictionary=False) as writer:
        for table in _regrouped(iter(rows.to_arrow_reader(ROW_GROUP)), ROW_GROUP):
            table = table.cast(schema).combine_chunks()
            writer.write_table(table, row_group_size=ROW_GROUP)
            for name in schema.names:
                _update(digest, table.column(name))
    return digest.hexdigest()


def _update(digest: Any, column: pa.ChunkedArray) -> None:
    if pa.types.is_integer(column.type):
        digest.update(column.to_numpy().astype(np.int32).tobytes())
        return
    values = [value.encode() if isinstance(value, str) else value for value in column.to_pylist()]
    digest.update(np.array([len(value) for value in values], np.int64).tobytes())
    digest.update(b"".join(values))
