"""How candidates are searched."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen
from nv_retriever.errors import InputError


class SearchConfig(Frozen):
    """The candidate table: how deep, and with which index."""

    depth: int = Field(default=100, ge=1, lt=2**31)
    """Candidates kept per query; queries that the filter leaves short are searched deeper, exactly."""
    index: str = "exact"
    """`exact`, or an approximate FAISS index: `ivf(nlist=1024, nprobe=32)`, `ivfpq(…)`, `hnsw(…)`."""
    min_recall: float = Field(default=0.95, ge=0, le=1)
    """An approximate index whose measured recall against exact search is lower fails the run."""
    exclude_same_id: bool = True
    """Exclude the document whose id is the query's id (as in ArguAna or Quora)."""
    max_quarantined: float = Field(default=0.0, ge=0, le=1)
    """The run fails when a larger share of the vectors is not finite; those below it are quarantined and counted."""

    @field_validator("index")
    @classmethod
    def _canonical_index(cls, text: str) -> str:
        from nv_retriever.search.index import IndexName

        return str(IndexName.parse(text))

    @model_validator(mode="after")
    def _recall_needs_an_approximate_index(self) -> Self:
        if self.index == "exact" and self.differs("min_recall"):
            raise InputError("search.min_recall", "an approximate index", "index exact: the setting has no effect")
        return self
