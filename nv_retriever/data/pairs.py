"""Rows of (query, positive), (query, positive, negative …) or (query, document, score) as documents, queries and labels.

Cells may hold a text, a list of texts (FlagEmbedding's `pos`, `neg`; with a list of scores sentence-transformers' labeled
lists), or objects with `text`, `title`, `docid` (Tevatron's `positive_passages`, DPR's `positive_ctxs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nv_retriever.data.pair_columns import Columns
from nv_retriever.data.records import Document, Label, Place, Problems, Query, parse_grade, split_name
from nv_retriever.data.text import content_hash

_SCORE_HINT = "--set dataset.columns.score=null takes no column for a score: every row is a positive"
_DOCUMENT_ID = ("docid", "_id", "id", "doc_id", "passage_id", "psg_id")
"""Keys of an object that is a document."""


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
