"""Which candidates become negatives."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen
from nv_retriever.errors import InputError


class MiningConfig(Frozen):
    """One mining run: filter, selection, anchor, ensemble, and what counts as a false negative beforehand."""

    rule: str = "topk-percpos(0.95)"
    """The filter: `topk`, `topk-shift(10)`, `topk-abs(0.7)`, `topk-marginpos(0.05)`, `topk-percpos(0.95)`,
    `topk-percentile(0.25)`; several at once with `&`."""
    selection: str = "top(4)"
    """How many candidates that passed the filter become negatives, and which: `top(4)`, `sample(4, of=10)`,
    `top1+sample(4, of=10)`."""
    anchor: Literal["each", "min", "max", "mean"] = "each"
    """The positive score that the rule compares with, where a query has several positives."""
    ensemble: Literal["none", "cross-sample", "intra-sample", "intra-sample-dedup"] = "none"
    """How several teachers share a sample's negatives (paper, section 3.2)."""
    min_score: float | None = None
    """A floor: candidates that score lower are too easy."""
    shortfall: Literal["fewer", "relax", "random", "drop"] = "fewer"
    """What to do with a sample for which the corpus has too few allowed candidates: write what there is, take some above
    the limit, draw random ones, or leave the sample out; never at or above the positive's score."""
    near_duplicates: float | None = Field(default=None, gt=0, le=1)
    """Exclude candidates at least this similar to a positive (cosine of the teacher's vectors, else MinHash Jaccard)."""
    oracle: bool = False
    """Exclude the positives that the data set hides (`dataset.known_positives`) as well: the upper bound of an ablation."""
    judge: str | None = None
    """Reads every chosen negative: `cross-encoder:MODEL`, or `chat:URL#MODEL` (an OpenAI-compatible endpoint, its key in
    NVR_JUDGE_API_KEY, else OPENAI_API_KEY). What it drops or calls a positive is replaced by the next choice."""
    judge_margin: float = Field(default=1.0, ge=0)
    """Of a cross-encoder judge, in logits: within it of the positive's score a negative is dropped, above it relabelled."""

    @field_validator("rule")
    @classmethod
    def _canonical_rule(cls, text: str) -> str:
        from nv_retriever.mining.rules.parse import parse_rule

        return parse_rule(text).name

    @field_validator("selection")
    @classmethod
    def _canonical_selection(cls, text: str) -> str:
        from nv_retriever.mining.selection import parse_selection

        return parse_selection(text).name

    @model_validator(mode="after")
    def _margin_needs_a_cross_encoder(self) -> Self:
        if self.differs("judge_margin") and not (self.judge or "").startswith("cross-encoder:"):
            raise InputError("judge_margin", "a judge cross-encoder:MODEL", f"{self.judge}: the setting has no effect")
        return self
