"""How a retriever is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from nv_retriever.config import Frozen

METRICS, DEPTH = ("nDCG@10", "R@100", "RR@10", "AP@100"), 100


class EvaluationConfig(Frozen):
    """Retrieval over the whole corpus, measured by ir_measures."""

    split: str = "auto"
    """The qrels split; auto: test, or where a benchmark is evaluated by its name, the benchmark's own."""
    depth: int = Field(default=DEPTH, ge=1)
    """Documents retrieved per query."""
    metrics: tuple[str, ...] = METRICS
    """Names of ir_measures, in its own spelling (`NDCG@10` becomes `nDCG@10`): results are stored under it."""
    ignore_identical_ids: bool | Literal["auto"] = "auto"
    """Drop a result whose id is the query's id: always (true, as BEIR), never (false), or only where it has the query's
    text as well (auto): collections that number queries and documents alike would lose relevant documents. Where a
    benchmark is evaluated by its name, auto is the benchmark's own rule."""
    resamples: int = Field(default=10_000, ge=100)
    """Of the randomisation test and the bootstrap."""

    def on(self, split: str) -> EvaluationConfig:
        """Return the settings on a split, if none was chosen."""
        return self.model_copy(update={"split": split}) if self.split == "auto" else self

    @field_validator("metrics")
    @classmethod
    def _canonical_names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        depth = info.data.get("depth")  # absent where it was wrong itself
        if depth is None or (names == METRICS and depth >= DEPTH):
            return names  # so that every start of a command does without ir_measures
        from nv_retriever.evaluation.metrics import parse_metrics

        return tuple(str(measure) for measure in parse_metrics(names, depth))
