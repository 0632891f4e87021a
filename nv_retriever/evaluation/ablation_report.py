"""The ablation's tables, plots and report (HTML and Markdown), the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nv_retriever.evaluation.ablation import Ablation, PowerRow, Row
from nv_retriever.evaluation.paper_numbers import REPEATED_CONFIGURATION_SPREAD, TEACHER_OVERLAP
from nv_retriever.report.html import Page
from nv_retriever.report.plots import interval_plot
from nv_retriever.report.table import Cell, Table, format_interval, format_p


@dataclass(frozen=True)
class Question:
    """One table of the paper: what is varied, against what, and what the paper found."""

    title: str
    """Such as "Table 3: which method"."""
    ablation: Ablation
    baseline: str
    paper: Mapping[str, float] = field(default_factory=dict)
    """{name: the paper's NDCG@10}."""
    false_negatives: Mapping[str, float] = field(default_factory=dict)
    """{name: share of the mined negatives that are relevant}, counted or estimated."""
    counted: bool = False
    """Whether every one of them is known (labels were hidden), or an audit estimated the share."""
    note: str = ""

    @cached_property
    def rows(self) -> list[Row]:
        """What the ablation found about each method (or teacher), against the baseline."""
        return self.ablation.rows(self.baseline)


def results_table(question: Question, metric: str = "nDCG@10") -> Table:
    """Return a question's table: mean, interval, paired difference with corrected p-value, false negatives, the paper."""
    ablation, rows = question.ablation, question.rows
    columns = [ablation.by, metric, "95 % interval", "difference", "its interval", "p (holm)"]
    if question.false_negatives:
        columns.append("false negatives" if question.counted else "false negatives (audit)")
    if question.paper:
        columns.append("paper")
    body: list[list[Cell]] = []
    for row in rows:
        own, difference = row.estimate, row.difference
        cells: list[Cell] = [row.name, own.mean, format_interval(own.low, own.high, signed=False)]
        if difference is None:
            cells += [None, None, None]
        else:
            cells += [_signed(difference.mean), format_interval(difference.low, difference.high), format_p(row.p)]
        if question.false_negatives:
            rate = question.false_negatives.get(row.name)
            cells.append(None if rate is None else f"{100 * rate:.1f} %")
        if question.paper:
            cells.append(_of_paper(question, row.name))
        body.append(cells)
    best = max(row.estimate.mean for row in rows)
    strong = {(index, 1) for index, row in enumerate(rows) if row.estimate.mean == best}
    scope = f"{len(ablation.seeds)} seeds, {rows[0].estimate.queries:,} queries of {', '.join(ablation.datasets)}"
    scope += f"; differences to {question.baseline}"
    if question.paper:
        scope += "; beside them the paper's nDCG@10, on its own data, and its difference"
    return Table(columns, body, scope[0].upper() + scope[1:], strong=strong)


def _of_paper(question: Question, name: str) -> str | None:
    """Return the paper's number, and in brackets its difference to the paper's number of the baseline."""
    theirs, base = question.paper.get(name), question.paper.get(question.baseline)
    if theirs is None:
        return None
    return f"{theirs:.4f}" if base is None or name == question.baseline else f"{theirs:.4f} ({_signed(theirs - base)})"


def datasets_table(question: Question, metric: str = "nDCG@10") -> Table:
    """Return the same means data set by data set."""
    rows = question.rows
    names = question.ablation.datasets
    means = [[*(row.by_dataset[name] for name in names), row.estimate.mean] for row in rows]
    body: list[list[Cell]] = [[row.name, *numbers] for row, numbers in zip(rows, means, strict=True)]
    best = [max(column) for column in zip(*means, strict=True)]
    strong = {(r, c + 1) for r, numbers in enumerate(means) for c, value in enumerate(numbers) if value == best[c]}
    return Table([question.ablation.by, *names, "mean"], body, f"{metric} by data set", strong=strong)


def references_table(references: Mapping[str, Mapping[str, float]], metric: str) -> Table:
    """Return {system: {data set: value}} of systems that the study did not train."""
    names = list(dict.fromkeys(name for scores in references.values() for name in scores))
    body: list[list[Cell]] = [
        [system, *(scores.get(name) for name in names), sum(scores.values()) / len(scores)]
        for system, scores in references.items()
    ]
    return Table(["for reference", *names, "mean"], body, f"{metric} of systems that were not trained here")


def power_table(rows: Sequence[PowerRow]) -> Table:
    """Return what this run can show, and how large it would have to be to show the differences that it found."""
    columns = [
        "compared",
        "difference",
        "detectable",
        "queries needed",
        "seeds needed",
        "sd of seeds",
        "sd of queries",
        "sd of the rest",
    ]
    body: list[list[Cell]] = []
    for row in rows:
        spread = row.components
        deviations = [value**0.5 for value in (spread.seed, spread.query, spread.rest)]
        needed = ["more do not help" if number is None else f"{number:,}" for number in (row.queries, row.seeds)]
        body.append([row.name, _signed(row.difference), row.detectable, *needed, *deviations])
    caption = (
        "Power analysis: the true difference that this run would show in 80 % of its repetitions, and the size of a run "
        "that would show the difference found here (two-sided level 5 %, uncorrected)"
    )
    return Table(columns, body, caption)


def overlap_table(overlaps: Mapping[tuple[str, str], float]) -> Table:
    """Return the overlap of the teachers' negatives as a square table."""
    names = list(dict.fromkeys(name for pair in overlaps for name in pair))

    def cell(a: str, b: str) -> Cell:
        """Return the overlap of two teachers, whichever way round it was measured."""
        return None if a == b else overlaps.get((a, b), overlaps.get((b, a)))

    low, high = TEACHER_OVERLAP
    caption = f"Table 6: mean Jaccard overlap of two teachers' negatives (paper: {low:.2f} to {high:.2f})"
    return Table(["teacher", *names], [[a, *(cell(a, b) for b in names)] for a in names], caption, digits=3)


def ablation_page(
    questions: Sequence[Question],
    overlaps: Mapping[tuple[str, str], float] | None = None,
    subtitle: str = "",
    findings: Sequence[str] = (),
    metric: str = "nDCG@10",
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> Page:
    """Return the report: for each question its table, plot, data sets and power; `.write(path)`, `.write_markdown(path)`."""
    page = Page("Ablation of hard-negative mining", subtitle)
    if findings:
        page.add_heading("What was found").add_list(findings)
    page.add_text(
        "Intervals (95 %) and p-values cover **seeds and queries jointly**: how far another seed and "
        "another draw of queries would have moved the mean over data sets. Differences are paired (same seed, same query); "
        "p-values are corrected within a table (holm). The paper reports neither seeds nor intervals, and one "
        f"configuration twice with values {REPEATED_CONFIGURATION_SPREAD:.4f} apart; its students, teachers and data are "
        "larger than ours."
    )
    if references:
        page.add_table(references_table(references, metric))
    for question in questions:
        page.add_heading(question.title)
        if question.note:
            page.add_text(question.note)
        page.add_table(results_table(question, metric))
        page.add_plot(*difference_plot(question, metric))
        page.add_plot(*_mean_plot(question.rows, metric))
        if len(question.ablation.datasets) > 1:
            page.add_table(datasets_table(question, metric))
        if question.ablation.has_power and len(question.rows) > 1:
            page.add_table(power_table(question.ablation.power(question.baseline)))
    if overlaps:
        page.add_heading("Do teachers find the same negatives?").add_table(overlap_table(overlaps))
    return page


def difference_plot(question: Question, metric: str = "nDCG@10") -> tuple[str, str]:
    """Return the plot of the differences to the baseline, and its caption."""
    shown = [(row.name, row.difference) for row in question.rows if row.difference is not None]
    base = question.paper.get(question.baseline)
    paper = [question.paper[name] - base if base is not None and name in question.paper else None for name, _ in shown]
    svg = interval_plot(
        [name for name, _ in shown],
        [estimate.mean for _, estimate in shown],
        [estimate.low for _, estimate in shown],
        [estimate.high for _, estimate in shown],
        f"difference in {metric}",
        zero=True,
        references=paper,
    )
    diamonds = "; diamonds: the paper's differences" if any(value is not None for value in paper) else ""
    return svg, f"Difference to `{question.baseline}`, uncorrected intervals{diamonds}"


def _mean_plot(rows: Sequence[Row], metric: str) -> tuple[str, str]:
    estimates = [row.estimate for row in rows]
    svg = interval_plot(
        [row.name for row in rows],
        [e.mean for e in estimates],
        [e.low for e in estimates],
        [e.high for e in estimates],
        metric,
    )
    return svg, f"{metric}, each by itself: wider than the differences, for all share the same queries"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
