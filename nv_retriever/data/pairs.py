"""Rows of (query, positive), (query, positive, negative …) or (query, document, score) as documents, queries and labels.

Columns are recognised by their usual names, or named in `DatasetConfig.columns`. Cells may hold a text, a list of texts
(FlagEmbedding's `pos`, `neg`; with a list of scores sentence-transformers' labeled lists), or objects with `text`, `title`,
`docid` (Tevatron's `positive_passages`, DPR's `positive_ctxs`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nv_retriever.data.beir import parse_grade
from nv_retriever.data.records import Document, Label, Place, Problems, Query, split_name
from nv_retriever.data.text import content_hash
from nv_retriever.errors import InputError

ROLES: dict[str, tuple[str, ...]] = {
    "query": ("query", "question", "anchor", "query_text", "claim", "sentence1", "sentence_a", "search_query"),
    "positive": (
        *("positive", "pos", "positive_passages", "positives", "positive_text", "answer", "passage", "document", "context"),
        *("doc", "document_text", "passage_text", "response", "sentence2", "sentence_b", "abstract", "text"),
        *("documents", "passages", "positive_ctxs"),
    ),
    "negative": (
        *("negative", "neg", "negative_passages", "negatives", "hard_negative", "hard_negatives", "negative_text"),
        "hard_negative_ctxs",
    ),
    "query_id": ("query_id", "query-id", "qid", "question_id"),
    "positive_id": (
        "positive_id",
        "pos_id",
        "corpus_id",
        "corpus-id",
        "doc_id",
        "document_id",
        "docid",
        "passage_id",
        "pid",
    ),
    "negative_id": ("negative_id", "neg_id", "negative_ids"),
    "title": ("positive_title", "title", "doc_title", "document_title"),
    "negative_title": ("negative_title",),
    "score": ("score", "label", "labels", "relevance", "grade"),
    "split": ("split",),
}
"""Roles and the column names that are recognised, the first found wins."""
_SCORE_HINT = "--set dataset.columns.score=null takes no column for a score: every row is a positive"
OPTIONAL = frozenset(ROLES) - {"query", "positive"}
_DOCUMENT_ID = ("docid", "_id", "id", "doc_id", "passage_id", "psg_id")
"""Keys of an object that is a document."""
_NUMBERED_NEGATIVE = re.compile(r"^(hard_)?neg(ative)?_?\d+$")


@dataclass(frozen=True)
class Columns:
    """Which column plays which role."""

    role: Mapping[str, str]
    negatives: tuple[str, ...] = field(default=())
    """All columns of negatives: the role's own and numbered ones (`negative_1`, …)."""


def detect_columns(where: str, names: Sequence[str], given: Mapping[str, str | None]) -> Columns:
    """Return the roles of a table's columns; raises InputError that lists the columns where query or positive is missing.

    `given` names the columns of some roles, None says that a role has none.
    """
    role = {role: name for role, name in given.items() if name is not None}
    if absent := sorted(set(role.values()) - set(names)):
        raise InputError(where, f"a column {absent[0]!r}", f"the columns {', '.join(names)}")
    by_lower = {name.lower(): name for name in reversed(names)}
    taken = set(role.values())
    for name, aliases in ROLES.items():
        found = next((by_lower[a] for a in aliases if a in by_lower and by_lower[a] not in taken), None)
        if name not in given and found is not None:
            role[name] = found
            taken.add(found)
    for name in ("query", "positive"):
        if name not in role:
            hint = f"--set dataset.columns.{name}=COLUMN says which it is"
            raise InputError(
                where, f"a column for the {name} ({', '.join(ROLES[name][:6])}, …)", f"the columns {', '.join(names)}", hint
            )
    if "negative" in given and given["negative"] is None:
        return Columns(role)
    numbered = sorted((n for n in names if _NUMBERED_NEGATIVE.match(n.lower()) and n not in taken), key=_number)
    return Columns(role, tuple([role["negative"]] if "negative" in role else []) + tuple(numbered))


class RecordColumns:
    """The columns of records that may lack keys (JSON lines): detected for each set of keys, the same for all of a file."""

    def __init__(self, file: str, given: Mapping[str, str | None]) -> None:
        self._file, self._given = file, given
        self._known: dict[tuple[str, ...], Columns] = {}
        self._first: dict[tuple[tuple[str, str], ...], tuple[Place, set[str]]] = {}

    def of(self, place: Place, names: Sequence[str]) -> Columns:
        """Return a record's columns; raises InputError where query or positive is missing or may be another."""
        key = tuple(names)
        if key not in self._known:
            absent = {role for role, name in self._given.items() if name is not None and name not in names}
            here = {role: name for role, name in self._given.items() if role not in absent & OPTIONAL}
            columns = detect_columns(str(place), names, here)
            self._check_same(place, names, columns.role)
            self._known[key] = columns
        return self._known[key]

    def _check_same(self, place: Place, names: Sequence[str], roles: Mapping[str, str]) -> None:
        """A record without `positive` must not take `text` for it where another record has both."""
        key = tuple(sorted(roles.items()))
        for other, (first, others) in self._first.items():
            for role, name in other:
                mine = roles.get(role, name)
                if mine != name and (mine in others or name in names):
                    found = f"{mine!r} here and {name!r} at {first.unit} {first.row}"
                    hint = f"--set dataset.columns.{role}=COLUMN says which it is"
                    raise InputError(str(place), f"one column for the {role}", found, hint)
        if key in self._first:
            self._first[key][1].update(names)
        else:
            self._first[key] = (place, set(names))

    def finish(self) -> None:
        """Raise InputError for a given column that no record has."""
        present = {name for names in self._known for name in names}
        given = {name for name in self._given.values() if name is not None}
        if self._known and (absent := sorted(given - present)):
            raise InputError(self._file, f"a column {absent[0]!r}", f"the columns {', '.join(sorted(present))}")


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return int(digits.group()) if digits else -1, name


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    place: Place
    cells: Mapping[str, Any]
    columns: Columns
    split: str = ""
    """The split that the file stands for, if any."""

    def get(self, role: str) -> Any:
        """Return the cell of a role, None where there is no such column."""
        name = self.columns.role.get(role)
        return None if name is None else self.cells.get(name)

    def query(self) -> Query:
        """Return the query; its id comes from its normalised text where no column has one."""
        text, identifier = self.get("query"), self.get("query_id")
        if identifier is None:  # of what is no text too: that is the one thing to be told, not that its id is missing
            identifier = f"q-{content_hash(text if isinstance(text, str) else '').hex()[:20]}"
        return Query(identifier, text, self.place)

    def positives(self) -> list[Document]:
        """Return the positive documents (with a score column: the labelled ones)."""
        return self._documents(self.get("positive"), "positive_id", "title")

    def grades(self, count: int, problems: Problems) -> list[int | None]:
        """Return the grades of the row's `count` positives: 1 without a score, None where a score is wrong (noted)."""
        scores = self.get("score")
        if not isinstance(scores, list | tuple):
            return [self._grade(scores, problems)] * count
        if len(scores) != count:
            problems.add(self.place, f"a score for each of {count} documents", f"{len(scores)} scores", _SCORE_HINT)
            return [None] * count
        return [self._grade(score, problems) for score in scores]

    def _grade(self, score: Any, problems: Problems) -> int | None:
        return 1 if score is None or score == "" else parse_grade(score, self.place, problems, _SCORE_HINT)

    def negatives(self) -> list[Document]:
        """Return the negative documents; empty cells mean that there are fewer."""
        cells = (self._documents(self.cells.get(name), "negative_id", "negative_title") for name in self.columns.negatives)
        return [d for documents in cells for d in documents if d.text not in (None, "")]

    def _documents(self, cell: Any, id_role: str, title_role: str) -> list[Document]:
        items = cell if isinstance(cell, list | tuple) else [cell]
        ids, titles = self.get(id_role), self.get(title_role)
        documents = []
        for number, item in enumerate(items):
            identifier, title = _item(ids, number, len(items)), _item(titles, number, len(items))
            if isinstance(item, Mapping):
                identifier = next((item[k] for k in _DOCUMENT_ID if item.get(k) is not None), identifier)
                title = item.get("title", title)
                item = item.get("text", item.get("passage", item))
            if identifier is None:
                identifier = document_id(*(part if isinstance(part, str) else "" for part in (title, item)))
            documents.append(Document(identifier, title, item, self.place))
        return documents

    def splits(self) -> str:
        """Return the row's split: its column, else its file's, else "" (chosen by the query's hash)."""
        value = self.get("split")
        return split_name(str(value)) if value not in (None, "") else self.split


def _item(values: Any, number: int, count: int) -> Any:
    if isinstance(values, list | tuple):
        return values[number] if number < len(values) else None
    return values if count == 1 else None


def document_id(title: str, text: str) -> str:
    """Return an id that depends on the normalised title and text only."""
    key = content_hash(text) + (content_hash(title) if title.strip() else b"")
    return f"d-{hashlib.blake2b(key, digest_size=10).hexdigest()}"


class PairSource:
    """Documents, queries and labels of rows; subclasses say where the rows come from."""

    repeats = True
    name: str

    def rows(self, problems: Problems) -> Iterator[Row]:
        """Yield all rows."""
        raise NotImplementedError

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the positives and negatives of every row; one with an empty list of positives has a blank one."""
        for row in self.rows(problems):
            yield from row.positives() or [Document(document_id("", ""), None, None, row.place)]
            yield from row.negatives()

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the query of every row."""
        for row in self.rows(problems):
            yield row.query()

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield grade 1 (or the score) for positives and grade 0 for negatives."""
        for row in self.rows(problems):
            split, query, positives = row.splits(), row.query().id, row.positives()
            for document, grade in zip(positives, row.grades(len(positives), problems), strict=True):
                if grade is not None:
                    yield Label(split, query, document.id, grade, row.place)
            yield from (Label(split, query, document.id, 0, row.place) for document in row.negatives())
