"""The tables of the triple store, and how a mining artifact's files become their rows."""

from __future__ import annotations

from nv_retriever.store.mining_artifact import SHORTFALL, TRIPLES, VERDICTS

SCHEMA_VERSION = 1
"""Raised when a table changes; a database of an older version is rebuilt from the artifacts by its next writer."""

RUN_COLUMNS = {
    "run_id": "VARCHAR NOT NULL",
    "created_at": "TIMESTAMP",
    "dataset": "VARCHAR",
    "split": "VARCHAR",
    "rule": "VARCHAR",
    "selection": "VARCHAR",
    "anchor": "VARCHAR",
    "ensemble": "VARCHAR",
    "teachers": "VARCHAR[]",
    "seed": "BIGINT",
    "config": "JSON",
    "samples": "BIGINT",
    "queries": "BIGINT",
    "triples": "BIGINT",
    "short": "BIGINT",
    "dataset_artifact": "VARCHAR",
    "digest": "VARCHAR",
    "info": "JSON",
}
"""A row per mining run: run.json's keys; `info` is all of run.json, `digest` the sha256 of the artifact's files,
`dataset_artifact` the reference (dataset/<fingerprint>) whose texts the views join."""

TRIPLE_COLUMNS = {
    "run_id": "VARCHAR NOT NULL",
    "query_id": "VARCHAR NOT NULL",
    "positive_id": "VARCHAR NOT NULL",
    "negative_id": "VARCHAR NOT NULL",
    "position": "INTEGER",
    "teacher": "VARCHAR",
    "rank": "BIGINT",
    "positive_score": "FLOAT",
    "negative_score": "FLOAT",
    "score_kind": "VARCHAR",
    "limit_score": "FLOAT",
    "reason": "VARCHAR",
}
SHORTFALL_COLUMNS = {
    "run_id": "VARCHAR NOT NULL",
    "query_id": "VARCHAR NOT NULL",
    "positive_id": "VARCHAR NOT NULL",
    "wanted": "BIGINT",
    "found": "BIGINT",
    "written": "BIGINT",
    "depth": "BIGINT",
    "reason": "VARCHAR",
}
VERDICT_COLUMNS = {
    "run_id": "VARCHAR NOT NULL",
    "query_id": "VARCHAR NOT NULL",
    "positive_id": "VARCHAR",
    "document_id": "VARCHAR NOT NULL",
    "judge": "VARCHAR",
    "verdict": "VARCHAR",
    "score": "FLOAT",
}
TABLES = {
    "mining_runs": RUN_COLUMNS,
    "triples": TRIPLE_COLUMNS,
    "shortfalls": SHORTFALL_COLUMNS,
    "verdicts": VERDICT_COLUMNS,
}
FILES = {"triples": TRIPLES, "shortfalls": SHORTFALL, "verdicts": VERDICTS}
"""The artifact's file of each table; only triples.parquet must be there."""


def create_tables() -> str:
    """Return the statements that create all tables and say which version of the schema they are."""
    tables = [
        f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
        for table, columns in TABLES.items()
    ]
    return "; ".join([*tables, f"CREATE TABLE schema_version AS SELECT {SCHEMA_VERSION} AS version"])


def insert_rows(table: str, present: set[str]) -> str:
    """Return the INSERT … SELECT of one Parquet file; parameters: run_id, glob-escaped path.

    Columns that the file does not have stay NULL; what it has beyond the schema stays in the artifact.
    """
    columns = ["run_id", *(name for name in TABLES[table] if name in present and name != "run_id")]
    selected = ", ".join(["?", *columns[1:]])
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {selected} FROM read_parquet(?)"


def glob_escaped(path: str) -> str:
    """Return the path as a pattern that matches nothing but itself: DuckDB reads `*`, `?` and `[` in file names as globs."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


def quoted(text: str) -> str:
    """Return an SQL string literal (views take no parameters)."""
    return "'" + text.replace("'", "''") + "'"


def text_views(artifacts: dict[str, str], temporary: bool) -> list[str]:
    """Return the statements that create the views with texts over the data sets that exist.

    `artifacts` maps a data set's reference to its folder. Where a data set is gone, its triples' texts are NULL.
    """
    word = "OR REPLACE TEMP" if temporary else "OR REPLACE"
    documents = [
        f"SELECT {quoted(ref)} AS dataset_artifact, doc_id, title, text FROM read_parquet({_file(folder, 'corpus.parquet')})"
        for ref, folder in artifacts.items()
    ]
    queries = [
        f"SELECT {quoted(ref)} AS dataset_artifact, query_id, text FROM read_parquet({_file(folder, 'queries.parquet')})"
        for ref, folder in artifacts.items()
    ]
    none = "SELECT ''::VARCHAR AS dataset_artifact, ''::VARCHAR AS {}, ''::VARCHAR AS text WHERE false"
    no_documents = none.format("doc_id, ''::VARCHAR AS title")
    triples_text = """
        SELECT t.*, q.text AS query, p.title AS positive_title, p.text AS positive, n.title AS negative_title,
               n.text AS negative
        FROM triples t JOIN mining_runs r USING (run_id)
        LEFT JOIN queries q ON q.dataset_artifact = r.dataset_artifact AND q.query_id = t.query_id
        LEFT JOIN documents p ON p.dataset_artifact = r.dataset_artifact AND p.doc_id = t.positive_id
        LEFT JOIN documents n ON n.dataset_artifact = r.dataset_artifact AND n.doc_id = t.negative_id"""
    return [
        f"CREATE {word} VIEW documents AS {' UNION ALL '.join(documents) or no_documents}",
        f"CREATE {word} VIEW queries AS {' UNION ALL '.join(queries) or none.format('query_id')}",
        f"CREATE {word} VIEW triples_text AS {triples_text}",
    ]


def _file(folder: str, name: str) -> str:
    return quoted(glob_escaped(f"{folder}/{name}"))
