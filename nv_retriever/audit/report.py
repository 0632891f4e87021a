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
    "topk-abs(": "abs",
    BASELINE: "top-k",
    "topk-percpos(": "percpos",
    "topk-marginpos(": "marginpos",
    "topk-percentile(": "percentile",
    "topk-shift(": "shift",
}


def rows_table(teacher: TeacherAudit) -> Table:
    """Return one line a rule; the recommended one is strong."""
    unproven = any(row.unproven > 0 for row in teacher.rows)
    columns = ["rule", "false / mined", "rate %", "fewer %", "gap (in sd)", "rank", "covered %"]
    columns += ["unproven %"] * unproven + ["dropped %"]
    rows = [_row_cells(row, unproven) for row in teacher.rows]
    best = [i for i, row in enumerate(teacher.rows) if row.rule == teacher.recommendation.rule]
    strong = [(i, column) for i in best for column in (0, 2)]
    return Table(columns, rows, caption=f"{teacher.teacher}: mined negatives by rule", digits=1, strong=strong)


def _row_cells(row: RuleRow, unproven: bool) -> list[Cell]:
    return [
        row.rule,
        f"{'–' if row.false_negatives is None else f'{row.false_negatives:,}'} / {row.negatives:,}",
        _with_interval(row.rate, row.rate_low, row.rate_high, 1),
        "–" if row.rule == BASELINE else _with_interval(row.fewer, row.fewer_low, row.fewer_high, 0),
        f"{_short(row.hardness)} ({_short(row.hardness_normalised)})",
        row.mean_rank,
        _percent(row.coverage),
        *([_percent(row.unproven)] if unproven else []),
        _percent(row.drop),
    ]


def _percent(share: float) -> float:
    return round(100 * share, 1) if math.isfinite(share) else share


def _short(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _three_digits(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}".replace("-", "−")


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    if math.isnan(value) or math.isnan(low):
        return "–"
    return f"{100 * value:.{digits}f} ({100 * low:.{digits}f} to {100 * high:.{digits}f})".replace("-", "−")


def calibration_table(teacher: TeacherAudit) -> Table:
    """Return which margin and percentage keep out which share of the hidden positives."""
    columns = ("hidden kept out", "margin", "others dropped by it %", "percentage", "others dropped by that %")
    rows: list[list[Cell]] = [
        [
            f"{100 * one.share:.0f} %",
            _three_digits(one.margin),
            _percent(one.margin_drop),
            _three_digits(one.percentage),
            _percent(one.percentage_drop),
        ]
        for one in teacher.calibration
    ]
    caption = f"{teacher.teacher}: what it takes to keep hidden positives out of the 50 best candidates"
    return Table(columns, rows, caption=caption, digits=1)


def judged_table(teacher: TeacherAudit) -> Table:
    """Return each rule's agreement with the judges."""
    columns = (
        "rule",
        "non-relevant kept %",
        "hidden relevant rejected %",
        "balanced %",
        "mined non-relevant",
        "mined relevant",
        "relevant among them %",
    )
    rows: list[list[Cell]] = [
        [
            one.rule,
            _with_interval(one.nonrelevant_kept, one.nonrelevant_low, one.nonrelevant_high, 1),
            _with_interval(one.relevant_rejected, one.relevant_low, one.relevant_high, 1),
            100 * one.balanced,
            one.mined_nonrelevant,
            one.mined_relevant,
            100 * one.mined_relevant / mined if (mined := one.mined_relevant + one.mined_nonrelevant) else None,
        ]
        for one in teacher.agreement
    ]
    first = teacher.agreement[0]
    caption = (
        f"{teacher.teacher}: agreement with the judges ({first.nonrelevant:,} judged non-relevant and {first.relevant:,} "
        f"hidden relevant candidates within reach, over {first.samples:,} samples); mined: the hardest of each sample"
    )
    return Table(columns, rows, caption=caption, digits=1)


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
    out = Page(f"Audit of {result.dataset} · {result.split}", _subtitle(result))
    for teacher in result.teachers:
        out.add_text(headline(teacher))
    for teacher in result.teachers:
        _teacher_parts(out, teacher)
    _duplicate_parts(out, result)
    out.add_heading("How to read this")
    out.add_list([*_EXPLANATIONS, _INTERVALS.format(100 * result.config.confidence)])
    return out


def _subtitle(result: AuditResult) -> str:
    counts = {(one.samples, one.queries): one.teacher for one in result.teachers}
    texts = [
        f"{samples:,} samples of {queries:,} queries" + (f" with {teacher}" if len(counts) > 1 else "")
        for (samples, queries), teacher in counts.items()
    ]
    return ", ".join(texts) + f"; negatives by `{result.config.selection}`"


def _teacher_parts(out: Page, teacher: TeacherAudit) -> None:
    out.add_heading(teacher.teacher)
    out.add_text(f"Scores are of kind {teacher.score_kind}; the candidate table is {teacher.depth} deep.")
    if teacher.recommendation.measured:
        out.add_plot(trade_off_plot(teacher), "Harder negatives are to the left, fewer false ones below.")
        out.add_plot(coverage_plot(teacher), "Samples that get all wanted negatives.")
    for one in teacher.histograms:
        out.add_plot(histogram_plot(one), f"Shares of the scores under `{one.rule}`, all labels known; mined: the hardest.")
    out.add_table(rows_table(teacher))
    if teacher.skipped:
        out.add_text(f"Left out, without a meaning for {teacher.score_kind} scores: " + ", ".join(teacher.skipped))
    if teacher.calibration:
        out.add_table(calibration_table(teacher))
    if teacher.agreement:
        share, pairs = teacher.separation
        if pairs:
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
        ["documents with the text of a query", found.query_copies],
        ["queries with the text of another query", found.repeated_queries],
    ]
    if result.config.near_duplicates is not None:
        rows += [
            [f"near-duplicate pairs (Jaccard ≥ {result.config.near_duplicates:g})", found.near_duplicate_pairs],
            ["near-duplicates of positives that nothing excludes", found.unknown_near_duplicates],
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
    families = [(name, [row for row in rows if _is_family(row, prefix)]) for prefix, name in _FAMILIES.items()]
    families.append(("recommended", [row for row in rows if row.rule == teacher.recommendation.rule]))
    series = [_series(name, some) for name, some in families if some]
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
    return row.rule == BASELINE if prefix == BASELINE else row.rule.startswith(prefix) and "&" not in row.rule


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
    "**fewer**: share of naive top-k's rate that the rule removes. **gap**: mean of positive score minus negative score, "
    "smaller is harder; in brackets the same in standard deviations of the positives' scores, so that teachers can be "
    "compared. **rank**: mean rank of the negatives. **dropped**: share of the 50 best candidates that the rule rejects.",
    "**coverage**: samples that get all wanted negatives. **unproven**: the candidate table ended before the rule was "
    "satisfied, the miner would search deeper; such samples count with the negatives that the table proves.",
)
_INTERVALS = (
    "Intervals ({:g} %) treat queries as the independent units (Wilson on the effective sample size; bootstrap for "
    "**fewer**)."
)
