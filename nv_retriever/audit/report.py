"""The audit as tables and as one self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nv_retriever.audit.audit import AuditResult, TeacherAudit
from nv_retriever.audit.histograms import Histograms
from nv_retriever.audit.rows import BASELINE, RuleRow
from nv_retriever.report.html import Page
from nv_retriever.report.plots import Series, line_plot
from nv_retriever.report.table import Cell, Table

_FAMILIES = {
    "topk-percpos(": "percpos",
    "topk-marginpos(": "marginpos",
    "topk-percentile(": "percentile",
    "topk-abs(": "abs",
    "topk-shift(": "shift",
}


def rows_table(teacher: TeacherAudit) -> Table:
    """Return one line a rule; the recommended one is strong."""
    columns = (
        "rule",
        "false",
        "negatives",
        "rate %",
        "95 % interval",
        "fewer than top-k %",
        "gap",
        "gap / sd",
        "mean rank",
        "coverage %",
        "unproven %",
        "top-50 dropped %",
    )
    rows = [_row_cells(row) for row in teacher.rows]
    best = [i for i, row in enumerate(teacher.rows) if row.rule == teacher.recommendation.rule]
    strong = [(i, column) for i in best for column in (0, 3)]
    return Table(columns, rows, caption=f"{teacher.teacher}: mined negatives by rule", digits=2, strong=strong)


def _row_cells(row: RuleRow) -> list[Cell]:
    return [
        row.rule,
        row.false_negatives,
        row.negatives,
        100 * row.rate,
        _interval(row.rate_low, row.rate_high),
        "–" if row.rule == BASELINE else _with_interval(row.fewer, row.fewer_low, row.fewer_high),
        row.hardness,
        row.hardness_normalised,
        row.mean_rank,
        100 * row.coverage,
        100 * row.unproven,
        100 * row.drop,
    ]


def _interval(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{100 * low:.2f} to {100 * high:.2f}"


def _with_interval(value: float, low: float, high: float) -> str:
    if math.isnan(value) or math.isnan(low):
        return "–"
    return f"{100 * value:.0f} ({100 * low:.0f} to {100 * high:.0f})".replace("-", "−")


def calibration_table(teacher: TeacherAudit) -> Table:
    """Return which margin and percentage keep out which share of the hidden positives."""
    columns = ("hidden positives kept out %", "margin", "others dropped by it %", "percentage", "others dropped by that %")
    rows = [
        [100 * s.share, s.margin, 100 * s.margin_drop, s.percentage, 100 * s.percentage_drop] for s in teacher.calibration
    ]
    caption = f"{teacher.teacher}: what it takes to keep hidden positives out of the 50 best candidates"
    return Table(columns, rows, caption=caption, digits=3)


def judged_table(teacher: TeacherAudit) -> Table:
    """Return each rule's agreement with the judges."""
    columns = (
        "rule",
        "judged non-relevant",
        "of them kept %",
        "interval",
        "hidden relevant",
        "of them rejected %",
        "interval ",
        "balanced %",
        "mined non-relevant",
        "mined relevant",
    )
    rows: list[list[Cell]] = [
        [
            a.rule,
            a.nonrelevant,
            100 * a.nonrelevant_kept,
            _interval(a.nonrelevant_low, a.nonrelevant_high),
            a.relevant,
            100 * a.relevant_rejected,
            _interval(a.relevant_low, a.relevant_high),
            100 * a.balanced,
            a.mined_nonrelevant,
            a.mined_relevant,
        ]
        for a in teacher.agreement
    ]
    return Table(columns, rows, caption=f"{teacher.teacher}: agreement with judged negatives", digits=1)


def headline(teacher: TeacherAudit) -> str:
    """Return the finding in two sentences."""
    recommendation = teacher.recommendation
    naive = next(row for row in teacher.rows if row.rule == BASELINE)
    text = f"**{teacher.teacher}**: "
    if recommendation.measured and math.isfinite(naive.rate):
        text += (
            f"{100 * naive.rate:.1f} % of the negatives that naive top-k mines are hidden positives "
            f"({naive.false_negatives:,} of {naive.negatives:,}). "
        )
    word = "Recommended" if recommendation.met else "Nearest to the target"
    bend = f" The bend of the trade-off curve is at `{recommendation.knee}`." if recommendation.knee else ""
    return f"{text}{word}: `{recommendation.rule}`, {recommendation.reason}.{bend}"


def page(result: AuditResult) -> Page:
    """Return the whole audit as a page."""
    samples = ", ".join(f"{t.samples:,} samples of {t.queries:,} queries with {t.teacher}" for t in result.teachers)
    out = Page(f"Audit of {result.dataset} · {result.split}", f"{samples}; `{result.config.selection}`")
    for teacher in result.teachers:
        out.add_text(headline(teacher))
    for teacher in result.teachers:
        _teacher_parts(out, teacher)
    _duplicate_parts(out, result)
    out.add_heading("How to read this")
    out.add_list(_EXPLANATIONS)
    return out


def _teacher_parts(out: Page, teacher: TeacherAudit) -> None:
    out.add_heading(teacher.teacher)
    out.add_text(f"Scores are of kind {teacher.score_kind}; the candidate table is {teacher.depth} deep.")
    if teacher.recommendation.measured:
        out.add_plot(trade_off_plot(teacher), "Harder negatives are to the left, fewer false ones below.")
        out.add_plot(coverage_plot(teacher), "Samples that get all wanted negatives.")
    for one in teacher.histograms:
        out.add_plot(histogram_plot(one), f"Shares of the scores under `{one.rule}`, all labels known.")
    out.add_table(rows_table(teacher))
    if teacher.skipped:
        out.add_text(f"Left out, without a meaning for {teacher.score_kind} scores: " + ", ".join(teacher.skipped))
    if teacher.calibration:
        out.add_table(calibration_table(teacher))
    if teacher.agreement:
        share, pairs = teacher.separation
        out.add_text(
            f"The teacher scores a positive above a judged negative of the same query in {100 * share:.1f} % of "
            f"{pairs:,} pairs (50 % is chance)."
        )
        out.add_table(judged_table(teacher))


def _duplicate_parts(out: Page, result: AuditResult) -> None:
    found = result.duplicates
    out.add_heading("Duplicates and leakage")
    rows: list[list[Cell]] = [
        ["documents", found.documents],
        ["documents with the text of another one", found.duplicate_documents],
        [
            f"near-duplicate pairs of different texts (Jaccard ≥ {result.config.near_duplicates:g})",
            found.near_duplicate_pairs,
        ],
        ["near-duplicates of positives that nothing excludes", found.unknown_near_duplicates],
        ["documents with the text of a query", found.query_copies],
        ["queries with the text of another query", found.repeated_queries],
    ]
    for reason, n in found.excluded.items():
        rows.append([f"(query, document) pairs excluded: {reason.replace('_', ' ')}", n])
    for split, counts in found.leakage.items():
        rows.append([f"queries that {split} has word for word", counts["queries"]])
        rows.append([f"positives (contents) shared with {split}", counts["positives"]])
    out.add_table(("what", "count"), rows)


def trade_off_plot(teacher: TeacherAudit) -> str:
    """Return the false-negative rate over the mean score gap, a line a family of rules."""
    rows = [row for row in teacher.rows if math.isfinite(row.rate) and math.isfinite(row.hardness)]
    series = []
    for prefix, name in [(BASELINE, "top-k"), *_FAMILIES.items()]:
        some = [row for row in rows if (row.rule == prefix if prefix == BASELINE else _is_family(row, prefix))]
        if some:
            series.append(_series(name, some))
    best = [row for row in rows if row.rule == teacher.recommendation.rule]
    series.append(_series("recommended", best))
    return line_plot(series, "mean score gap to the positive", "false negatives %", "Trade-off")


def coverage_plot(teacher: TeacherAudit) -> str:
    """Return the coverage over the mean score gap, a line a family of rules."""
    rows = [row for row in teacher.rows if math.isfinite(row.coverage) and math.isfinite(row.hardness)]
    series = []
    for prefix, name in _FAMILIES.items():
        some = sorted((row for row in rows if _is_family(row, prefix)), key=lambda row: row.hardness)
        if some:
            series.append(Series(name, [row.hardness for row in some], [100 * row.coverage for row in some]))
    return line_plot(series, "mean score gap to the positive", "coverage %", "Coverage")


def _is_family(row: RuleRow, prefix: str) -> bool:
    return row.rule.startswith(prefix) and "&" not in row.rule


def _series(name: str, rows: Sequence[RuleRow]) -> Series:
    rows = sorted(rows, key=lambda row: row.hardness)
    return Series(
        name,
        [row.hardness for row in rows],
        [100 * row.rate for row in rows],
        [100 * row.rate_low for row in rows],
        [100 * row.rate_high for row in rows],
    )


def histogram_plot(one: Histograms) -> str:
    """Return the score histograms as stepped lines, shares of each kind."""
    series = []
    for name, counts in one.counts.items():
        total = int(counts.sum())
        if total:
            x = [edge for edge in one.edges.tolist() for _ in (0, 1)]
            shares = [100 * value / total for value in counts.tolist() for _ in (0, 1)]
            series.append(Series(name, x, [0.0, *shares, 0.0]))
    return line_plot(series, "score", "share %", one.rule)


_EXPLANATIONS = (
    "**false**: negatives that are positives of the same query (or copies of one) whose labels were hidden from the miner. "
    "Every sample shows one positive and hides the others, which come back among the candidates at their own scores.",
    "The rate is a floor for what is measured, not the whole truth: relevant documents that nobody labelled are not "
    "counted, and queries with one positive say nothing. Compare rules by it rather than trusting its height.",
    "**gap**: mean of positive score minus negative score, smaller is harder; **gap / sd** divides it by the standard "
    "deviation of the positives' scores, so that teachers can be compared.",
    "**coverage**: samples that get all wanted negatives. **unproven**: the candidate table ended before the rule was "
    "satisfied, the miner would search deeper; such samples count with the negatives that the table proves.",
    "Intervals treat queries as the independent units (Wilson on the effective sample size; bootstrap for the ratio).",
)
