"""Put the committed results together: docs/benchmarks.md.

    python benchmarks/report.py

Numbers come from benchmarks/results, where the other benchmarks left them.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.mining import NAMES
from nv_retriever.hardware import FAST_BF16_FLAGS
from nv_retriever.report.html import Page
from nv_retriever.report.table import Table

ROOT = Path(__file__).resolve().parents[1]
PLAIN = "without-bf16/"
"""Results of a machine whose processor has no bf16: models run in fp32, large searches propose in int8."""
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


def mining(name: str, command: str) -> Table:
    """Return mining end to end."""
    found = result(name)
    ours = found["best"]["nv-retriever"]["seconds"]
    rows = [
        [NAMES[side], one["seconds"], one["seconds"] / ours, round(one["own_mb"]), one["rows"]]
        for side, one in found["best"].items()
    ]
    size = f"{found['queries']:,} queries, {found['documents']:,} documents, {found['positives']:,} samples"
    how = f"{found['negatives']} negatives each, {found['rule']}, depth {found['depth']}"
    caption = f"`{command}`, {found['dataset']}: {size}, {how}. Memory is the peak less what the process held before"
    return Table(["", "seconds", "times ours", "memory, MB", "rows"], rows, caption, digits=2)


def search(folder: str = "") -> Table:
    """Return the search alone."""
    found = result(f"{folder}search")
    names = {"search": "nv-retriever", "faiss": "FAISS IndexFlatIP", "products": f"the {found['precision']} products alone"}
    rows = [[name, found["best"][side]["seconds"], found["gflops"][side]] for side, name in names.items()]
    command = f"python benchmarks/search.py --queries {found['queries']} --documents {found['documents']}"
    wall, cpu = (100 * found["of_products"][kind] for kind in ("seconds", "cpu"))
    share = f"{wall:.0f} % of the product rate by wall time, {cpu:.0f} % by processor time"
    caption = f"`{command}`, {found['dim']} numbers, k = {found['k']}: {share}"
    return Table(["", "seconds", "GFLOP/s"], rows, caption, digits=1)


def selection() -> Table:
    """Return the rules over stored candidates."""
    rows = []
    for one in result("selection")["rows"]:
        ours, peer = one["samples_per_second"], one["sentence_transformers"]
        rows.append([one["rule"], one["selection"], ours, peer, ours / peer if peer else None, one["differ"]])
    columns = ["rule", "selection", "samples a second", "sentence-transformers", "times", "samples that differ"]
    return Table(columns, rows, "`OMP_NUM_THREADS=1 python benchmarks/selection.py`, 100 candidates a sample", digits=0)


def encoding(folder: str = "") -> Table:
    """Return encoding."""
    found = result(f"{folder}encoding")
    rows = []
    for one in found["results"]:
        times, share = f"{one['times_default_median']:.2f} ×", f"{100 * one['share_of_peak']:.0f} %"
        rows.append([one["system"], one["tokens_per_second"], times, share, one["mean_cosine"], one["min_cosine"]])
    columns = ["", "tokens/s", "times the defaults", "share of peak", "mean cosine to fp32", "smallest"]
    peak = ", ".join(f"{name} {rate:.0f}" for name, rate in found["peak_gflops"].items())
    caption = f"`python benchmarks/encoding.py`, all-MiniLM-L6-v2, mixed lengths; peak of products, GFLOP/s: {peak}"
    return Table(columns, rows, caption, digits=6)


def training(folder: str = "") -> Table:
    """Return training."""
    found = result(f"{folder}training")
    rates = {key: found["samples_per_second"][key]["wall"] for key in TRAINING}
    best = "bf16" if FAST_BF16_FLAGS & set(found["machine"]["features"]) else "fp32"
    rows = [
        [TRAINING[key].replace("bf16", best), rate, rate / rates["st-default"], rate / rates["st-best"]]
        for key, rate in rates.items()
    ]
    return Table(["", "samples/s", "times the defaults", "times the best"], rows, f"`python {found['command']}`", digits=2)


def memory() -> Table:
    """Return memory against the size of the corpus."""
    found, peaks = result("memory"), ("peak_mb", "one_block_mb")
    rows = [
        [one["documents"], *(round(one[peak] - one["before_mb"]) for peak in peaks), one["same_as_one_block"]]
        for one in found["rows"]
    ]
    budget = f"the search's own memory within {found['budget_mb']} MB, {found['dim']} numbers"
    columns = ["documents", "MB", "MB with all in one block", "same bits"]
    return Table(columns, rows, f"`python benchmarks/memory.py`: {budget}")


def rerun(name: str, options: str = "") -> Table:
    """Return the cost of running again."""
    found = result(name)
    whole = found["runs"]["first"]["embed_documents"]
    rows = [
        [
            run,
            one["wall"],
            sum(one["stages"].values()),
            one["texts"],
            f"{100 * one['embed_documents'] / whole:.1f} %",
            f"{one['cached']} of {one['of']}",
        ]
        for run, one in found["runs"].items()
    ]
    columns = ["`nvr mine`", "seconds", "in stages", "texts embedded", "embedding documents, of the first", "tasks cached"]
    caption = f"`python benchmarks/rerun.py --data FOLDER{options}`, {found['dataset']}, {found['documents']:,} documents"
    return Table(columns, rows, caption, digits=1)


def sweep() -> Table:
    """Return twenty rules over one search, with each selection."""
    rows = []
    for one in result("sweep")["sweeps"]:
        for selection, of in groupby(one["rules"], key=lambda rule: rule["selection"]):
            rules = list(of)
            deeper = sum(rule["searched_again"] for rule in rules) / sum(rule["samples"] for rule in rules)
            seconds = sum(rule["seconds"] for rule in rules)
            rows.append([one["dataset"], rules[0]["samples"], one["search"], selection, seconds, 100 * deeper])
    columns = [
        "",
        "samples",
        "seconds of search",
        "selection",
        "seconds of 20 rules",
        "searches below a limit, of 100 samples",
    ]
    caption = (
        "`python benchmarks/sweep.py --data FOLDER`, one selection after the other; what a rule leaves short is searched "
        "deeper, exactly, and what was searched is not searched again"
    )
    return Table(columns, rows, caption, digits=1)


def gain() -> Table:
    """Return what a run with the defaults gives."""
    found = result("gain")
    rows = [
        [
            one["dataset"],
            one["samples"],
            one["queries"],
            *(one[system] for system in ("base", "bm25", "trained")),
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(one["gain"], *one["ci95"]),
        ]
        for one in found["rows"]
    ]
    columns = ["", "training samples", "test queries", "all-MiniLM-L6-v2", "BM25", "trained", "gain, 95 % interval"]
    caption = (
        f"`python benchmarks/gain.py --data FOLDER`, {found['metric']}: `nvr run --dataset` with its defaults, at most "
        f"{found['train_limit']:,} training queries"
    )
    return Table(columns, rows, caption, digits=3)


def machine(name: str) -> str:
    """Return what a result says of its machine."""
    found = result(name)["machine"]
    return f"{found['processor']}, {found['threads']} cores ({', '.join(found['features'])}), no GPU"


def page() -> Page:
    """Return the page."""
    made = Page("Benchmarks", machine("mining"))
    made.add_text(
        "Sides alternate on the same machine. In mining and search the best of the rounds counts, in training and in the "
        "ratios of encoding the median; the others ran once. A result is of the code at its file's last commit. Times vary "
        "by 15 % from run to run: look at ratios. [What was tried, and what failed](log.md)."
    )
    made.add_heading("A run with the defaults on data sets of one's own").add_table(gain())
    made.add_heading("Mining, from vectors on disk to triples in a database; FAISS only searches")
    made.add_table(mining("mining", "python benchmarks/mining.py"))
    made.add_table(mining("mining-bible-parallel", "python benchmarks/mining.py --dataset FOLDER"))
    made.add_heading("Exact search beside FAISS, and beside the products alone").add_table(search())
    made.add_heading("Rules and selections over stored candidates, one core").add_table(selection())
    made.add_heading("Encoding").add_table(encoding())
    made.add_heading("Training").add_table(training())
    made.add_heading("Memory against the size of the corpus").add_table(memory())
    made.add_heading("Running again").add_table(rerun("rerun-scifact"))
    made.add_table(rerun("rerun-bible-parallel", " --documents 100000"))
    made.add_heading("Twenty rules over one search").add_table(sweep())
    made.add_heading("On a processor without bf16")
    formats = "models run in fp32 there, large searches propose in int8; the same results come out"
    made.add_text(f"{machine(PLAIN + 'mining')}: {formats}.")
    made.add_table(mining(f"{PLAIN}mining", "python benchmarks/mining.py"))
    made.add_table(mining(f"{PLAIN}mining-bible-parallel", "python benchmarks/mining.py --dataset FOLDER"))
    made.add_table(search(PLAIN)).add_table(encoding(PLAIN)).add_table(training(PLAIN))
    return made


if __name__ == "__main__":
    page().write_markdown(ROOT / "docs" / "benchmarks.md")
