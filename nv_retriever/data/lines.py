"""Lines and JSON objects of text files, plain or gzipped, with exact line numbers and errors that name them."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from nv_retriever.data.records import Place, Problems, shorten
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import file_digest

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_LINE = 1 << 28
"""Bytes: more is no record, and a few kilobytes of gzip data might fill the memory with it."""
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading bytes; `.gz` is decompressed. Raises InputError for a missing or wrongly named file."""
    if not path.is_file():
        raise InputError(str(path), "a file", "a folder" if path.is_dir() else "nothing there")
    with path.open("rb") as file:
        gzipped = file.read(2) == _GZIP_MAGIC
    named = path.suffix.lower() == ".gz"
    if named and not gzipped:
        raise InputError(str(path), "gzip data", "something else", "remove .gz from the name if it is plain text")
    if gzipped and not named:
        raise InputError(str(path), "text", "gzip data", "add .gz to the name")
    return cast(BinaryIO, gzip.open(path) if gzipped else path.open("rb"))


def iter_lines(path: Path, problems: Problems) -> Iterator[tuple[Place, str]]:
    """Yield the lines of a UTF-8 file without their ends; lines that are not UTF-8 are noted, broken gzip data raises."""
    name, number = str(path), 0
    with open_binary(path) as file:
        try:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                place = Place(name, number)
                if len(raw) > LONGEST_LINE:
                    raise InputError(str(place), f"a line of at most {LONGEST_LINE:,} bytes", "more")
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    hint = "it is UTF-16: save it as UTF-8" if number == 1 and raw.startswith(_UTF16) else ""
                    problems.add(place, "UTF-8", f"byte 0x{raw[error.start]:02x} at column {error.start + 1}", hint)
                    continue
                yield place, line.rstrip("\r\n")
        except _DAMAGED as error:
            raise InputError(f"{name} after line {number}", "sound gzip data", f"a damaged file ({error})") from None


def read_bytes(path: Path, size: int = -1) -> bytes:
    """Return a file's first `size` bytes, or all; raises InputError for broken gzip data."""
    with open_binary(path) as file:
        try:
            return file.read(size)
        except _DAMAGED as error:
            raise InputError(str(path), "sound gzip data", f"a damaged file ({error})") from None


def iter_json(path: Path, problems: Problems) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file; lines that are no JSON objects are noted, blank lines are passed over."""
    for place, line in iter_lines(path, problems):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(place, "a JSON object", f"{shorten(line, 40)} ({error})")
            continue
        if isinstance(value, dict):
            yield place, value
        else:
            problems.add(place, "a JSON object", f"{type(value).__name__} {shorten(value, 40)}")


def files_digest(paths: Sequence[Path], root: Path) -> str:
    """Return the sha256 over the names (relative to `root`) and contents of files; raises InputError for a missing one."""
    for path in paths:
        if not path.is_file():
            raise InputError(str(path), "a file", "nothing there")
    pairs = [[path.relative_to(root).as_posix(), file_digest(path)] for path in sorted(paths)]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
