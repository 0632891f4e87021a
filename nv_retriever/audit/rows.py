"""One row a rule: the false-negative rate against hardness and coverage, with intervals over queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.intervals import Counts, bootstrap_ratios, clustered_rate, quantile_interval
from nv_retriever.audit.tallies import Tally
from nv_retriever.mining.rules.base import Rule

BASELINE = "topk"


@dataclass(frozen=True)
class RuleRow:
    """What mining with one rule and one teacher gave; NaN where nothing was counted."""

    teacher: str
    rule: str
    samples: int
    negatives: int
    false_negatives: int | None
    """Negatives that are hidden positives, or their duplicates; None where too few queries have several positives."""
    rate: float
    """false_negatives / negatives."""
    rate_low: float
    rate_high: float
    fewer: float
    """Share of naive top-k's rate that the rule removes."""
    fewer_low: float
    fewer_high: float
    hardness: float
    """Mean of positive score - negative score over the negatives, in the teacher's units: smaller is harder."""
    hardness_normalised: float
    """The same in standard deviations of the positives' scores: comparable between teachers."""
    mean_rank: float
    """Of the negatives."""
    coverage: float
    """Share of the samples that got all wanted negatives."""
    unproven: float
    """Share of the samples for which the candidate table ended too early to say."""
    drop: float
    """Share of the 50 best candidates that the rule rejects."""
    aware: bool
    """Positive-aware: no negative can score above its positive."""

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON data, None for NaN."""
        return {key: clean(value) for key, value in asdict(self).items()}

    def unmeasured(self) -> RuleRow:
        """Return the row of a sweep in which no label was hidden: it says nothing about false negatives."""
        nan = math.nan
        rates = replace(self, rate=nan, rate_low=nan, rate_high=nan, fewer=nan, fewer_low=nan, fewer_high=nan)
        return replace(rates, false_negatives=None)


def clean(value: Any) -> Any:
    """Return None for a number that JSON cannot hold, plain numbers for numpy's, and anything else as it is."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rule_rows(
    teacher: str,
    rules: Sequence[Rule],
    tallies: Sequence[Tally],
    spread: float,
    config: AuditConfig,
) -> list[RuleRow]:
    """Return the rows of a sweep; `rules` must hold `topk`, `spread` is the standard deviation of the positives' scores."""
    hits = np.stack([tally.false for tally in tallies], axis=1)
    trials = np.stack([tally.negatives for tally in tallies], axis=1)
    ratios = bootstrap_ratios(hits, trials, config.resamples, config.seed)
    base = [rule.name for rule in rules].index(BASELINE)
    return [
        _row(teacher, rule, tally, tallies[base], _fewer(ratios, number, base), spread, config.confidence)
        for number, (rule, tally) in enumerate(zip(rules, tallies, strict=True))
    ]


def is_positive_aware(rule: Rule) -> bool:
    """Return whether a rule's limit never lies above the positive's score."""
    anchors = np.linspace(-2, 2, 17, dtype=np.float32)
    return all(bool(rule.limits(anchors[i : i + 1])[0] <= anchors[i]) for i in range(len(anchors)))


def _fewer(ratios: Counts, number: int, base: int) -> Counts:
    out = np.full(len(ratios), np.nan)
    np.divide(ratios[:, number], ratios[:, base], out=out, where=ratios[:, base] > 0)
    return 1 - out


def _row(teacher: str, rule: Rule, tally: Tally, base: Tally, fewer: Counts, spread: float, confidence: float) -> RuleRow:
    rate, naive = (clustered_rate(one.false, one.negatives, confidence) for one in (tally, base))
    low, high = quantile_interval(fewer, confidence)
    negatives, samples = float(tally.negatives.sum()), float(tally.samples.sum())
    gap = _ratio(float(tally.gaps.sum()), negatives)
    return RuleRow(
        teacher=teacher,
        rule=rule.name,
        samples=round(samples),
        negatives=round(negatives),
        false_negatives=round(float(tally.false.sum())),
        rate=rate.value,
        rate_low=rate.low,
        rate_high=rate.high,
        fewer=1 - _ratio(rate.value, naive.value),
        fewer_low=low,
        fewer_high=high,
        hardness=gap,
        hardness_normalised=_ratio(gap, spread),
        mean_rank=_ratio(float(tally.ranks.sum()), negatives),
        coverage=_ratio(float(tally.covered.sum()), samples),
        unproven=_ratio(float(tally.unproven.sum()), samples),
        drop=_ratio(float(tally.dropped.sum()), float(tally.seen.sum())),
        aware=is_positive_aware(rule),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
