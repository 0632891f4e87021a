"""TREC run files whose scores alone give the order that was measured, whatever tool reads them.

Tools break ties differently: trec_eval by descending document id, the MS MARCO script by ascending, others by position,
and trec_eval keeps scores as float32. So equal scores are lowered to the next smaller float32 before they are measured.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from nv_retriever.files import write_aside
from nv_retriever.search.types import FloatArray


def strictly_descending(scores: FloatArray) -> FloatArray:
    """Return scores (n, k) float32, best first, with every score below the one before it; NaN padding stays NaN.

    Only ties change, by the least that float32 can show (1e-7 of the score).
    >>> strictly_descending(np.array([[1.0, 0.5, 0.5, 0.25]], np.float32)).tolist()
    [[1.0, 0.5, 0.4999999701976776, 0.25]]
    """
    result = np.array(scores, np.float32)
    for column in range(1, result.shape[1]):
        below = np.nextafter(result[:, column - 1], np.float32(-np.inf))
        result[:, column] = np.minimum(result[:, column], below)
    return result


class RunWriter:
    """Writes `query Q0 document rank score tag` lines to a gzip file; the same bytes for the same lines."""

    def __init__(self, file: IO[bytes], tag: str) -> None:
        self._gzip = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
        self.tag = trec_field(tag) or "run"

    def add(self, query_id: str, document_ids: Sequence[str], scores: Sequence[float]) -> None:
        """Write the results of one query, best first."""
        query, pairs = trec_field(query_id), zip(document_ids, scores, strict=True)
        lines = [
            f"{query} Q0 {trec_field(doc)} {rank} {score:.9g} {self.tag}\n" for rank, (doc, score) in enumerate(pairs, 1)
        ]
        self._gzip.write("".join(lines).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._gzip.close()


@contextmanager
def write_run(path: Path, tag: str) -> Iterator[RunWriter]:
    """Yield a writer of a gzipped run file, which appears complete or not at all."""
    with write_aside(path) as aside, aside.open("wb") as file, RunWriter(file, tag) as writer:
        yield writer


def trec_field(text: str) -> str:
    """Return text as one field of a TREC line: white space, which separates fields, is percent-encoded.

    >>> trec_field("a b"), trec_field("doc-1,(x)")
    ('a%20b', 'doc-1,(x)')
    """
    return re.sub(r"\s", lambda found: "".join(f"%{byte:02X}" for byte in found.group().encode()), text)
