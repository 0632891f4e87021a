"""Put the committed results together: docs/benchmarks.md.

    python benchmarks/report.py

Numbers come from benchmarks/results, where the other benchmarks left them; each table is headed by its command.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mining import NAMES
from nv_retriever.report.html import Page
from nv_retriever.report.table import Cell, Table

ROOT = Path(__file__).resolve().parents[1]
TRAINING = {
    "st-default": "sentence-transformers' defaults (fp32, batches of 8)",
    "ours-8": "nv-retriever, batches of 8",
    "st-best": "sentence-transformers' best settings (bf16, no dropout, batches of 32)",
    "ours-32": "nv-retriever, batches of 32",
}


def result(name: str) -> dict[str, Any]:
    """Return what a benchmark left."""
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def mining(page: Page) -> None:
    """Add mining end to end."""
    page.add_heading("Mining, from vectors on disk to triples in a database")
    page.add_text("`python benchmarks/mining.py`; every side in a fresh process. FAISS only searches.")
    for name in ("mining", "mining-bible-parallel"):
        found = result(name)
        ours = found["best"]["nv-retriever"]["seconds"]
        rows = [
            [NAMES[side], one["seconds"], one["seconds"] / ours, round(one["own_mb"]), one["rows"]]
            for side, one in found["best"].items()
        ]
        size = f"{found['queries']:,} queries, {found['documents']:,} documents, {found['positives']:,} samples"
        caption = f"{found['dataset']}: {size}, {found['negatives']} negatives each, {found['rule']}, depth {found['depth']}"
        add(page, ["", "seconds", "times ours", "memory, MB", "rows"], rows, caption, digits=2)


def search(page: Page) -> None:
    """Add the search alone."""
    found = result("search")
    page.add_heading("Exact search beside FAISS, and beside the products alone")
    names = {"search": "nv-retriever", "faiss": "FAISS IndexFlatIP", "products": f"the {found['precision']} products alone"}
    rows = [[name, found["best"][side]["seconds"], found["gflops"][side]] for side, name in names.items()]
    share = f"the search reaches {100 * found['of_products']['seconds']:.0f} % of the product rate by wall time"
    share += f", {100 * found['of_products']['cpu']:.0f} % by processor time"
    size = f"{found['queries']:,} queries, {found['documents']:,} documents, {found['dim']} numbers, k = {found['k']}"
    add(page, ["", "seconds", "GFLOP/s"], rows, f"`python benchmarks/search.py`: {size}; {share}", digits=1)


def selection(page: Page) -> None:
    """Add the rules over stored candidates."""
    found = result("selection")
    page.add_heading("Rules and selections over stored candidates, one core")
    rows = [
        [one["rule"], one["selection"], one["samples_per_second"], peer, one["samples_per_second"] / peer if peer else None]
        for one in found["rows"]
        for peer in (one["sentence_transformers"],)
    ]
    columns = ["rule", "selection", "samples a second", "sentence-transformers", "times"]
    add(page, columns, rows, "`python benchmarks/selection.py`, 100 candidates a sample", digits=0)


def encoding(page: Page) -> None:
    """Add encoding."""
    found = result("encoding")
    page.add_heading("Encoding")
    rows = [
        [
            one["system"],
            one["tokens_per_second"],
            f"{one['times_default_median']:.2f} ×",
            f"{100 * one['share_of_peak']:.0f} %",
            one["mean_cosine"],
            one["min_cosine"],
        ]
        for one in found["results"]
    ]
    columns = ["", "tokens/s", "times the defaults", "share of peak", "mean cosine to fp32", "smallest"]
    peak = ", ".join(f"{name} {rate:.0f}" for name, rate in found["peak_gflops"].items())
    caption = f"`python benchmarks/encoding.py`, all-MiniLM-L6-v2, mixed lengths; peak of products, GFLOP/s: {peak}"
    add(page, columns, rows, caption, digits=6)


def training(page: Page) -> None:
    """Add training."""
    found = result("training")
    page.add_heading("Training")
    base = found["samples_per_second"]["st-default"]["wall"]
    rows = [[name, found["samples_per_second"][key]["wall"]] for key, name in TRAINING.items()]
    add(
        page,
        ["", "samples/s", "times the defaults"],
        [[*row, row[1] / base] for row in rows],
        f"`python {found['command']}`",
        2,
    )


def memory(page: Page) -> None:
    """Add memory against the size of the corpus."""
    found = result("memory")
    page.add_heading("Memory against the size of the corpus")
    rows = [
        [one["documents"], round(one["peak_mb"] - one["before_mb"]), round(one["one_block_mb"]), one["same_as_one_block"]]
        for one in found["rows"]
    ]
    caption = (
        f"`python benchmarks/memory.py`: the search's own memory within {found['budget_mb']} MB, {found['dim']} numbers"
    )
    add(page, ["documents", "MB", "MB with all in one block", "same bits"], rows, caption)


def rerun(page: Page) -> None:
    """Add the cost of running again."""
    found = result("rerun-scifact")
    page.add_heading("Running again")
    rows = [
        [name, one["wall"], sum(one["stages"].values()), one["texts"], f"{one['cached']} of {one['of']}"]
        for name, one in found["runs"].items()
    ]
    columns = ["`nvr mine`", "seconds, all in all", "seconds in stages", "texts embedded", "tasks cached"]
    add(page, columns, rows, f"`python benchmarks/rerun.py`, {found['dataset']}, {found['documents']:,} documents", digits=1)


def sweep(page: Page) -> None:
    """Add twenty rules over one search."""
    page.add_heading("Twenty rules over one search")
    rows = []
    for one in result("sweep")["sweeps"]:
        rules, samples = one["rules"], max(rule["samples"] for rule in one["rules"])
        deeper = sum(rule["searched_again"] for rule in rules) / sum(rule["samples"] for rule in rules)
        rows.append(
            [one["dataset"], samples, one["search"], sum(rule["seconds"] for rule in rules), f"{100 * deeper:.1f} %"]
        )
    columns = ["", "samples", "seconds of search", "seconds of 20 rules", "samples searched below their limit"]
    add(page, columns, rows, "`python benchmarks/sweep.py`; what a rule leaves short is searched deeper, exactly", digits=1)


def add(page: Page, columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str, digits: int = 4) -> None:
    """Add a table."""
    page.add_table(Table(columns, [list(row) for row in rows], caption, digits))


def main() -> None:
    """Write docs/benchmarks.md."""
    machine = result("mining")["machine"]
    page = Page(
        "Benchmarks", f"{machine['processor']}, {machine['threads']} cores ({', '.join(machine['features'])}), no GPU"
    )
    page.add_text(
        "Sides alternate on the same machine and the best of the rounds counts; each result was committed with the code "
        "that it is of. Times vary by 15 % from run to run: look at ratios. [What was tried, and what failed](log.md)."
    )
    for part in (mining, search, selection, encoding, training, memory, rerun, sweep):
        part(page)
    page.write_markdown(ROOT / "docs" / "benchmarks.md")


if __name__ == "__main__":
    main()
