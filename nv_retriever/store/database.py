"""triples.duckdb: the mining runs of a home and their triples, filled from the mining artifacts, which are the truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nv_retriever.artifacts import MANIFEST
from nv_retriever.errors import InputError, first_line
from nv_retriever.files import aside_of
from nv_retriever.store import schema
from nv_retriever.store.connection import (
    StoreBusyError,
    StoreDamagedError,
    StoreOutdatedError,
    connect,
    damaged,
    is_damage,
    refusal,
)
from nv_retriever.store.mining_artifact import MiningArtifact
from nv_retriever.store.rows import copy_missing_runs, is_there, replace_run

if TYPE_CHECKING:
    import duckdb

logger = logging.getLogger(__name__)
WAIT_SECONDS = 600.0


class TripleStore:
    """One database file: many readers or one writer at a time, across processes; whoever is refused waits and retries.

    `wait_seconds` bounds the wait; then StoreBusyError says who holds the file.
    """

    def __init__(self, path: Path | str, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = Path(path).absolute()
        if "?" in str(self.path):
            expected = "a path without '?', which DuckDB takes for the end of the name"
            raise InputError("triple store", expected, str(self.path), "choose another --home")
        self.wait_seconds = wait_seconds
        self.artifacts = self.path.parent / "artifacts"

    def add(self, mining_folder: Path | str) -> str:
        """Insert a finished mining artifact, or replace the run of the same id, in one transaction; return the run's id.

        Nothing changes where the same content is there already. Raises ArtifactError for an unfinished or damaged artifact.
        """
        artifact = MiningArtifact.open(Path(mining_folder))
        with self._lock():
            if not self.path.exists():
                self._rewrite([artifact])
                return artifact.run_id
            self._migrate()
            with self._open(read_only=False) as connection:
                is_new = not is_there(connection, artifact)
                if is_new:
                    connection.begin()
                    replace_run(connection, artifact)
                    connection.commit()
                if is_new or _place_of_texts(connection) != str(self.artifacts):  # the home was moved or copied
                    self._create_text_views(connection, temporary=False)
        return artifact.run_id

    def rebuild(self, mining_folders: Iterable[Path | str]) -> list[str]:
        """Write the database anew from these artifacts alone, beside the old one, then rename; return the runs' ids."""
        artifacts = [MiningArtifact.open(Path(folder)) for folder in mining_folders]
        with self._lock():
            self._rewrite(artifacts)
        return [artifact.run_id for artifact in artifacts]

    def mining_folders(self) -> list[Path]:
        """Return the finished mining artifacts of the home that the database lies in."""
        return sorted(path.parent for path in self.artifacts.glob(f"mining/*/{MANIFEST}"))

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a read-only connection; views `documents`, `queries` and `triples_text` join the texts that still exist.

        Writers wait while it is open: read, then leave the block. Raises InputError where there is no database yet, or one
        of another schema.
        """
        if not self.path.exists():
            raise InputError(str(self.path), "the database of mined triples", "no file", "mine first: nvr mine")
        with self._open(read_only=True) as connection:
            if (version := self._version(connection)) < schema.SCHEMA_VERSION:
                expected = f"a database of schema version {schema.SCHEMA_VERSION}"
                raise StoreOutdatedError(str(self.path), expected, f"version {version}", "the next mining run rebuilds it")
            self._create_text_views(connection, temporary=True)
            yield connection

    def runs(self) -> list[dict[str, Any]]:
        """Return the rows of mining_runs, newest first (empty without a database); JSON columns are parsed."""
        if not self.path.exists():
            return []
        with self.read() as connection:
            cursor = connection.execute("SELECT * FROM mining_runs ORDER BY created_at DESC NULLS LAST, run_id")
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for row in rows:
            row.update({name: json.loads(row[name]) for name in ("config", "info") if row[name] is not None})
        return rows

    def count(self, run_id: str) -> int:
        """Return how many triples a run has in the database (0 for an unknown run)."""
        return self._scalar("SELECT count(*) FROM triples WHERE run_id = ?", run_id)

    def has(self, run_id: str) -> bool:
        """Return whether the run is in the database; False for one of an older schema, which `add` rebuilds."""
        with suppress(StoreOutdatedError):
            return self._scalar("SELECT count(*) FROM mining_runs WHERE run_id = ?", run_id) > 0
        return False

    def _scalar(self, query: str, run_id: str) -> int:
        if not self.path.exists():
            return 0
        with self.read() as connection:
            row = connection.execute(query, [run_id]).fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the writers' own lock, which dies with the process: writers queue here instead of colliding in DuckDB."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            lock.acquire(timeout=self.wait_seconds)
        except Timeout:
            raise StoreBusyError(f"{self.path}: another writer held it for more than {self.wait_seconds:g} s") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _open(self, read_only: bool, path: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        path = path or self.path
        connection = connect(path, read_only, self.wait_seconds)
        try:
            yield connection
        except duckdb.Error as error:
            raise refusal(path, error) or (damaged(path, error) if is_damage(path, error) else error) from error
        finally:
            connection.close()

    def _version(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the version of the schema; raises InputError for one that only a newer program knows."""
        import duckdb

        try:
            row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
        except duckdb.Error as error:
            raise damaged(self.path, error) from error
        version = int(row[0]) if row and row[0] is not None else 0
        if version > schema.SCHEMA_VERSION:
            expected = f"a database of schema version {schema.SCHEMA_VERSION} or older"
            raise InputError(str(self.path), expected, f"version {version}", "a newer version of this program wrote it")
        return version

    def _migrate(self) -> None:
        with self._open(read_only=False) as connection:
            version = self._version(connection)
        if version < schema.SCHEMA_VERSION:
            logger.warning("%s has schema version %d: rebuilding it from the artifacts", self.path, version)
            self._rewrite([MiningArtifact.open(folder) for folder in self.mining_folders()], keep=self.path)

    def _rewrite(self, artifacts: list[MiningArtifact], keep: Path | None = None) -> None:
        """Fill a new file and rename it over the old one; runs that only the database `keep` has are copied from it."""
        aside = aside_of(self.path)
        try:
            with self._open(read_only=False, path=aside) as connection:
                connection.execute(schema.create_tables())
                for artifact in artifacts:
                    connection.begin()
                    replace_run(connection, artifact)
                    connection.commit()
                if keep is not None:
                    copy_missing_runs(connection, keep)
                self._create_text_views(connection, temporary=False)
                # Closing does it too, but says nothing about a full disk, and the log that has the rows then is not kept.
                connection.execute("CHECKPOINT")
            self._fold_wal()
            aside.replace(self.path)
        finally:
            aside.unlink(missing_ok=True)
            aside.with_name(f"{aside.name}.wal").unlink(missing_ok=True)

    def _fold_wal(self) -> None:
        """Leave no write-ahead log of the old file beside the new one; a sound old file takes it in before."""
        wal = self.path.with_name(f"{self.path.name}.wal")
        if wal.exists():
            with suppress(StoreDamagedError), self._open(read_only=False):
                pass
        wal.unlink(missing_ok=True)

    def _create_text_views(self, connection: duckdb.DuckDBPyConnection, temporary: bool) -> None:
        """Create the views over the texts of all data sets that runs name and that still exist."""
        import duckdb

        rows = connection.execute("SELECT DISTINCT dataset_artifact FROM mining_runs ORDER BY 1").fetchall()
        folders = {
            ref: str(self.artifacts / ref) for (ref,) in rows if ref and _is_readable(connection, self.artifacts / ref)
        }
        try:
            for statement in schema.text_views(folders, temporary):
                connection.execute(statement)
            if not temporary:
                connection.execute(f"COMMENT ON VIEW documents IS {schema.quoted(str(self.artifacts))}")
        except duckdb.Error as error:
            logger.warning("%s: no views with texts: %s", self.path, first_line(error))


def _place_of_texts(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Return which artifacts the stored views read their texts from."""
    row = connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'documents' AND NOT temporary").fetchone()
    return row[0] if row else None


def _is_readable(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    import duckdb

    try:
        for name, columns in (("corpus.parquet", "doc_id, title, text"), ("queries.parquet", "query_id, text")):
            pattern = schema.glob_escaped(str(folder / name))
            connection.execute(f"SELECT {columns} FROM read_parquet(?) LIMIT 0", [pattern])
    except duckdb.Error:
        return False
    return True
