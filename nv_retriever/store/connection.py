"""Connections to a DuckDB file that several processes use: wait and retry while another process holds it.

DuckDB lets one process in while a writer is open, readers included, and no writer while a reader is open. Whoever comes
second gets an IOException at once, so that both sides open, work, close, and try again when refused.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nv_retriever.disk import DISK_ERRORS
from nv_retriever.errors import ArtifactError, InputError, first_line

if TYPE_CHECKING:
    import duckdb

FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.25
SILENT_SECONDS = 2.0
"""A longer wait is told."""
REFUSALS = (*DISK_ERRORS, errno.EACCES, errno.EPERM, errno.EMFILE)
"""Why a system does not write or open a file: none of them says that its content is damaged."""

logger = logging.getLogger(__name__)


class StoreBusyError(RuntimeError):
    """Another process kept the database open for longer than this one was willing to wait."""


class StoreOutdatedError(InputError):
    """The database has the schema of an older version of this program; its next writer rebuilds it."""


class StoreDamagedError(ArtifactError):
    """The database file cannot be read; it can be rebuilt from the mining artifacts."""


def connect(path: Path, read_only: bool, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    """Return a connection, waiting at most `wait_seconds` for other processes to let go of the file.

    Raises StoreBusyError when they do not, StoreDamagedError when the file is no database, OSError when the system refuses.
    """
    import duckdb

    started = time.monotonic()
    deadline, told = started + wait_seconds, False
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            if not is_conflict(error):
                raise refusal(path, error) or damaged(path, error) from error
            process = re.search(r"PID \d+", first_line(error))
            who = f"another process ({process[0]})" if process else "another process"
            if not told and time.monotonic() >= started + SILENT_SECONDS:
                logger.warning("%s is open in %s; waiting up to %g s for it to be closed", path, who, wait_seconds)
                told = True
            if time.monotonic() >= deadline:
                hint = "close it there and run the same command again: nothing that is finished is lost"
                raise StoreBusyError(f"{path} is open in {who}, waited {wait_seconds:g} s; {hint}") from error
        time.sleep(min(pause, max(deadline - time.monotonic(), 0.0)) * random.uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def is_conflict(error: Exception) -> bool:
    """Return whether a connection was refused because the file is open elsewhere: it may be free in a moment."""
    text = str(error)
    return "Could not set lock" in text or "different configuration than existing connections" in text


def refusal(path: Path, error: Exception) -> OSError | None:
    """Return the system's error behind one of DuckDB, which has it in words only: a full disk, a file of somebody else."""
    number = next((number for number in REFUSALS if os.strerror(number) in str(error)), None)
    return OSError(number, os.strerror(number), str(path)) if number else None


def is_damage(path: Path, error: Exception) -> bool:
    """Return whether an error says that the open database cannot be read: its blocks are looked at when they are needed."""
    text = str(error)
    return "Corrupt database file" in text or ("Could not read" in text and str(path) in text)


def damaged(path: Path, error: Exception) -> StoreDamagedError:
    """Return the error that says what to do about a file that DuckDB cannot read."""
    return StoreDamagedError(
        f"{path} cannot be read as the database of mined triples ({first_line(error)}); the mining artifacts hold the "
        f"same rows: TripleStore(path).rebuild(TripleStore(path).mining_folders()) writes it anew"
    )
