"""A disk that takes no more: every library that writes has other words for it, and few of them name the place."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nv_retriever.errors import ArtifactError, GateError, InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""There is no room: on the disk, for this user, in a file."""
DISK_ERRORS = (*FULL, errno.EIO, errno.EROFS)
"""Why a disk does not take what is written."""
SQLITE = {"database or disk is full": errno.ENOSPC, "disk I/O error": errno.EIO}
GUESSED = ("requested and", "unexpected pos", "PytorchStreamWriter failed")
"""What numpy and torch say of a file that they could not write to its end: neither says why."""


@contextmanager
def place_named(place: Path | str) -> Iterator[None]:
    """Raise errors of a disk as OSError with its reason and the place, whatever the library that writes makes of them."""
    try:
        yield
    except (InputError, ArtifactError, GateError):
        raise
    except Exception as error:
        named = isinstance(error, OSError) and error.filename is not None
        found = None if named else disk_error(error)
        if found is None:
            raise
        raise OSError(*found, str(place)) from error


def disk_error(error: Exception) -> tuple[int, str] | None:
    """Return number and text of the system's error behind another; None where no disk is behind it.

    >>> disk_error(RuntimeError("I/O error: No space left on device (os error 28)"))
    (28, 'No space left on device')
    """
    text, number = str(error), error.errno if isinstance(error, OSError) else None
    if number is None and any(words in text for words in GUESSED):
        return errno.ENOSPC, f"{text}; is the disk full?"
    if number is None:
        told = SQLITE | {os.strerror(one): one for one in FULL}
        number = next((told[words] for words in told if words in text), None)
    return (number, os.strerror(number)) if number in DISK_ERRORS else None
