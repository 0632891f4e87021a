"""Names with arguments, as in `sample(4, of=10)`: how they are written and read back."""

from __future__ import annotations

import math
import re

from nv_retriever.errors import InputError

_NAME = re.compile(r"\s*([a-z0-9+-]*[a-z0-9])\s*(?:\(([^()]*)\))?\s*")


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number.

    >>> number_text(10.0), number_text(0.95)
    ('10', '0.95')
    """
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def split_name(text: str, where: str, expected: str) -> tuple[str, list[str]]:
    """Return a name and the texts of its arguments; raises InputError(where, expected, ...) when it has another form.

    >>> split_name("sample(4, of=10)", "selection", "a selection")
    ('sample', ['4', 'of=10'])
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise InputError(where, expected, repr(text))
    arguments = [] if match[2] is None else [part.strip() for part in match[2].split(",")]
    return match[1], arguments


def read_number(text: str, where: str, expected: str) -> float:
    """Return a finite number; raises InputError(where, expected, ...) otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(where, expected, repr(text))
    return value


def read_count(text: str, where: str, expected: str, at_least: int = 1) -> int:
    """Return a whole number of at least `at_least`; raises InputError(where, expected, ...) otherwise."""
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < at_least:
        raise InputError(where, expected, repr(text))
    return int(text)
