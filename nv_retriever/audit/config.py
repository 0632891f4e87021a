"""What an audit of a miner sweeps, and what it asks of the result."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen
from nv_retriever.errors import InputError


class AuditConfig(Frozen):
    """An audit: which rules are swept, how negatives are taken, and which false-negative rate is too much."""

    rules: tuple[str, ...] = ()
    """The filters to compare; `topk` is always added, as the one to compare with. By default the paper's settings and
    beyond, margins in units of each teacher's scores."""
    rule: str | None = None
    """The rule that the run mines with (in a run: `mining.rule`); swept with the others."""
    selection: str = "top(4)"
    """How negatives are taken from the survivors (in a run: as it mines); its number is what every sample should get."""
    max_samples: int | None = Field(default=50_000, ge=1)
    """At most this many (query, visible positive) samples, drawn by a hash of seed and ids; null takes every one."""
    positives_per_query: int | None = Field(default=None, ge=1)
    """Positives of a query that are visible in turn, drawn likewise; by default every one."""
    deepen: bool = True
    """Mine samples that a candidate table leaves short in the whole corpus, where a teacher is at hand; else they count as
    unproven, and nothing is searched."""
    min_queries: int = Field(default=30, ge=1)
    """With fewer queries of several positives, false negatives are not measurable: the recommendation falls back on the
    drop rate and the shortage."""
    target_rate: float | None = Field(default=0.1, ge=0, le=1)
    """What the upper bound of a recommended rule's false-negative rate may be; null takes the relative target."""
    target_reduction: float = Field(default=0.5, ge=0, lt=1)
    """Without target_rate: the share of naive top-k's false negatives that a recommended rule must at least remove (the
    paper's best setting removed 50 to 57 %)."""
    min_coverage: float = Field(default=0.95, ge=0, le=1)
    """Of the samples that some positive-aware rule gives all wanted negatives, the share that a recommended one must."""
    max_drop: float = Field(default=0.5, ge=0, le=1)
    """In the fall-back: the share of the 50 best candidates that a recommended rule may drop."""
    max_rate: float | None = Field(default=None, ge=0, le=1)
    """The gate: a run whose rule has a higher false-negative rate fails, after its report; null never fails."""
    near_duplicates: float | None = Field(default=0.8, gt=0, le=1)
    """Documents whose word shingles are at least this similar (Jaccard) are counted as near-duplicates; null does not look
    for them (about two milliseconds a passage of 200 words)."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the intervals."""
    resamples: int = Field(default=1_000, ge=100)
    """Of the bootstrap over queries."""
    bins: int = Field(default=40, ge=2, le=200)
    """Of the score histograms."""
    seed: int = Field(default=0, ge=0)
    """Of the draw and the bootstrap."""

    @field_validator("rules", "rule")
    @classmethod
    def _canonical(cls, rules: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        from nv_retriever.mining.rules.parse import parse_rule

        return (
            tuple(parse_rule(rule).name for rule in rules) if isinstance(rules, tuple) else rules and parse_rule(rules).name
        )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_rate is not None and self.differs("target_reduction"):
            found = f"target_rate={self.target_rate}, so that target_reduction has no effect"
            raise InputError("audit.target_reduction", "target_rate: null beside it", found)
        return self
