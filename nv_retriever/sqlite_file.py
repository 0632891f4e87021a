"""Whether an SQLite file can be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def sqlite_problem(path: Path) -> str | None:
    """Return what is wrong with an SQLite file; None for a sound, an empty or a missing one."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:  # busy, or not to be opened: says nothing about its content
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found)
