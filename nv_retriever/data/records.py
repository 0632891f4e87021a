"""What a source yields (documents, queries, labels, each with its place) and how wrong ones are reported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn, Protocol

from nv_retriever.errors import InputError


class Place(NamedTuple):
    """Where a record was read."""

    file: str
    """As the user knows it: a path, or a data set's name."""
    row: int
    """Line number from 1 in text files (a header is line 1), record number from 1 elsewhere."""
    unit: str = "line"
    """`line` or `row`."""

    def __str__(self) -> str:
        return f"{self.file} {self.unit} {self.row}"


class Document(NamedTuple):
    """A document as read, unchecked."""

    id: Any
    title: Any
    text: Any
    place: Place


class Query(NamedTuple):
    """A query as read, unchecked."""

    id: Any
    text: Any
    place: Place


class Label(NamedTuple):
    """A relevance label as read; ids are unchecked, the split `""` lets ingestion choose one by a hash of the query."""

    split: str
    query_id: Any
    document_id: Any
    grade: int
    place: Place


class Problems:
    """Collects what is wrong with an input, so that one message names the first few places at once."""

    def __init__(self, shown: int = 4, most: int = 1000) -> None:
        self.first: list[InputError] = []
        self.count = 0
        self._shown, self._most = shown, most

    def add(self, where: object, expected: str, found: str, hint: str = "") -> None:
        """Note a problem; gives up (raises InputError) where there are too many to go on."""
        self.count += 1
        if len(self.first) < self._shown:
            self.first.append(InputError(str(where), expected, found, hint))
        if self.count >= self._most:
            self.stop()

    def stop(self) -> NoReturn:
        """Raise one InputError for everything noted."""
        first, others = self.first[0], self.first[1:]
        hint = first.hint
        if others:
            listed = "; ".join(
                f"{e.where}: " + ("" if e.expected == first.expected else f"expected {e.expected}, ") + f"found {e.found}"
                for e in others
            )
            unnamed = self.count - len(self.first)
            more = f"{self.count - 1} more: {listed}" + (f"; … ({unnamed} not shown)" if unnamed else "")
            hint = f"{hint}; {more}" if hint else more
        raise InputError(first.where, first.expected, first.found, hint)

    def check(self) -> None:
        """Raise where anything was noted."""
        if self.count:
            self.stop()


class Source(Protocol):
    """A place that documents, queries and labels are read from, each streamed once and in any order."""

    name: str
    """The data set's short name."""
    repeats: bool
    """Whether an id may come again with the same content (files of pairs repeat their passages)."""

    def digest(self) -> str:
        """Return a digest of everything that is read: it goes into the data set's fingerprint."""
        ...

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the documents."""
        ...

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the queries."""
        ...

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield the relevance labels."""
        ...


SPLIT_ALIASES = {
    **{name: name for name in ("train", "dev", "test")},
    **{"validation": "dev", "valid": "dev", "val": "dev", "development": "dev", "training": "train"},
}


def split_name(name: str) -> str:
    """Return the project's name of a split: `validation` and its like are `dev`, and `Train` is `train`."""
    return SPLIT_ALIASES.get(name.strip().lower(), name.strip())


def parse_grade(value: object, place: Place, problems: Problems, hint: str = "") -> int | None:
    """Return a grade as an integer (`1`, `1.0`, True); anything else is noted."""
    try:
        number = float(str(value)) if not isinstance(value, bool) else float(value)
        if number.is_integer() and abs(number) < 2**31:
            return int(number)
    except ValueError:
        pass
    problems.add(place, "a whole number as score", shorten(value), hint)
    return None


def shorten(value: object, length: int = 60) -> str:
    """Return a short `repr` for messages."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
