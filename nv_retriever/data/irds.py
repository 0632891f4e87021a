"""Data sets of the ir_datasets catalogue (MacAvaney et al. 2021), when that package is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from nv_retriever.data.records import Document, Label, Place, Problems, Query, split_name
from nv_retriever.errors import InputError

_SPLITS = ("train", "dev", "validation", "test")
_TITLES = ("title", "headline")
_TEXTS = ("text", "body", "abstract", "question", "query", "title")


class IrDatasets:
    """The source behind `irds:NAME`: NAME with labels is one split, else NAME/train, /dev and /test are."""

    repeats = False

    def __init__(self, identifier: str) -> None:
        try:
            import ir_datasets  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise InputError(
                f"irds:{identifier}", "the package ir_datasets", "not installed", "pip install ir_datasets"
            ) from None
        self._irds = ir_datasets
        self.identifier = identifier
        self.name = identifier.replace("/", "-")
        self._base = self._find(identifier)
        if self._base is None:
            raise InputError(f"irds:{identifier}", "a data set of ir_datasets", "none of this name")
        parts = {part: self._base for part in [identifier.rsplit("/", 1)[-1]] if self._base.has_qrels()}
        children = {split: self._find(f"{identifier}/{split}") for split in _SPLITS}
        self._parts = parts or {split: child for split, child in children.items() if child is not None and child.has_qrels()}
        if not self._parts or not all(part.has_docs() for part in self._parts.values()):
            raise InputError(f"irds:{identifier}", "documents and relevance labels", "a data set without them")

    def _find(self, identifier: str) -> Any:
        try:
            return self._irds.load(identifier)
        except KeyError:
            return None

    def digest(self) -> str:
        """Return the identifiers and the package's version, which pins the digests of what it downloads."""
        return hashlib.sha256(f"{self._irds.__version__} {self.identifier} {sorted(self._parts)}".encode()).hexdigest()

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the documents (the children of a data set share them)."""
        part = next(iter(self._parts.values()))
        for number, doc in enumerate(part.docs_iter(), start=1):
            title = next((getattr(doc, name) for name in _TITLES if hasattr(doc, name)), "")
            text = next((getattr(doc, name) for name in _TEXTS if hasattr(doc, name)), None)
            text = doc.default_text() if text is None and hasattr(doc, "default_text") else text
            yield Document(doc.doc_id, "" if text == title else title, text, Place(self.identifier, number, "document"))

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the queries of all parts, each once."""
        seen: set[str] = set()
        for name, part in self._parts.items():
            for number, query in enumerate(part.queries_iter(), start=1):
                if query.query_id not in seen:
                    seen.add(query.query_id)
                    text = query.default_text() if hasattr(query, "default_text") else query.text
                    yield Query(query.query_id, text, Place(f"{self.identifier} {name}", number, "query"))

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield the labels of all parts."""
        for name, part in self._parts.items():
            for number, qrel in enumerate(part.qrels_iter(), start=1):
                place = Place(f"{self.identifier} {name}", number, "label")
                yield Label(split_name(name), qrel.query_id, qrel.doc_id, int(qrel.relevance), place)
