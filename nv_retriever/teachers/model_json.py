"""The JSON files of a model's folder: somebody else wrote them, so that what is read has the kind that is expected."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from nv_retriever.errors import InputError
from nv_retriever.files import read_json

_KINDS: dict[type, str] = {dict: "a JSON object", list: "a JSON list", str: "a text", int: "a whole number"}


def read_kind(path: Path, kind: type = dict) -> Any:
    """Return what a JSON file holds, None where there is no file; raises InputError where it is not of the kind."""
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(str(path), "a JSON file", f"{error}") from None
    return typed(found, kind, str(path))


def typed(value: Any, kind: type, where: str) -> Any:
    """Return a value, None for none; raises InputError where it is not of the kind."""
    if value is not None and not isinstance(value, kind):
        raise InputError(where, _KINDS[kind], f"{type(value).__name__} {value!r:.60}")
    return value


def length(settings: dict[str, Any], name: str, folder: Path) -> float | None:
    """Return a number of tokens of a folder's settings, None where they have none; raises InputError for what is none."""
    found = settings.get(name)
    if found is not None and not (isinstance(found, int | float) and found >= 0):
        raise InputError(f"model {folder}: {name}", "a number of tokens", f"{found!r:.60}")
    return found


def below(folder: Path, place: object, where: str) -> Path:
    """Return a place inside a folder; raises InputError for one outside, which no digest of the folder would see."""
    path = PurePosixPath(typed(place, str, where) or "")
    if path.is_absolute() or ".." in path.parts:
        raise InputError(where, "a path inside the model's folder", repr(str(path)))
    return folder / path
