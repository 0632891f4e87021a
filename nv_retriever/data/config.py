"""What data set to read, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen
from nv_retriever.errors import InputError


class DatasetConfig(Frozen):
    """A collection of documents, queries and relevance labels."""

    source: str = "stdlib"
    """`stdlib` (the documentation of Python's standard library), a BEIR folder, a parquet/JSONL/CSV file (or a folder of
    them) of pairs or triples, a BEIR name such as `scifact`, `hf:ORG/NAME[:CONFIG]`, or `irds:NAME`."""
    document_template: str = "{title} {text}"
    """The one text view of a document, shared by mining, training and evaluation; stripped at both ends."""
    min_grade: int = Field(default=1, ge=1)
    """Relevance labels of at least this grade are positives; lower ones are judged negatives."""
    on_empty: Literal["auto", "fail", "skip"] = "auto"
    """What to do with an empty or blank text: fail with its file and row, or skip it (counted); `auto` fails for folders and
    files, and skips in published data sets, which nobody can mend (BEIR's FiQA has some)."""
    on_unknown: Literal["fail", "skip"] = "fail"
    """What to do with a label that names an unknown query or document."""
    on_leak: Literal["drop", "keep"] = "drop"
    """What to do with a query of the split `train` that dev or test asks too, in the same normalised words: drop it from
    training (counted; its labels stay known), or keep it, which the run's `leakage` check then speaks about."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many queries of each split (chosen by a hash of their ids); all documents are kept, and all labels
    stay known, so that a positive of a query left out is still no negative of its twin."""
    train_limit: int | None = Field(default=None, ge=1)
    """The same for the split `train` alone: a small training set beside the whole of dev and test."""
    known_positives: int | None = Field(default=None, ge=1)
    """For studies of incomplete labels: a query of the split `train` keeps at most this many positives, chosen by a hash;
    the others are hidden: stored apart, where only the counting of false negatives and `mining.oracle` look."""
    hiding_seed: int = Field(default=0, ge=0)
    """Of the hash that chooses the known positives."""
    columns: Mapping[str, str | None] = Field(default_factory=dict)
    """For files of pairs: the column of each role, e.g. {"query": "question", "positive": "answer"}; null for none, e.g.
    {"score": null} where the column named score holds no labels."""
    revision: str | None = None
    """Revision of a data set from the hub."""

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> Self:
        if self.hiding_seed and self.known_positives is None:
            raise ValueError("hiding_seed chooses the known positives: set known_positives")
        return self

    @field_validator("columns")
    @classmethod
    def _roles(cls, value: Mapping[str, str | None]) -> Mapping[str, str | None]:
        from nv_retriever.data.pair_columns import ROLES

        if unknown := sorted(set(value) - set(ROLES)):
            raise InputError("dataset.columns", f"the roles {', '.join(ROLES)}", ", ".join(unknown))
        return value

    @field_validator("document_template")
    @classmethod
    def _template(cls, value: str) -> str:
        from nv_retriever.data.text import TextView

        return TextView(value).template
