"""How to ask an HTTP server: with which key, which answers are worth another attempt, and how long to wait for it."""

from __future__ import annotations

import email.utils
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nv_retriever.errors import InputError

if TYPE_CHECKING:
    import httpx

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes of troubles that pass: time-outs, conflicts, too many requests, a server that is down or busy."""


LARGEST_REPLY = 1 << 30
"""Bytes, unpacked: several times what 2,048 vectors of 8,192 numbers are in JSON."""


def post(client: httpx.Client, url: str, body: object) -> httpx.Response:
    """Return the answer to a JSON body, read whole; raises InputError for one that would fill the memory.

    Whoever answers with another address is not followed: the key is for this one.
    """
    import httpx

    with client.stream("POST", url, json=body, follow_redirects=False) as reply:
        content = bytearray()
        for part in reply.iter_bytes():
            content += part
            if len(content) > LARGEST_REPLY:
                raise InputError(url, f"an answer of at most {LARGEST_REPLY:,} bytes", "more")
    return httpx.Response(reply.status_code, headers=_unpacked(reply.headers), content=bytes(content))


def _unpacked(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Return the headers of an answer without those of its transport."""
    return [(name, value) for name, value in headers.items() if not name.startswith(("content-encoding", "transfer-"))]


def authorization(variables: Sequence[str]) -> dict[str, str]:
    """Return the header with the key of the first environment variable that has one; without a key there is none.

    White space around it, as at the end of a file, is no part of it. Raises InputError, without the key, for one that is no
    header: the HTTP library would repeat the key in its message.
    """
    name = next((name for name in variables if os.environ.get(name, "").strip()), None)
    if name is None:
        return {}
    key = os.environ[name].strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(name, "a key of printable ASCII characters", "others in it")
    return {"Authorization": f"Bearer {key}"}


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date; None where it asks for nothing.

    >>> retry_after("7"), retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), retry_after("soon"), retry_after(None)
    (7.0, 0.0, None, None)
    """
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
