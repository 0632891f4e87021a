"""How a retriever is measured."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from nv_retriever.config import Frozen

METRICS = ("nDCG@10", "R@100", "RR@10", "AP@100")


class EvaluationConfig(Frozen):
    """Retrieval over the whole corpus, measured by ir_measures."""

    split: str = "test"
    """The qrels split."""
    metrics: tuple[str, ...] = METRICS
    """Names of ir_measures, in its own spelling (`NDCG@10` becomes `nDCG@10`): results are stored under it."""
    depth: int = Field(default=100, ge=1)
    """Documents retrieved per query."""
    ignore_identical_ids: bool | Literal["auto"] = "auto"
    """Drop a result whose id is the query's id: always (true, as BEIR), never (false), or only where it has the query's
    text as well (auto): collections that number queries and documents alike would lose relevant documents."""
    resamples: int = Field(default=10_000, ge=100)
    """Of the randomisation test and the bootstrap."""

    @field_validator("metrics")
    @classmethod
    def _canonical_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from nv_retriever.evaluation.metrics import parse_metrics

        return tuple(str(measure) for measure in parse_metrics(names))

    @model_validator(mode="after")
    def _metrics_within_the_depth(self) -> Self:
        if self.model_fields_set & {"metrics", "depth"}:  # the defaults fit, and are read without ir_measures
            from nv_retriever.evaluation.metrics import parse_metrics

            parse_metrics(self.metrics, self.depth)
        return self
