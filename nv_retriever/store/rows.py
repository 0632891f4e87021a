"""A mining artifact becomes rows of the triple store: INSERT … SELECT from its Parquet, within the caller's transaction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from nv_retriever.errors import ArtifactError, first_line
from nv_retriever.store import schema
from nv_retriever.store.mining_artifact import MiningArtifact

if TYPE_CHECKING:
    import duckdb


def is_there(connection: duckdb.DuckDBPyConnection, artifact: MiningArtifact) -> bool:
    """Return whether the run is in the database with all triples, filled from files of the same content."""
    row = connection.execute(
        "SELECT r.digest = $digest AND r.triples = (SELECT count(*) FROM triples WHERE run_id = $run_id) "
        "FROM mining_runs r WHERE r.run_id = $run_id",
        {"run_id": artifact.run_id, "digest": artifact.digest},
    ).fetchone()
    return bool(row and row[0])


def replace_run(connection: duckdb.DuckDBPyConnection, artifact: MiningArtifact) -> None:
    """Delete the run's rows and insert the artifact's; raises ArtifactError where its files do not hold what it says."""
    import duckdb

    for table in schema.TABLES:
        connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [artifact.run_id])
    counts: dict[str, int] = {}
    for table, name in schema.FILES.items():
        file = artifact.folder / name
        if table == "triples" or file.exists():
            try:
                counts[table] = _insert_file(connection, table, artifact.run_id, file)
            except duckdb.Error as error:
                raise ArtifactError(f"{file} cannot be read: {first_line(error)}") from error
    said = artifact.run.get("triples")
    if isinstance(said, int) and said != counts["triples"]:
        raise ArtifactError(f"{artifact.folder} has {counts['triples']} triples, its run.json says {said}")
    _insert_run(connection, artifact)


def _insert_file(connection: duckdb.DuckDBPyConnection, table: str, run_id: str, file: Path) -> int:
    pattern = schema.glob_escaped(str(file))
    described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [pattern]).fetchall()
    statement = schema.insert_rows(table, {str(row[0]) for row in described})
    row = connection.execute(statement, [run_id, pattern]).fetchone()
    return int(row[0]) if row else 0


def _insert_run(connection: duckdb.DuckDBPyConnection, artifact: MiningArtifact) -> None:
    counts = connection.execute(
        "SELECT count(*) AS triples, count(DISTINCT query_id) AS queries, "
        "count(DISTINCT (query_id, positive_id)) AS samples, "
        "(SELECT count(*) FROM shortfalls WHERE run_id = $run_id) AS short FROM triples WHERE run_id = $run_id",
        {"run_id": artifact.run_id},
    )
    counted = dict(zip([column[0] for column in counts.description or ()], counts.fetchone() or (), strict=True))
    row = {**counted, **{name: value for name, value in artifact.run.items() if value is not None}}
    row["created_at"], row["digest"] = artifact.created_at, artifact.digest
    row["dataset_artifact"] = artifact.dataset_artifact
    row["info"] = json.dumps(artifact.run, allow_nan=False)
    row["config"] = json.dumps(artifact.run.get("config"), allow_nan=False)
    casts = {name: kind.removesuffix(" NOT NULL") for name, kind in schema.RUN_COLUMNS.items()}
    values = ", ".join(f"TRY_CAST(${name} AS {kind})" for name, kind in casts.items())
    parameters = {name: row.get(name) for name in casts}
    connection.execute(f"INSERT INTO mining_runs ({', '.join(casts)}) SELECT {values}", parameters)


def copy_missing_runs(connection: duckdb.DuckDBPyConnection, old: Path) -> None:
    """Copy the runs whose artifacts are gone from a database of an older schema: the columns that both have."""
    connection.execute(f"ATTACH {schema.quoted(str(old))} AS old (READ_ONLY)")
    connection.execute("CREATE TEMP TABLE kept AS SELECT run_id FROM mining_runs")
    for table, columns in schema.TABLES.items():
        found = connection.execute(
            "SELECT column_name FROM duckdb_columns() WHERE database_name = 'old' AND table_name = ?", [table]
        ).fetchall()
        common = ", ".join(name for name in columns if (name,) in found)
        if common:
            where = "run_id NOT IN (SELECT run_id FROM kept)"
            connection.execute(f"INSERT INTO {table} ({common}) SELECT {common} FROM old.{table} WHERE {where}")
    connection.execute("DROP TABLE kept; DETACH old")
