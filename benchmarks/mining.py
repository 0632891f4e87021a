"""Mining end to end from given vectors: ours, the bare FAISS flat search, sentence-transformers, FlagEmbedding's algorithm.

    python benchmarks/mining.py [--queries 20000] [--documents 20000] [--rounds 3] [--out benchmarks/results/mining.json]
    python benchmarks/mining.py --dataset ../shared/data/bible-parallel --out benchmarks/results/mining-bible-parallel.json

Vectors (384 numbers, unit length) are synthetic: clusters of documents, queries near their positives, so that siblings score
above the limit as well as below it. With --dataset the texts and labels are real and the clusters are its labels (a query's
positives). Every side runs in a fresh process, sides alternate; imports and texts in memory are not timed. All take 10
negatives a positive below 0.95 of its score, from the 112 best. Ours goes from vectors on disk to rows in DuckDB (candidate
table, parquet, database); FAISS only searches; sentence-transformers ends with triplets as a `datasets.Dataset`;
`hn_mine.py` of FlagEmbedding is a script and no package: its algorithm (flat index, batches of 64 queries, lists of texts,
`random.sample`, JSON lines; no rule) is repeated here. Peaks are of the process (ru_maxrss), `own` less what it held before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, peak_mb
from benchmarks.mining_peers import DEPTH, MARGIN, NEGATIVES, faiss_alone, hn_mine, sentence_transformers
from benchmarks.mining_world import DIM, prepare

SIDES = ("nv-retriever", "faiss", "st", "st-faiss", "hn_mine")
NAMES = {
    "nv-retriever": "nv-retriever, to rows in DuckDB",
    "faiss": "FAISS IndexFlatIP.search alone",
    "st": "sentence-transformers, to triplets",
    "st-faiss": "sentence-transformers, use_faiss",
    "hn_mine": "FlagEmbedding's hn_mine algorithm",
}


def ours(folder: Path, scratch: Path) -> tuple[Callable[[], None], Callable[[], int]]:
    import duckdb  # noqa: F401
    import pyarrow.dataset  # noqa: F401

    from nv_retriever.config import Runtime
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.embedding.shards import Vectors
    from nv_retriever.mining.build import write_mining
    from nv_retriever.mining.config import MiningConfig
    from nv_retriever.search.candidate_table import Candidates
    from nv_retriever.search.candidates import write_candidates
    from nv_retriever.search.config import SearchConfig
    from nv_retriever.search.vectors import VectorScorer
    from nv_retriever.store.database import TripleStore

    store = TripleStore(scratch / "triples.duckdb")
    config = MiningConfig(rule=f"topk-percpos({MARGIN})", selection=f"top({NEGATIVES})")
    table, mined = scratch / "candidates", scratch / "mining"

    def run() -> None:
        table.mkdir()
        mined.mkdir()
        dataset = Dataset.open(folder / "dataset")
        queries, documents = Vectors.open(folder / "queries"), Vectors.open(folder / "documents")
        scorer = VectorScorer(queries, documents, "cosine", Runtime(device="cpu"))
        timed("search", lambda: write_candidates(table, scorer, dataset, "train", SearchConfig(depth=DEPTH), "vectors"))
        candidates = [Candidates.open(table)]
        timed("mine", lambda: write_mining(mined, dataset, "train", candidates, lambda _: scorer, config, 0, "0" * 16))
        timed("database", lambda: store.add(mined))

    return run, lambda: store.count("0" * 16)


STEPS: dict[str, float] = {}


def timed(name: str, function: Callable[[], Any]) -> None:
    start = time.perf_counter()
    function()
    STEPS[name] = round(time.perf_counter() - start, 3)


def child(side: str, folder: Path) -> None:
    """In a process of its own: load, note the memory, run, print."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        make: Callable[..., Any] = {"nv-retriever": ours, "faiss": faiss_alone, "hn_mine": hn_mine}.get(
            side, lambda *places: sentence_transformers(*places, side == "st-faiss")
        )
        run, count = make(folder, Path(scratch))
        before, cpu, start = peak_mb(), time.process_time(), time.perf_counter()
        run()
        seconds, cpu, peak = time.perf_counter() - start, time.process_time() - cpu, peak_mb()
        row = {"seconds": seconds, "cpu": cpu, "peak_mb": peak, "own_mb": peak - before, "rows": count(), "steps": STEPS}
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path)
    for name, default in (("queries", 20_000), ("documents", 20_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--once", nargs="*", choices=SIDES, default=[], help="sides that run in the first round only")
    parser.add_argument("--work", type=Path, help="a folder to keep the prepared vectors in")
    parser.add_argument("--child", choices=SIDES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mining.json"))
    options = parser.parse_args()
    if options.child:
        child(options.child, options.work)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "queries").exists():
            prepare(folder, options)
        measure(options, folder)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Run all rounds, print and write the table and the plot."""
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    for number in range(options.rounds):
        for side in options.sides:
            if number and side in options.once:
                continue
            command = [sys.executable, __file__, "--child", side, "--work", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{side} failed:\n{done.stderr}")
            rounds[side].append(json.loads(done.stdout.splitlines()[-1]))
            last = rounds[side][-1]
            print(f"round {number + 1}  {side:14}{last['seconds']:8.2f} s {last['steps'] or ''}", flush=True)
    write(options, folder, rounds)


def write(options: argparse.Namespace, folder: Path, rounds: dict[str, list[dict[str, Any]]]) -> None:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.files import write_json

    dataset = Dataset.open(folder / "dataset")
    best = {side: min(found, key=lambda row: row["seconds"]) for side, found in rounds.items()}
    mine = best["nv-retriever"]
    result = {
        "machine": describe(os.cpu_count() or 1),
        "dataset": options.dataset.name if options.dataset else "synthetic clusters",
        "queries": len(dataset.query_rows("train")),
        "positives": len(dataset.positives("train").query_rows),
        "documents": dataset.n_documents,
        "dim": DIM,
        "depth": DEPTH,
        "negatives": NEGATIVES,
        "rule": f"topk-percpos({MARGIN})",
        "best": best,
        "rounds": rounds,
        "ours_over": {side: mine["seconds"] / row["seconds"] for side, row in best.items()},
        "peak_over": {side: mine["peak_mb"] / row["peak_mb"] for side, row in best.items()},
    }
    print(
        f"{result['dataset']}: {result['queries']} queries, {result['documents']} documents, {result['positives']} samples"
    )
    print(f"{'best of the rounds':40}{'seconds':>9}{'cpu s':>8}{'x ours':>8}{'peak MB':>9}{'own MB':>8}{'rows':>10}")
    for side, row in best.items():
        ratio = row["seconds"] / mine["seconds"]
        print(
            f"{NAMES[side]:40}{row['seconds']:9.2f}{row['cpu']:8.2f}{ratio:8.2f}{row['peak_mb']:9.0f}{row['own_mb']:8.0f}"
            f"{row['rows']:10}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    plot(result, options.out.with_suffix(".svg"))


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw seconds and peak memory side by side."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    sides = list(result["best"])[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.5 * len(sides) + 1.2), sharey=True)
    for axis, key, unit in zip(axes, ("seconds", "peak_mb"), ("seconds", "peak MB"), strict=True):
        bars = axis.barh([NAMES[side] for side in sides], [result["best"][side][key] for side in sides], color="#4477aa")
        axis.bar_label(bars, fmt="%.3g", padding=2)
        axis.set_xlabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    figure.suptitle(f"{result['dataset']}: {result['queries']} queries, {result['documents']} documents")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
