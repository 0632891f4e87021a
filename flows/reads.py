"""Which settings a command reads: of what a command line says beside these, nobody should wait for an effect."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from flows.options import Common
from flows.settings import parse_assignment
from nv_retriever.plan.config import PipelineConfig

logger = logging.getLogger("nv_retriever.stages")


_SEARCH = ("dataset", "split", "teachers", "search", "seed", "runtime")
_MINE = (*_SEARCH, "mining")
_TRAIN = (*_MINE, "student", "training", "blend")
_RUN = (*_TRAIN, "evaluation", "leakage")
READS: dict[str, tuple[str, ...]] = {
    "run": _RUN,
    "plan": _RUN,
    "mine": _MINE,
    "explain": _MINE,
    "train": _TRAIN,
    "evaluate": ("dataset", "evaluation", "student.encoder", "runtime"),
    "audit": (*_SEARCH, "mining.rule", "mining.selection", "audit"),
    "ablate": (*_MINE, "student", "training", "evaluation", "leakage", "audit", "ablation"),
    "serve": (*_RUN, "audit"),
}
"""The settings of every command, each with all that is below it."""
EXCEPT: dict[str, tuple[str, ...]] = {
    "evaluate": ("student.encoder.model", "evaluation.resamples"),  # --model; it compares nothing
    # ablation.ensembles says it; it audits its methods, and has no gate; its intervals are not of resamples
    "ablate": ("mining.ensemble", "audit.rules", "audit.max_rate", "evaluation.resamples"),
}
"""Settings below these that are not read after all."""


def warn_of_unread(command: str, common: Common) -> None:
    """Warn of settings on the command line that the command does not read; of a file, which may be shared, of none."""
    known = {*PipelineConfig.model_fields, "ablation"}  # others are unknown keys, whose error lists the valid ones
    assigned = [parse_assignment(text) for text in common.set_ or []]
    told = [
        (f"--set {place}", place) for path, value in assigned if path[0] in known for place in _leaves(".".join(path), value)
    ]
    named = common.named(evaluates=command == "evaluate")
    told += [(option, ".".join(path)) for option, path, value in named if value is not None]
    for option, place in told:
        if not _reads(command, place):
            measured = command == "evaluate" and place.startswith(("student", "teachers"))
            hint = "; --model says what is measured" if measured else ""
            logger.warning("%s has no effect: `nvr %s` does not read it%s", option, command, hint)


def _reads(command: str, place: str) -> bool:
    def below(paths: Iterable[str]) -> bool:
        """Return whether the setting is one of these, or below one."""
        return any(place == path or place.startswith(f"{path}.") for path in paths)

    return below(READS[command]) and not below(EXCEPT.get(command, ()))


def _leaves(path: str, value: Any) -> Iterator[str]:
    """Yield the path of every setting in a value, which may be a group of them."""
    if not isinstance(value, dict) or not value:
        yield path
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}", inner)
