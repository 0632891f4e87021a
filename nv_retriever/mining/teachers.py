"""From stored candidate tables to what the miner reads: samples, positive scores, anchors and limits per teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from nv_retriever.errors import InputError
from nv_retriever.mining.anchor import Anchor, anchor_scores
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.ensemble import ENSEMBLES
from nv_retriever.mining.rules.base import check_kind
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.mining.selection import parse_selection
from nv_retriever.mining.shortfall import SHORTFALLS
from nv_retriever.mining.types import MiningPlan, Samples, Teacher
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import ScoreKind, Scorer

OpenScorer = Callable[[int], Scorer]
"""Opens the teacher of a given number; called only when a sample has to be searched deeper."""


def plan_of(config: MiningConfig, seed: int) -> MiningPlan:
    """Return the decisions that a configuration names; raises InputError for names that are not known."""
    return MiningPlan(
        rule=parse_rule(config.rule),
        selection=parse_selection(config.selection),
        ensemble=config.ensemble,
        min_score=config.min_score,
        shortfall=config.shortfall,
        seed=seed,
    )


def samples_of(candidates: Sequence[Candidates]) -> Samples:
    """Return the split's (query, positive) samples, which all teachers' tables have to share."""
    if not candidates:
        raise InputError("teachers", "at least one candidate table", "none")
    first = candidates[0].split_positives
    for other in candidates[1:]:
        same = other.n_documents == candidates[0].n_documents and other.n_queries == candidates[0].n_queries
        theirs = other.split_positives
        same = same and np.array_equal(first.queries, theirs.queries) and np.array_equal(first.documents, theirs.documents)
        if not same:
            found = f"{candidates[0].teacher} and {other.teacher} with different ones"
            raise InputError("teachers", "candidate tables of one data set and split", found)
    return Samples(np.asarray(first.queries, np.int32), np.asarray(first.documents, np.int32))


def check_plan(plan: MiningPlan, teachers: Sequence[tuple[str, ScoreKind]]) -> None:
    """Raise InputError for decisions that contradict each other, mean nothing for a teacher's scores, or have no effect.

    `teachers` are names and score kinds.
    """
    if plan.ensemble not in ENSEMBLES:
        raise InputError("ensemble", f"one of {', '.join(ENSEMBLES)}", repr(plan.ensemble))
    if plan.shortfall not in SHORTFALLS:
        raise InputError("shortfall", f"one of {', '.join(SHORTFALLS)}", repr(plan.shortfall))
    if (len(teachers) > 1) != (plan.ensemble != "none"):
        wanted = f"{', '.join(ENSEMBLES[1:])} for several teachers, none for one"
        rescored = any(kind == "logit" for _, kind in teachers[1:])
        hint = "--set mining.ensemble=intra-sample-dedup, for example" if len(teachers) > 1 else ""
        hint = "teachers.0.only_retrieves=true lets the cross-encoder alone choose" if rescored else hint
        raise InputError("ensemble", wanted, f"{plan.ensemble} with {len(teachers)} teacher(s)", hint)
    kinds = {kind for _, kind in teachers}
    if plan.min_score is not None and len(kinds) > 1:
        raise InputError("min_score", "teachers whose scores are of one kind", " and ".join(sorted(kinds)))
    for name, kind in teachers:
        check_kind(plan.rule, kind, name)


def teachers_of(
    candidates: Sequence[Candidates], plan: MiningPlan, anchor: Anchor, open_scorer: OpenScorer | None
) -> list[Teacher]:
    """Return each table as the miner reads it; a scorer is opened at most once, when it is first needed.

    Raises InputError where the plan does not fit them.
    """
    check_plan(plan, [(table.teacher, table.score_kind) for table in candidates])
    opened = cache(open_scorer) if open_scorer is not None else None
    return [
        teacher_of(table, plan, anchor, partial(opened, number) if opened is not None else None)
        for number, table in enumerate(candidates)
    ]


def teacher_of(table: Candidates, plan: MiningPlan, anchor: Anchor, scorer: Callable[[], Scorer] | None) -> Teacher:
    """Return one table with its positives' scores (NaN unless finite), anchors and limits."""
    positives = table.split_positives
    scores = np.where(np.isfinite(positives.scores), positives.scores, np.nan).astype(np.float32)
    anchors = anchor_scores(positives.queries, scores, anchor)
    return Teacher(
        name=table.teacher,
        score_kind=table.score_kind,
        documents=table.documents,
        scores=table.scores,
        positive_scores=scores,
        anchors=anchors,
        limits=plan.rule.limits(anchors),
        n_documents=table.n_documents,
        exclusions=lambda: table.exclusions,
        exhausted=table.exhausted,
        scorer=scorer,
    )
