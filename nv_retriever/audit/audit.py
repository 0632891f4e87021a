"""The audit: what a miner's rules do to this data with these teachers, as one value that reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nv_retriever.audit.calibration import Setting, calibrate
from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.duplicates import Duplicates, count_duplicates
from nv_retriever.audit.grid import default_rules, unique_rules
from nv_retriever.audit.hidden_positives import sweep
from nv_retriever.audit.histograms import Histograms, score_histograms
from nv_retriever.audit.judged import Agreement, agreement, judged_keys, separation
from nv_retriever.audit.ranked import Table
from nv_retriever.audit.recommend import Recommendation, recommend
from nv_retriever.audit.rows import BASELINE, RuleRow, clean, rule_rows
from nv_retriever.audit.samples import draw, labelled_of
from nv_retriever.audit.tallies import Draw
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.rules.base import Rule
from nv_retriever.mining.selection import parse_selection
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import ScoreKind, Scorer


@dataclass(frozen=True)
class TeacherAudit:
    """The audit of one teacher."""

    teacher: str
    score_kind: str
    depth: int
    """Of its candidate table."""
    samples: int
    """(query, visible positive) pairs whose other positives were hidden; of all positives where too few have others."""
    queries: int
    """Queries of the samples."""
    multiple: int
    """Queries that have positives of at least two contents."""
    rows: list[RuleRow]
    recommendation: Recommendation
    calibration: list[Setting]
    histograms: list[Histograms]
    agreement: list[Agreement]
    """With the judged negatives; empty where there are none."""
    separation: tuple[float, int]
    """Share of (positive, judged negative) pairs in the right order, and their number."""
    skipped: tuple[str, ...]
    """Rules that have no meaning for the teacher's scores."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data (its rows are the result's)."""
        return {
            "teacher": self.teacher,
            "score_kind": self.score_kind,
            "depth": self.depth,
            "samples": self.samples,
            "queries": self.queries,
            "queries_with_several_positives": self.multiple,
            "recommendation": self.recommendation.to_json(),
            "calibration": [setting.to_json() for setting in self.calibration],
            "histograms": [one.to_json() for one in self.histograms],
            "judged": [one.to_json() for one in self.agreement],
            "separation": {"share": clean(self.separation[0]), "pairs": self.separation[1]},
            "skipped": list(self.skipped),
        }


@dataclass(frozen=True)
class AuditResult:
    """The audit of one split of a data set."""

    dataset: str
    split: str
    config: AuditConfig
    teachers: list[TeacherAudit]
    duplicates: Duplicates

    @property
    def rows(self) -> list[RuleRow]:
        """All rows of all teachers."""
        return [row for teacher in self.teachers for row in teacher.rows]

    @property
    def recommended(self) -> str:
        """The rule recommended for the first teacher."""
        return self.teachers[0].recommendation.rule

    def to_json(self) -> dict[str, Any]:
        """Return the audit as JSON data."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "samples": self.teachers[0].samples,
            "recommended": self.recommended,
            "rows": [row.to_json() for row in self.rows],
            "teachers": [teacher.to_json() for teacher in self.teachers],
            "duplicates": self.duplicates.to_json(),
            "config": self.config.model_dump(mode="json"),
        }


def audit(
    dataset: Dataset,
    split: str,
    candidates: Sequence[Candidates],
    config: AuditConfig | None = None,
    scorers: Sequence[Scorer | None] = (),
) -> AuditResult:
    """Return the audit of a split from its stored candidate tables, without a search where no scorer is given.

    `scorers`, one a table, let samples that a table leaves short be mined in the whole corpus (`config.deepen`). Raises
    InputError for unknown rules, and where there is no table.
    """
    config = config or AuditConfig()
    if not candidates:
        raise InputError("audit", "at least one candidate table", "none")
    unique_rules([*config.rules, *([config.rule] if config.rule else [])])
    rows = dataset.query_rows(split)
    keys = IdKeys(lambda: dataset.query_ids[rows], lambda: dataset.document_ids)
    at_hand = scorers if config.deepen else ()
    padded = [*at_hand, *[None] * (len(candidates) - len(at_hand))]
    teachers = [
        _audit_teacher(dataset, split, one, config, keys, scorer) for one, scorer in zip(candidates, padded, strict=True)
    ]
    duplicates = count_duplicates(dataset, split, candidates[0].exclusions, config.near_duplicates)
    return AuditResult(dataset.name, split, config, teachers, duplicates)


def _audit_teacher(
    dataset: Dataset,
    split: str,
    candidates: Candidates,
    config: AuditConfig,
    keys: IdKeys,
    scorer: Scorer | None,
) -> TeacherAudit:
    labelled, table = labelled_of(dataset, split, candidates), Table.of(candidates)
    everything = draw(labelled, keys, config.seed, config.positives_per_query, config.max_samples, several=False)
    spread = float(np.std(everything.scores.astype(np.float64))) if len(everything) else 0.0
    rules = _rules(config, candidates.score_kind, spread)
    used = [rule for rule in rules if candidates.score_kind in rule.kinds]
    samples = draw(labelled, keys, config.seed, config.positives_per_query, config.max_samples)
    multiple = len(np.unique(samples.queries))
    measured = multiple >= config.min_queries
    taking = Draw(parse_selection(config.selection), config.seed, keys)
    count = taking.selection.count
    shown, hidden = (samples, labelled) if measured else (everything, labelled.where(np.zeros_like(labelled.visible)))
    tallies = sweep(shown, hidden, table, used, taking, scorer)
    rows = rule_rows(candidates.teacher, used, tallies, spread, config)
    rows = rows if measured else [row.unmeasured() for row in rows]
    recommendation = recommend(rows, multiple, config)
    chosen = [rule for rule in used if rule.name in (BASELINE, recommendation.rule)]
    judged = judged_keys(dataset, split)
    about = everything.take(np.flatnonzero(np.isin(everything.queries, judged // max(candidates.n_documents, 1))))
    return TeacherAudit(
        teacher=candidates.teacher,
        score_kind=candidates.score_kind,
        depth=candidates.depth,
        samples=len(shown),
        queries=len(np.unique(shown.queries)),
        multiple=multiple,
        rows=rows,
        recommendation=recommendation,
        calibration=calibrate(samples, labelled, table, candidates.score_kind) if measured else [],
        histograms=[score_histograms(everything, table, one, count, config.bins) for one in chosen],
        agreement=agreement(about, labelled, table, judged, used, count, config.confidence) if len(judged) else [],
        separation=separation(about, table, judged),
        skipped=tuple(rule.name for rule in rules if rule not in used),
    )


def _rules(config: AuditConfig, kind: ScoreKind, spread: float) -> list[Rule]:
    names = list(config.rules) or default_rules(kind, spread)
    return unique_rules([BASELINE, *names, *([config.rule] if config.rule else [])])
