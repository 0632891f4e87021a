"""Which column of a table plays which role: recognised by its usual name, or named in `DatasetConfig.columns`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nv_retriever.data.records import Place
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
        *("positive_id", "pos_id", "corpus_id", "corpus-id", "doc_id", "document_id"),
        *("docid", "passage_id", "pid"),
    ),
    "negative_id": ("negative_id", "neg_id", "negative_ids"),
    "title": ("positive_title", "title", "doc_title", "document_title"),
    "negative_title": ("negative_title",),
    "score": ("score", "label", "labels", "relevance", "grade"),
    "split": ("split",),
}
"""Roles and the column names that are recognised, the first found wins."""
OPTIONAL = frozenset(ROLES) - {"query", "positive"}
_NUMBERED_NEGATIVE = re.compile(r"^(hard_)?neg(ative)?_?\d+$")


@dataclass(frozen=True)
class Columns:
    """Which column plays which role."""

    role: Mapping[str, str]
    negatives: tuple[str, ...] = ()
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
