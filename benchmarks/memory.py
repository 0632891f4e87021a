"""Peak memory of exact search against the size of the corpus, one process a size, and the same result as in one block.

    python benchmarks/memory.py [--sizes 10000 100000 1000000 3000000] [--dim 384] [--queries 500] [--k 100]
                                [--budget-mb 256] [--home FOLDER] [--out benchmarks/results/memory.json]

Vectors are written to disk first (3M x 384 takes 4.6 GB in --home, default the temporary folder; removed afterwards). The
peak is that of the process that searches, less what it holds before the search begins (Python, torch, numpy). The result is
compared, bit by bit, with a search that takes the corpus, in memory, as one block (some 16 GB at 3M), up to --compare.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe, peak_mb

SHARD_ROWS = 65_536


def write(folder: Path, n: int, dim: int, seed: int) -> None:
    """Write n vectors of length 1, shard by shard."""
    from nv_retriever.embedding.shards import write_vectors

    rng = np.random.default_rng(seed)

    def gather(start: int, stop: int) -> np.ndarray:
        rows = rng.standard_normal((stop - start, dim), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    write_vectors(folder, n, dim, gather, {"score_kind": "cosine"})


def search(folder: Path, k: int, budget: int, one_block: bool) -> None:
    """In a process of its own: search, and print the peak before and after, and a digest of the result."""
    import dataclasses
    import hashlib

    from nv_retriever.config import Runtime
    from nv_retriever.embedding.shards import Vectors
    from nv_retriever.search.types import Exclusions
    from nv_retriever.search.vectors import VectorScorer

    queries, documents = Vectors.open(folder / "queries"), Vectors.open(folder / "documents")
    warm = VectorScorer(Vectors.from_array(np.eye(64, documents.dim)), Vectors.from_array(np.eye(64, documents.dim)), "dot")
    warm.search(np.arange(64), 1, Exclusions.none(64))
    before, started = peak_mb(), time.perf_counter()
    scorer = VectorScorer(queries, documents, "cosine", Runtime(device="cpu", memory_budget_mb=budget))
    if one_block:
        scorer.documents = Vectors.from_array(np.concatenate([block for _, block in documents.blocks(documents.n)]))
        sizes = dataclasses.replace(scorer.block_sizes(k), documents=documents.n)
        scorer.block_sizes = lambda *_: sizes  # type: ignore[method-assign]
    found = scorer.search(np.arange(queries.n), k, Exclusions.none(queries.n))
    digest = hashlib.sha256(found.documents.tobytes() + found.scores.tobytes()).hexdigest()
    seconds = time.perf_counter() - started
    print(json.dumps({"before_mb": before, "peak_mb": peak_mb(), "seconds": seconds, "digest": digest}))


def measure(folder: Path, k: int, budget: int, *flags: str) -> dict[str, Any]:
    """Run `search` in a fresh process."""
    command = [sys.executable, __file__, "--child", str(folder), "--k", str(k), "--budget-mb", str(budget), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000, 3_000_000])
    for name, default in (("dim", 384), ("queries", 500), ("k", 100), ("budget-mb", 256), ("compare", 3_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--child", type=Path)
    parser.add_argument("--one-block", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    options = parser.parse_args()
    if options.child:
        search(options.child, options.k, options.budget_mb, options.one_block)
        return
    rows = []
    print(f"{'documents':>10}{'vectors MB':>12}{'peak MB':>9}{'of search':>11}{'seconds':>9}  same as one block")
    for n in options.sizes:
        folder = Path(tempfile.mkdtemp(dir=options.home))
        try:
            write(folder / "documents", n, options.dim, 0)
            write(folder / "queries", options.queries, options.dim, 1)
            row = {"documents": n, **measure(folder, options.k, options.budget_mb)}
            if n <= options.compare:
                whole = measure(folder, options.k, options.budget_mb, "--one-block")
                row |= {"same_as_one_block": whole["digest"] == row["digest"], "one_block_mb": whole["peak_mb"]}
        finally:
            shutil.rmtree(folder)
        rows.append(row)
        own, size = row["peak_mb"] - row["before_mb"], n * options.dim * 4 / 2**20
        print(
            f"{n:10}{size:12.0f}{row['peak_mb']:9.0f}{own:11.0f}{row['seconds']:9.1f}  {row.get('same_as_one_block', '-')}",
            flush=True,
        )
    from nv_retriever.files import write_json

    settings = {name: getattr(options, name) for name in ("dim", "queries", "k", "budget_mb")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"machine": describe(os.cpu_count() or 1), **settings, "rows": rows})


if __name__ == "__main__":
    main()
