"""Errors that a person can act on: where it went wrong, what was expected, what was found."""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """A wrong input or wrong usage: the command line prints one line and exits with 2.

    >>> print(InputError("queries.jsonl line 3", "an object with '_id' and 'text'", "a list"))
    queries.jsonl line 3: expected an object with '_id' and 'text', found a list
    """

    def __init__(self, where: str, expected: str, found: str, hint: str = "") -> None:
        self.where, self.expected, self.found, self.hint = where, expected, found, hint
        message = f"{where}: expected {expected}, found {found}"
        super().__init__(f"{message}; {hint}" if hint else message)


def first_line(error: object) -> str:
    """Return the first line of what an error says, or its type where it says nothing.

    >>> first_line(ValueError("no such file\\nTraceback ...")), first_line(KeyboardInterrupt())
    ('no such file', 'KeyboardInterrupt')
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def printable(text: str) -> str:
    """Return text for a terminal: what it would obey instead of show (controls, changes of direction) is spelled out.

    >>> print(printable("red \\x1b[31m, reversed \\u202e"))
    red \\x1b[31m, reversed \\u202e
    """
    return _OBEYED.sub(lambda found: repr(found.group())[1:-1], text)


class ArtifactError(RuntimeError):
    """An artifact is missing, incomplete or damaged."""


class GateError(RuntimeError):
    """A quality gate of the run was not passed (leakage, false-negative rate, quarantined vectors)."""
