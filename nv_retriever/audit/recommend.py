"""A rule for this teacher and this data, by a criterion that is said out loud."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.rows import BASELINE, RuleRow, clean

FALLBACK = ("topk-percpos(", "topk-marginpos(", "topk-percentile(")
"""Families in the order in which the fall-back tries them; the first one that has a meaning for the scores is used."""
PAPER_BEST = {"topk-percpos(": "topk-percpos(0.95)", "topk-marginpos(": "topk-marginpos(0.05)"}


@dataclass(frozen=True)
class Recommendation:
    """A rule, and why."""

    teacher: str
    rule: str
    met: bool
    """Whether it meets the target; else it is the nearest one."""
    measured: bool
    """False: too few queries have several positives, or no rule has negatives; drop rate and coverage decide."""
    reason: str
    knee: str | None
    """The rule at the bend of the trade-off curve, for comparison."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {key: clean(value) for key, value in asdict(self).items()}


def recommend(rows: Sequence[RuleRow], queries: int, config: AuditConfig) -> Recommendation:
    """Return the hardest positive-aware rule of one teacher that meets the target and the coverage.

    Rules that can keep a candidate above its positive (top-k, a shift, an absolute threshold, a percentage over 1) are for
    comparison: how few of their negatives are false hangs on how many positives this data set happens to have.
    Measured (at least `min_queries` of the `queries` have several positives): the smallest mean score gap among the
    rules of enough coverage whose false-negative rate has its upper bound at or below `target_rate`, or, where that
    is None, whose share removed of naive top-k's rate has its lower bound at or above `target_reduction`.
    """
    aware = [row for row in rows if row.aware]
    needed = config.min_coverage * max((row.coverage for row in aware if math.isfinite(row.coverage)), default=0.0)
    covered = [row for row in aware if row.negatives and row.coverage >= needed]
    if queries < config.min_queries or not covered:
        return _fallback(aware, covered, queries, config, rows[0].teacher)
    naive = next(row for row in rows if row.rule == BASELINE)
    bend = knee(covered)
    if naive.false_negatives == 0 and naive.negatives and config.target_rate is None:
        reason = (
            f"even naive top-k brought back none of the hidden positives among {naive.negatives:,} negatives "
            f"(the rate is below {_percent(naive.rate_high)} at {_percent(config.confidence)} confidence)"
        )
        return Recommendation(naive.teacher, BASELINE, True, True, reason, bend)
    good = [row for row in covered if _meets(row, config)]
    if not good:
        best = min(covered, key=lambda row: (row.rate_high, row.hardness))
        reason = (
            f"no positive-aware rule of enough coverage {_target(config)}; this one's rate has the lowest upper bound, "
            f"{_rate(best)}"
        )
        return Recommendation(best.teacher, best.rule, False, True, reason, bend)
    best = min(good, key=lambda row: row.hardness)
    reason = (
        f"the hardest positive-aware rule of enough coverage (here {_percent(best.coverage)} of the samples get all their "
        f"negatives) that {_target(config)}: {_rate(best)} instead of {_rate(naive)} with naive top-k"
    )
    return Recommendation(best.teacher, best.rule, True, True, reason, bend)


def knee(rows: Sequence[RuleRow]) -> str | None:
    """Return the rule farthest below the chord of the frontier of (mean score gap, rate), both scaled to [0, 1].

    The frontier holds the rules that no other one beats in both; None where it has no bend between its ends.
    """
    points = sorted((row.hardness, row.rate, row.rule) for row in rows if math.isfinite(row.hardness + row.rate))
    frontier = [p for i, p in enumerate(points) if all(p[1] < earlier[1] for earlier in points[:i])]
    if len(frontier) < 3:
        return None
    xy = np.array([point[:2] for point in frontier])
    scaled = (xy - xy.min(axis=0)) / np.ptp(xy, axis=0)
    at = int(np.argmin(scaled.sum(axis=1)))
    return frontier[at][2] if 0 < at < len(frontier) - 1 else None


def _fallback(
    rows: Sequence[RuleRow], covered: Sequence[RuleRow], queries: int, config: AuditConfig, teacher: str
) -> Recommendation:
    """Start at the paper's best setting; loosen it while it drops too much or leaves too many samples short."""
    if queries < config.min_queries:
        needed = f"at least {config.min_queries} are needed to measure false negatives"
        have = "query has" if queries == 1 else "queries have"
        why = f"only {queries} {have} several positives ({needed}), so the choice rests on what the rule drops"
    else:
        why = "no positive-aware rule of enough coverage mined a negative, so the choice rests on what the rule drops"
    family = next((name for name in FALLBACK if _from_strict_to_loose(rows, name)), None)
    if family is None:
        return Recommendation(teacher, BASELINE, False, False, f"{why}: no single positive-aware rule was swept", None)
    tried = _from_strict_to_loose(rows, family)
    known = {row.rule for row in covered if row.drop <= config.max_drop}
    start = next((i for i, row in enumerate(tried) if row.rule == PAPER_BEST.get(family)), None)
    first = "strictest setting" if start is None else "paper's best setting, or the next looser one,"
    for row in tried[start:]:
        if row.rule in known:
            text = (
                f"{why}: the {first} that drops at most "
                f"{_percent(config.max_drop)} of the 50 best candidates (here {_percent(row.drop)}) and fills at least "
                f"{_percent(config.min_coverage)} of the samples that any positive-aware rule can fill "
                f"({_percent(1 - row.coverage)} of all are left short)"
            )
            return Recommendation(teacher, row.rule, True, False, text, None)
    best = min(reversed(tried), key=lambda row: (row.drop, -row.coverage))
    text = f"{why}: every setting drops too much or fills too few samples; none drops less than this one"
    return Recommendation(teacher, best.rule, False, False, text, None)


def _from_strict_to_loose(rows: Sequence[RuleRow], family: str) -> list[RuleRow]:
    def strictness(row: RuleRow) -> float:
        """Return a number that grows as the rule lets more through."""
        value = float(row.rule[len(family) :].rstrip(")"))
        return -value if family == "topk-marginpos(" else value

    return sorted((row for row in rows if row.rule.startswith(family) and "&" not in row.rule), key=strictness)


def _meets(row: RuleRow, config: AuditConfig) -> bool:
    if config.target_rate is not None:
        return row.rate_high <= config.target_rate
    return row.fewer_low >= config.target_reduction


def _target(config: AuditConfig) -> str:
    if config.target_rate is not None:
        return f"keeps the upper bound of its false-negative rate at or below {_percent(config.target_rate)}"
    return f"surely removes {_percent(config.target_reduction)} of naive top-k's false negatives"


def _rate(row: RuleRow) -> str:
    return f"{_percent(row.rate)} false negatives [{_percent(row.rate_low)}, {_percent(row.rate_high)}]"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
