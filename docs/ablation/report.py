"""Put the finished studies together: README.md of this folder, with its plots.

    python docs/ablation/report.py

Each study is a folder below `results/` with the files that `nvr ablate` wrote: cells.parquet and study.json. What they mean
is written by hand in findings.md, a paragraph each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nv_retriever.evaluation.ablation import Ablation, Cell
from nv_retriever.evaluation.ablation_cells import merged, read_cells
from nv_retriever.evaluation.ablation_report import (
    Question,
    datasets_table,
    difference_plot,
    overlap_table,
    power_table,
    results_table,
)
from nv_retriever.evaluation.paper_numbers import of_question
from nv_retriever.report.html import Page
from nv_retriever.report.plots import Series, scatter_plot
from nv_retriever.report.table import Table
from tasks.ablation_report import TITLES

HERE = Path(__file__).parent
METHODS, SELECTIONS, TEACHERS, ENSEMBLES = (TITLES[name] for name in ("methods", "selections", "teachers", "ensembles"))
REGIMES = {
    "Incomplete labels: one positive a query is known, the others are hidden": ("pubmedqa-incomplete", "bible-incomplete"),
    "Incomplete labels, four times the training": ("pubmedqa-incomplete-long", "bible-incomplete-long"),
    "Labels as they are": ("pubmedqa-complete", "bible-complete", "squad-complete"),
    "Labels as they are, four times the training": ("squad-complete-long",),
    "Incomplete labels, the whole MiniLM trained": ("pubmedqa-incomplete-minilm", "bible-incomplete-minilm"),
    "Labels as they are, the whole MiniLM trained": ("squad-complete-minilm",),
}
PERCPOS = "topk-percpos(0.95)"
Study = tuple[dict[str, list[Cell]], dict[str, Any]]
"""A study's cells by question, and what it says of itself."""


def read_study(name: str) -> Study:
    """Return a finished study."""
    folder = HERE / "results" / name
    return read_cells(folder / "cells.parquet"), json.loads((folder / "study.json").read_text(encoding="utf-8"))


def add_studies(page: Page, title: str, names: Sequence[str]) -> dict[str, Study]:
    """Add a heading, what each study was trained on, and what was there before; return the studies."""
    studies = {name: read_study(name) for name in names}
    page.add_heading(title)
    for name, (_, info) in studies.items():
        # A study measures its own data set first.
        own = {system: next(iter(scores.values())) for system, scores in info["references"].items()}
        before = ", ".join(f"{system} {score:.4f}" for system, score in own.items())
        page.add_text(f"`{name}`: {info['subtitle']}. nDCG@10 on its own test queries: {before}.")
    return studies


def own_queries(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of merged studies that were measured on their training set's own test queries."""
    return [cell for cell in cells if cell.dataset.split(" → ")[1].startswith(cell.dataset.split(" → ")[0])]


def rates_table(first: str, methods: Sequence[str], rates: Mapping[str, Mapping[str, float]], caption: str) -> Table:
    """Return the false-negative rates of methods, a column a study."""
    body = [[one, *(_percent(found.get(one)) for found in rates.values())] for one in methods]
    return Table([first, *rates], body, caption)


def add_regime(page: Page, title: str, names: Sequence[str]) -> None:
    """Add the tables and plots of the studies of one regime."""
    studies = add_studies(page, title, names)
    seeds = min(len({cell.seed for cell in cells[METHODS]}) for cells, _ in studies.values())
    shared = {name: [cell for cell in cells[METHODS] if cell.seed < seeds] for name, (cells, _) in studies.items()}
    cells = merged({name.split("-")[0]: found for name, found in shared.items()})
    own = own_queries(cells)
    elsewhere = averaged(cell for cell in cells if all(cell is not one for one in own))
    paper = of_question("methods")
    for part, some in (("the training sets' own test queries", own), ("other collections, zero-shot", elsewhere)):
        if not some:
            continue
        question = Question(f"On {part}", Ablation(some), "topk", paper)
        page.add_heading(f"On {part}", 3).add_table(results_table(question))
        page.add_plot(*difference_plot(question))
        if some is own:
            against = Question("Against PercPos", question.ablation, PERCPOS, paper)
            page.add_table(results_table(against)).add_plot(*difference_plot(against))
        page.add_table(datasets_table(question))
        if seeds > 1:
            page.add_table(power_table(question.ablation.power("topk")))
    add_false_negatives(page, {name: info for name, (_, info) in studies.items()}, Ablation(own))


def add_teachers(page: Page, names: Sequence[str]) -> None:
    """Add the tables on teachers, each alone and together, over several training sets' own test queries."""
    studies = add_studies(page, "Which teacher, and several together; incomplete labels", names)
    for title, baseline, question in ((TEACHERS, "minilm", "teachers"), (ENSEMBLES, "single", "ensembles")):
        cells = merged({name.split("-")[0]: found[title] for name, (found, _) in studies.items()})
        by: Literal["teacher", "method"] = "teacher" if question == "teachers" else "method"
        asked = Question(title, Ablation(own_queries(cells), by), baseline, of_question(question))
        page.add_heading(title, 3).add_table(results_table(asked))
        page.add_table(datasets_table(asked))
        page.add_table(power_table(asked.ablation.power(baseline)))
        rates = {name: info["false_negatives"][title] for name, (_, info) in studies.items()}
        caption = "Share of the mined negatives that are hidden positives"
        page.add_table(rates_table(by, asked.ablation.names, rates, caption))
    for name, (_, info) in studies.items():
        shared = {(a, b): value for a, b, value in info["overlaps"]}
        page.add_text(f"`{name}`:").add_table(overlap_table(shared))


def averaged(cells: Iterable[Cell]) -> list[Cell]:
    """Return one cell for each method, seed and test set: the mean over training sets, query by query.

    The training sets share these queries, so that they are no independent data sets.
    """
    groups: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.method, cell.seed, cell.dataset.split(" → ")[1]), []).append(cell)
    return [
        Cell(method, some[0].teacher, seed, dataset, some[0].query_ids, np.mean([one.values for one in some], axis=0))
        for (method, seed, dataset), some in groups.items()
    ]


def add_false_negatives(page: Page, studies: dict[str, dict[str, Any]], own: Ablation) -> None:
    """Add the share of false negatives of every method, and the scores over it."""
    rates = {name: info["false_negatives"].get(METHODS, {}) for name, info in studies.items()}
    rates = {name: found for name, found in rates.items() if found}
    if not rates:
        return
    counted = (
        "counted: every hidden label is known" if any("incomplete" in name for name in rates) else "estimated by an audit"
    )
    caption = f"Share of the mined negatives that are relevant, {counted}"
    page.add_heading("False negatives", 3).add_table(rates_table("method", own.names, rates, caption))
    series = []
    for name, found in rates.items():
        by_name = {row.name: row.by_dataset for row in own.rows("topk")}
        (dataset,) = [one for one in own.datasets if one.startswith(name.split("-")[0])]
        chosen = [one for one in own.names if one in found and one != "random"]
        base = by_name["topk"][dataset]
        series.append(Series(name, [100 * found[one] for one in chosen], [by_name[one][dataset] - base for one in chosen]))
    page.add_plot(
        scatter_plot(series, "false negatives among the mined, %", "difference in nDCG@10 to topk"),
        "Own test queries: score over false negatives, a point a method (random left out)",
    )


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{100 * rate:.1f} %"


def main() -> None:
    """Write README.md and its plots."""
    page = Page(
        "Ablation: which hard negatives?", "A real run of `nvr ablate` on two CPU cores; configurations in this folder"
    )
    findings = [text.strip().replace("\n", " ") for text in (HERE / "findings.md").read_text(encoding="utf-8").split("\n\n")]
    page.add_heading("What was found").add_list([text for text in findings if text])
    setup = (HERE / "setup.md").read_text(encoding="utf-8").strip().split("\n\n")
    page.add_heading("How it was done")
    for text in setup:
        page.add_text(text.replace("\n", " "))
    for title, names in REGIMES.items():
        add_regime(page, title, names)
    ((cells, info),) = add_studies(page, SELECTIONS, ["pubmedqa-selections"]).values()
    rates = info["false_negatives"][SELECTIONS]
    question = Question(SELECTIONS, Ablation(cells[SELECTIONS]), "top(4)", of_question("selections"), rates, counted=True)
    page.add_table(results_table(question)).add_table(power_table(question.ablation.power("top(4)")))
    add_teachers(page, ["pubmedqa-teachers", "bible-teachers"])
    page.write_markdown(HERE / "README.md")


if __name__ == "__main__":
    main()
