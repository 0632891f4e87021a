"""Files that are written aside and renamed: readers see all of one or nothing, and a killed writer leaves no half."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nv_retriever.disk import place_named
from nv_retriever.errors import InputError

ABANDONED_SECONDS = 24 * 3600
"""A file that is being written and that nobody wrote to for so long is a killed writer's."""


def aside_of(path: Path) -> Path:
    """Return a hidden name beside `path` that no other writer has, on no machine: process numbers are not unique there."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


def local_path(where: str, path: Path | str) -> Path:
    """Return where something is to be written; raises InputError for a URL and `-`, which would become folders so named."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) or str(path) == "-":
        raise InputError(where, "a path on this machine", repr(str(path)))
    return Path(path)


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it (fsync, rename) when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        with place_named(path):
            yield aside
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write strict JSON (no NaN or Infinity) so that readers see all of it or nothing."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove what killed writers left of these files, in a folder that no build tidies."""
    for path in paths:
        with suppress(FileNotFoundError):  # a living writer renames its file, another process tidies as well
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink()


def note_use(folder: Path) -> None:
    """Set a folder's time to now, where it may be changed: a home that is read-only is used too."""
    with suppress(OSError):
        os.utime(folder)
