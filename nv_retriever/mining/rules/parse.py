"""From a rule's name to the rule, and the list of all names."""

from __future__ import annotations

from collections.abc import Callable

from nv_retriever.errors import InputError
from nv_retriever.mining.naming import read_count, read_number, split_name
from nv_retriever.mining.rules.absolute import Absolute
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.rules.conjunction import Conjunction
from nv_retriever.mining.rules.margin import MarginPos
from nv_retriever.mining.rules.percentage import PercPos
from nv_retriever.mining.rules.percentile import Percentile
from nv_retriever.mining.rules.shift import Shift
from nv_retriever.mining.rules.topk import TopK

VALID = (
    "one of topk, topk-shift(N), topk-abs(T), topk-marginpos(M), topk-percpos(P), topk-percentile(P), or several joined by &"
)


def _between(low: float, high: float, make: Callable[[float], Rule]) -> Callable[[str, str], Rule]:
    def build(argument: str, where: str) -> Rule:
        """Return the rule of an argument; raises InputError where it is no number in the range."""
        expected = f"a number from {low:g} to {high:g}"
        value = read_number(argument, where, expected)
        if not low <= value <= high:
            raise InputError(where, expected, argument)
        return make(value)

    return build


_RULES: dict[str, Callable[[str, str], Rule]] = {
    "topk-shift": lambda argument, where: Shift(read_count(argument, where, "a whole number of ranks", at_least=0)),
    "topk-abs": _between(-1, 1, Absolute),
    "topk-marginpos": _between(0, 1e12, MarginPos),
    "topk-percpos": _between(0, 2, PercPos),
    "topk-percentile": _between(0, 1, Percentile),
}


def _parse_one(text: str) -> Rule:
    name, arguments = split_name(text, "rule", VALID)
    if name == "topk" and not arguments:
        return TopK()
    if name not in _RULES or len(arguments) != 1:
        raise InputError("rule", VALID, repr(text))
    return _RULES[name](arguments[0], f"rule {text.strip()}")


def parse_rule(text: str) -> Rule:
    """Return the rule with this name; raises InputError that lists the valid ones.

    >>> parse_rule("topk-percpos(0.950)").name
    'topk-percpos(0.95)'
    """
    parts = tuple(_parse_one(part) for part in text.split("&"))
    return parts[0] if len(parts) == 1 else Conjunction(parts)
