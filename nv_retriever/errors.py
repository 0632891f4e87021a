"""Errors that a person can act on: where it went wrong, what was expected, what was found."""

from __future__ import annotations


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


class ArtifactError(RuntimeError):
    """An artifact is missing, incomplete or damaged."""


class GateError(RuntimeError):
    """A quality gate of the run was not passed (leakage, false-negative rate, quarantined vectors)."""
