"""Fingerprints: the sha256 of what determines a result, and of nothing else."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from nv_retriever.config import Unfingerprinted

_CHUNK = 1 << 22


def canonical(value: object) -> Any:
    """Return `value` as plain JSON data with one spelling; unknown types raise TypeError.

    `Unfingerprinted` values are left out. An object with a method `__fingerprint__` is represented by what it returns.
    """
    if hasattr(value, "__fingerprint__"):
        return canonical(value.__fingerprint__())
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"a fingerprint takes finite numbers only, found {value}")
        return value
    if isinstance(value, BaseModel):
        return canonical({name: getattr(value, name) for name in type(value).model_fields})
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a fingerprint takes mappings with text keys only")
        return {key: canonical(item) for key, item in sorted(value.items()) if not isinstance(item, Unfingerprinted)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    raise TypeError(f"a fingerprint takes JSON data and configuration models only, found {type(value).__name__}")


def fingerprint(value: object) -> str:
    """Return the first 32 hex digits of the sha256 of the canonical JSON of `value`."""
    text = json.dumps(canonical(value), ensure_ascii=True, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_digests: dict[tuple[str, int, int, int], str] = {}
_digests_lock = threading.Lock()


def file_digest(path: Path) -> str:
    """Return the sha256 (64 hex digits) of a file's content; remembered within the process while size and time stay."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    with _digests_lock:
        known = _digests.get(key)
    if known is None:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        known = digest.hexdigest()
        with _digests_lock:
            _digests[key] = known
    return known


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield all files below a folder, hidden ones left out; linked folders are followed, as by whoever reads them."""
    here = folder.resolve()
    if here in above:  # a link back
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from files_below(path, (*above, here))
        elif path.is_file():
            yield path


def folder_digest(folder: Path) -> str:
    """Return the sha256 over the relative names and contents of all files below `folder`, hidden ones left out."""
    names = sorted(str(path.relative_to(folder)) for path in files_below(folder))
    pairs = [[name, file_digest(folder / name)] for name in names]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
