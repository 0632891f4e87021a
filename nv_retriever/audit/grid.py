"""Which rules are compared when nobody says: the paper's settings, and enough beyond them to see the trade-off turn."""

from __future__ import annotations

import math

from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.search.types import ScoreKind

PERCENTAGES = (1.05, 1, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)
MARGINS = (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
"""For cosines."""
SPREADS = (0, 0.1, 0.25, 0.5, 1, 2)
"""For scores without a common scale: margins in standard deviations of the positives' scores."""
QUANTILES = (0.5, 0.25, 0.1)


def default_rules(kind: ScoreKind, spread: float) -> list[str]:
    """Return the names of the grid for a teacher; `spread` is the standard deviation of its positives' scores."""
    margins = MARGINS if kind == "cosine" else tuple(two_digits(share * spread) for share in SPREADS)
    names = ["topk", "topk-shift(10)", "topk-abs(0.7)"]
    names += [f"topk-marginpos({margin:g})" for margin in margins]
    names += [f"topk-percpos({share:g})" for share in PERCENTAGES]
    names += [f"topk-percentile({quantile:g})" for quantile in QUANTILES]
    return [rule.name for rule in unique_rules(names) if kind in rule.kinds]


def unique_rules(names: list[str]) -> list[Rule]:
    """Return the rules in order, each once, whatever its spelling; raises InputError for unknown ones."""
    return list({rule.name: rule for rule in map(parse_rule, names)}.values())


def two_digits(value: float) -> float:
    """Return a number rounded to two significant digits.

    >>> two_digits(2.0763), two_digits(0.0)
    (2.1, 0.0)
    """
    return round(value, 1 - math.floor(math.log10(value))) if value > 0 and math.isfinite(value) else 0.0
