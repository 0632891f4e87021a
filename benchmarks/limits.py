"""Searches below limits in bf16 and in fp32, by how many limits a query has: where the slower product pays.

    python benchmarks/limits.py --data ../shared/data/bible-crossref [--home FOLDER] [--out benchmarks/results/limits.json]

The limits are those of topk-percpos(0.95) at a query's first positives, with the packaged MiniLM; formats alternate, and
processor seconds of the better of two rounds are told. Both find the same documents, which is checked.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.sweep import SPLIT, scorer_of
from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.files import write_json
from nv_retriever.report.table import Table
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.precision import BF16, FP32
from nv_retriever.search.vectors import VectorScorer

LIMITS, SEARCHES, K, ROUNDS = (1, 2, 3, 4, 6), 30_000, 4, 2


def measure(dataset: Dataset, folder: Path) -> list[dict[str, Any]]:
    """Return the processor seconds of both formats for each number of limits."""
    scorer, _ = scorer_of(dataset, folder, Runtime())
    assert isinstance(scorer, VectorScorer)
    excluded, positives = build_exclusions(dataset, SPLIT, True), dataset.positives(SPLIT)
    queries = np.searchsorted(dataset.query_rows(SPLIT), positives.query_rows)
    number = np.arange(len(queries)) - np.searchsorted(queries, queries)
    limits = np.float32(0.95) * scorer.score_pairs(queries, positives.document_rows)
    rows = []
    for count in LIMITS:
        has = np.flatnonzero((number < count) & (np.bincount(queries)[queries] >= count))
        has = has[: SEARCHES // count * count]
        seconds: dict[str, list[float]] = {precision.name: [] for precision in (BF16, FP32)}
        found = []
        for precision in (BF16, FP32) * ROUNDS:
            alone = VectorScorer(scorer.queries, scorer.documents, scorer.score_kind, Runtime(), precision)
            started = time.process_time()
            found.append(alone.search(queries[has], K, excluded.take(queries[has]), limits[has]))
            seconds[precision.name].append(time.process_time() - started)
        assert all(np.array_equal(one.documents, found[0].documents) for one in found)
        rows.append({"limits": count, "searches": len(has), **{name: min(times) for name, times in seconds.items()}})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--home", type=Path, help="keeps embeddings; a temporary folder by default")
    parser.add_argument("--out", type=Path, help="JSON of the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.home or Path(temporary)) / options.data.name
        if not (folder / "dataset" / "dataset.json").exists():
            write_dataset(folder / "dataset", DatasetConfig(source=str(options.data)))
        dataset = Dataset.open(folder / "dataset")
        rows = measure(dataset, folder)
    columns = ("limits", "searches", "bf16", "fp32")
    caption = f"{options.data.name}, {dataset.n_documents:,} documents: CPU seconds"
    print(Table(columns, [[row[name] for name in columns] for row in rows], caption, digits=1).markdown())
    if options.out:
        write_json(options.out, {"machine": describe(os.cpu_count() or 1), "dataset": options.data.name, "rows": rows})


if __name__ == "__main__":
    main()
