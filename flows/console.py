"""What people see at the end of a command."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nv_retriever.data.config import DatasetConfig
from nv_retriever.errors import printable

Json = dict[str, Any]
SHORT_REASONS = {
    "exhausted": "the corpus has no more documents below their limits",
    "not-searched": "a cross-encoder sees no more than the first teacher found (search.depth)",
    "positive-not-scored": "the teacher gave their positive no score",
}
"""Why a sample is short, in words."""
_FINGERPRINT = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24}\b")
"""A fingerprint, and what is shown of it."""


class _Console(Console):
    """Shows names and reasons, whoever wrote them, and obeys none."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text or cell for printing."""
        return super().render_str(printable(text), **options)


def open_console() -> Console:
    """Return the console: names are printed as they are, paths in one piece; a file or pipe is as wide as its tables.

    Tables are never squeezed below 80 characters, where numbers and names would be broken: a narrower terminal wraps lines.
    """
    console = _Console(markup=False, highlight=False, soft_wrap=True)
    console.width = max(console.width, 80) if console.is_terminal or "COLUMNS" in os.environ else 1000
    return console


def open_table(*columns: str, title: str) -> Table:
    """Return an empty table; where the terminal is too narrow, cells are broken into lines, never cut."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "artifact")
    return table


def stages_table(result: Json) -> Table:
    """Return the table of stages."""
    table = open_table("stage", "what", "artifact", "cached", "seconds", title="Stages")
    for stage in result["stages"]:
        cached, seconds = "yes" if stage["cached"] else "no", f"{stage['seconds']:.1f}"
        table.add_row(stage["stage"], stage["what"], short(stage["artifact"]), cached, seconds)
    return table


def short(artifact: str) -> str:
    """Return `<kind>/<start of the fingerprint>`."""
    kind, fingerprint = artifact.split("/")
    return f"{kind}/{fingerprint[:8]}"


def show_run(result: Json, dataset: str) -> None:
    """Print stages, mining counts, the comparison base · BM25 · trained, and what to try next."""
    console = open_console()
    console.print(stages_table(result))
    show_mined(console, result["mining"])
    evaluation = result["evaluation"]
    metrics = list(evaluation["base"])
    difference = difference_cells(metrics[0], evaluation["difference"])
    table = open_table("system", *metrics, title=f"Retrieval on {dataset}: {evaluation['difference']['queries']:,} queries")
    for system in (name for name in evaluation if name != "difference"):
        table.add_row(system, *(f"{evaluation[system][metric]:.4f}" for metric in metrics))
    console.print(table)
    console.print("Trained: " + ", ".join(f"{name} {value}" for name, value in difference.items()))
    console.print(verdict(result))
    console.print(f"Checkpoint: {result['checkpoint']}\nMLflow run: {result['mlflow_run_id']}")
    console.print(f"Next: {next_steps(dataset, evaluation['difference']['better'])}")


def verdict(result: Json) -> str:
    """Return in words whether the training paid, and whether its model was made the registered `champion`."""
    evaluation = result["evaluation"]
    metric, *_ = evaluation["trained"]
    _, high = evaluation["difference"]["ci95"]
    if evaluation["difference"]["better"]:
        kept = "a `champion` that scored higher on the same data stays"
        found = f"Better than its base: {'made `champion` in MLflow' if result['promoted'] else kept}"
    else:
        found = "Worse than its base" if high is not None and high < 0 else "Not shown to be better than its base"
        found += ": not made `champion`"
    return found + ("; BM25 scores higher" if evaluation["bm25"][metric] > evaluation["trained"][metric] else "")


def next_steps(dataset: str, paid: bool) -> str:
    """Return what to try after a run, by whether it made a better model; on the default data set that is one's own."""
    if dataset == DatasetConfig().source:
        return "nvr plan · nvr run --dataset FOLDER, with your own data · nvr serve"
    own = f"--dataset {shlex.quote(dataset)}"
    other = "--method 'topk-marginpos(0.05)'" if paid else "more training.epochs"
    return f"nvr audit {own}, how many negatives are false · the same with {other} · nvr serve"


def show_mined(console: Console, mining: Json) -> None:
    """Print how many negatives there are, why samples found fewer than asked, and what fills them up."""
    some = f"{mining['samples'] - mining['empty']:,} of {mining['samples']:,} samples of " if mining["empty"] else ""
    console.print(
        f"Mined {mining['triples']:,} negatives for {some}{mining['queries']:,} queries; "
        f"run {mining['run_id']} in {mining['database']}"
    )
    if mining["short"]:
        reasons = ", ".join(f"{SHORT_REASONS.get(name, name)} ({n:,})" for name, n in mining["short_reasons"].items())
        fillers = ", ".join(f"{mining['reasons'][why]:,} {why}" for why in ("relaxed", "random") if why in mining["reasons"])
        filled = f"; filled up with {fillers} negatives" if fillers else ""
        console.print(f"{mining['short']:,} of {mining['samples']:,} samples found fewer than asked: {reasons}{filled}")
        console.print("`nvr explain QUERY_ID` shows a query's candidates; `mining.shortfall` says how to fill up")


def difference_cells(metric: str, difference: Json) -> dict[str, str]:
    """Return how the trained student differs from its base in a metric, with interval and p-value: text by column."""
    return {
        f"Δ {metric} to base": f"{difference[metric]:+.4f}",
        "95 % interval": interval(difference["ci95"]),
        "p": f"{difference['p']:.2g}",
    }


def show_mining(result: Json) -> None:
    """Print what was mined, and where it is."""
    console = open_console()
    console.print(stages_table(result))
    show_mined(console, result)
    if result["export"]:
        export = result["export"]
        console.print(
            f"Wrote {export['rows']:,} rows as {export['format']} to {export['path']} ({export['skipped']:,} skipped)"
        )


def show_training(result: Json) -> None:
    """Print what was mined, and where the checkpoint is."""
    console = open_console()
    console.print(stages_table(result))
    if "mining" in result:
        show_mined(console, result["mining"])
    for one in result.get("rounds", []):
        if one["jaccard"] is not None:
            console.print(f"Round {one['round']}: overlap (Jaccard) of its negatives with the last {one['jaccard']:.3f}")
    console.print(f"Checkpoint: {result['checkpoint']}\nMLflow run: {result['mlflow_run_id']}")


def show_evaluation(result: Json) -> None:
    """Print the scores."""
    console = open_console()
    table = open_table("metric", "mean", title=f"{result['model']} on {result['dataset']} {result['split']}")
    for metric, value in result["metrics"].items():
        table.add_row(metric, f"{value:.4f}")
    console.print(table)
    for path in result["mteb"]["results"]:
        console.print(f"Result file for mteb: {path}")
    if result["mteb"]["scores"]:
        console.print(f"mteb itself finds nDCG@10 {result['mteb']['scores']['ndcg_at_10']:.4f}")
    console.print(f"Per query: {result['per_query']}\nMLflow run: {result['mlflow_run_id']}")


def show_plan(result: Json) -> None:
    """Print what would run, and why."""
    console = open_console()
    table = open_table("stage", "what", "artifact", "state", "why", title="Plan")
    for stage in result["stages"]:
        table.add_row(
            stage["stage"],
            stage["what"],
            short(stage["artifact"]),
            "cached" if stage["cached"] else "would run",
            _FINGERPRINT.sub(r"\1", stage["why"]),
        )
    console.print(table)


def show_audit(result: Json) -> None:
    """Print false-negative rate against the mean gap to the positive (smaller is harder) and coverage, by rule."""
    console = open_console()
    table = open_table("teacher", "rule", "negatives", "false", "rate", "gap", "coverage", title="False negatives by rule")
    for row in result["rows"]:
        rate, hardness, coverage = (row[key] for key in ("rate", "hardness", "coverage"))
        table.add_row(
            row["teacher"],
            row["rule"],
            f"{row['negatives']:,}",
            "" if row["false_negatives"] is None else f"{row['false_negatives']:,}",
            "" if rate is None else f"{rate:.2%}",
            "" if hardness is None else f"{hardness:.4f}",
            "" if coverage is None else f"{coverage:.1%}",
        )
    console.print(table)
    for teacher in result["teachers"]:
        recommendation = teacher["recommendation"]
        word = "Recommended" if recommendation["met"] else "Nearest to the target"
        console.print(f"{word} for {teacher['teacher']}: {recommendation['rule']} ({recommendation['reason']})")
    console.print(f"Report: {result['report']}")


def show_ablation(result: Json) -> None:
    """Print every table: mean, interval, paired difference, corrected p, false negatives, the paper's number."""
    console = open_console()
    for title, rows in result["tables"].items():
        names = ("mean", "95 % interval", "difference", "its interval", "p", "false neg.", "paper")
        table = open_table("", *names, title=title)
        for row in rows:
            difference = row["difference_ci95"]
            table.add_row(
                row["name"],
                f"{row['mean']:.4f}",
                interval(row["ci95"], sign=""),
                "" if row["difference"] is None else f"{row['difference']:+.4f}",
                "" if difference is None else interval(difference),
                "" if row["p"] is None else f"{row['p']:.2g}",
                "" if row["false_negatives"] is None else f"{row['false_negatives']:.1%}",
                "" if row["paper"] is None else f"{row['paper']:.4f}",
            )
        console.print(table)
    console.print(f"Report: {result['report']}")


def interval(ends: list[float | None], sign: str = "+") -> str:
    """Return an interval's ends, or a dash where a single query (and seed) gives none."""
    low, high = ends
    return "–" if low is None or high is None else f"[{low:{sign}.4f}, {high:{sign}.4f}]"
