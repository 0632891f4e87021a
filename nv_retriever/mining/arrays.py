"""Arrays and ids as a caller has them, brought into canonical order: by id, as ingestion does."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Qrels
from nv_retriever.data.records import shorten
from nv_retriever.data.text import is_blank
from nv_retriever.errors import InputError
from nv_retriever.ragged import Index
from nv_retriever.search.types import FloatArray

Positives = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
"""{query: document or documents} or pairs (query, document), of ids, or of row numbers where no ids are given."""


@dataclass(frozen=True)
class ArrayVectors:
    """An array as a source of vectors for search."""

    array: FloatArray
    """(n, dim) float32."""

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.array.shape[0])

    @property
    def dim(self) -> int:
        """Numbers per row."""
        return int(self.array.shape[1])

    def blocks(self, max_rows: int) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, rows) for at most `max_rows` at a time."""
        for start in range(0, self.n, max_rows):
            yield start, self.array[start : start + max_rows]

    def take(self, rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return some rows."""
        taken: FloatArray = self.array[rows]
        return taken


@dataclass(frozen=True)
class Side:
    """Queries or documents in canonical order: by id, or by row where no ids are given."""

    order: Index
    """(n,) the input's row of every canonical row."""
    ids: npt.NDArray[np.object_]
    texts: list[str] | None
    row_of: dict[Any, int]
    """From what the caller calls it to the canonical row."""

    @staticmethod
    def of(number: int, ids: Sequence[Hashable] | None, texts: Sequence[str] | None, name: str) -> Side:
        """Return the order of `number` things; raises InputError where ids or texts are not as many, repeated or blank."""
        ids, texts = _one_each(ids, number, f"{name}_ids"), _one_each(texts, number, f"{name}_texts")
        blank = [row for row, text in enumerate(texts or ()) if not isinstance(text, str) or is_blank(text)]
        if blank:
            raise InputError(f"{name}_texts", "texts that are not blank", f"{len(blank)}, the first are rows {blank[:5]}")
        called: Sequence[Any] = range(number) if ids is None else ids
        written = np.array([str(one) for one in called], object)
        order = np.arange(number) if ids is None else np.argsort(written, kind="stable")
        ordered = written[order]
        repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(repeated):
            raise InputError(f"{name}_ids", "different ids", f"{ordered[repeated[0]]!r} twice")
        if unhashable := [one for one in called if not isinstance(one, Hashable)]:
            raise InputError(f"{name}_ids", "texts or numbers", shorten(unhashable[0]))
        place = {called[row]: place for place, row in enumerate(order.tolist())}
        return Side(order, ordered, None if texts is None else [texts[row] for row in order.tolist()], place)


def _one_each(values: Any, number: int, name: str) -> list[Any] | None:
    """Return ids or texts as a list: of an array, a tensor or a column of a data frame its plain values."""
    if values is None:
        return None
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(name, f"a list of {number}, one a vector", shorten(values))
    plain = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(plain) != number:
        raise InputError(name, f"{number}, one a vector", str(len(plain)))
    return plain


def read_vectors(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Return (n, dim) float32; raises InputError unless there are rows and all numbers are finite."""
    try:
        vectors = np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        # Texts, ragged lists, tensors of a GPU, in bf16 or with gradients.
        expected = "an array (n, dimension) of numbers that numpy reads"
        raise InputError(name, expected, f"{type(values).__name__}: {error}") from None
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise InputError(name, "an array (n, dimension) with at least one row", f"shape {vectors.shape}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(name, "finite numbers", f"NaN or infinity in {len(bad)} rows, the first are {bad[:5].tolist()}")
    return vectors


def read_positives(positives: Positives, queries: Side, documents: Side) -> Qrels:
    """Return the labels by canonical rows, without repeats; raises InputError for what is unknown."""
    pairs: set[tuple[int, int]] = set()
    for query, document in _pairs(positives, documents):
        for side, value, name in ((queries, query, "query"), (documents, document, "document")):
            if not isinstance(value, Hashable) or value not in side.row_of:
                alike = next((one for one in side.row_of if str(one) == str(value)), None)
                hint = "" if alike is None else f"the ids have {alike!r}: {type(alike).__name__}, not {type(value).__name__}"
                raise InputError("positives", f"a known {name}", repr(value), hint)
        pairs.add((queries.row_of[query], documents.row_of[document]))
    if not pairs:
        raise InputError("positives", "at least one (query, document)", "none")
    columns = np.array(sorted(pairs), np.int32)
    return Qrels(columns[:, 0], columns[:, 1], np.ones(len(columns), np.int32))


def _pairs(positives: Positives, right: Side) -> Iterable[tuple[Any, Any]]:
    if not isinstance(positives, Mapping):
        forms = "{query: document or documents} or pairs (query, document)"
        if isinstance(positives, str | bytes) or not isinstance(positives, Iterable):
            raise InputError("positives", forms, shorten(positives))
        for pair in positives:
            if isinstance(pair, str | bytes) or not isinstance(pair, Sequence | np.ndarray) or len(pair) != 2:
                raise InputError("positives", forms, f"{shorten(pair)} among them")
            yield pair[0], pair[1]
        return
    for query, documents in positives.items():
        one = isinstance(documents, str | bytes) or (isinstance(documents, tuple) and documents in right.row_of)
        several = isinstance(documents, Iterable) and not one
        yield from ((query, document) for document in (documents if several else [documents]))
