"""Exact search beside the bare FAISS flat search and beside the machine's matrix-product rate, in alternating rounds.

    python benchmarks/search.py [--queries 20000] [--documents 20000] [--dim 384] [--k 100] [--rounds 3] [--threads 2]
                                [--vectors FOLDER_OF_DOCUMENTS FOLDER_OF_QUERIES] [--recall] [--precision fp32]
                                [--out benchmarks/results/search.json]

Everything is timed from vectors on disk to sorted, exactly scored top-k. The matrix-product rate is that of the precision
which the search multiplies in, with tiles of the search's shapes and nothing else; its share of the search's time is the
number to look at. `seconds` is wall time, `cpu` is processor time: on a busy machine compare the latter, with --threads 1.
--recall adds the approximate indexes: build time, search time and recall, for the crossover table of docs/search.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "--threads" in sys.argv:
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_name] = sys.argv[sys.argv.index("--threads") + 1]

import faiss
import numpy as np
import torch

from benchmarks.machine import describe
from nv_retriever.config import Runtime
from nv_retriever.embedding.shards import Vectors, write_vectors
from nv_retriever.files import write_json
from nv_retriever.search.approximate import approximate_scorer
from nv_retriever.search.precision import BF16, FP32, INT8
from nv_retriever.search.prepared import prepare_documents, prepare_queries
from nv_retriever.search.types import Exclusions
from nv_retriever.search.vectors import VectorScorer

PRECISIONS = {precision.name: precision for precision in (FP32, BF16, INT8)}
INDEXES = ("ivf(nlist=1024, nprobe=16)", "ivf(nlist=1024, nprobe=64)", "hnsw(m=32, ef_search=128)")


def unit_vectors(folder: Path, n: int, dim: int, seed: int) -> Vectors:
    """Write normal vectors of length 1."""
    rng = np.random.default_rng(seed)

    def gather(start: int, stop: int) -> np.ndarray:
        rows = rng.standard_normal((stop - start, dim), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    write_vectors(folder, n, dim, gather, {"score_kind": "cosine"})
    return Vectors.open(folder)


def timed(function: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Return wall and processor seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}, result


def products(scorer: VectorScorer, k: int) -> Callable[[], None]:
    """Return what multiplies all tiles of a search and looks at none."""
    sizes, precision, rng = scorer.block_sizes(k), scorer.precision(k), np.random.default_rng(0)
    n_documents, n_queries = min(scorer.n_documents, sizes.documents), min(scorer.n_queries, sizes.queries)
    left = prepare_documents(rng.standard_normal((n_documents, scorer.documents.dim), np.float32), precision, "cpu").side
    right = prepare_queries(rng.standard_normal((n_queries, scorer.documents.dim), np.float32), precision, "cpu").side
    right.set_thresholds(torch.zeros(n_queries, dtype=torch.float64), left)
    memory = torch.empty(sizes.tile_documents * sizes.tile_queries, dtype=precision.dtype)

    def multiply() -> None:
        for start in range(0, scorer.n_documents, n_documents):
            rows = min(n_documents, scorer.n_documents - start)
            for low in range(0, scorer.n_queries, sizes.tile_queries):
                low %= n_queries
                product = right.against(left, slice(low, min(low + sizes.tile_queries, n_queries)))
                for first in range(0, rows, sizes.tile_documents):
                    product(slice(first, min(first + sizes.tile_documents, rows)), memory)

    return multiply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("queries", 20_000), ("documents", 20_000), ("dim", 384), ("k", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vectors", nargs=2, type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, help="of the proposals; by default the one that pays")
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search.json"))
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = run(options, Path(folder))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all rounds and print the table."""
    if options.vectors:
        documents, queries = (Vectors.open(path) for path in options.vectors)
        opened: Callable[[], tuple[Vectors, Vectors]] = lambda: tuple(Vectors.open(path) for path in options.vectors)  # noqa: E731
    else:
        documents = unit_vectors(folder / "documents", options.documents, options.dim, 0)
        queries = unit_vectors(folder / "queries", options.queries, options.dim, 1)
        opened = lambda: (Vectors.open(folder / "documents"), Vectors.open(folder / "queries"))  # noqa: E731
    k, n, precision = options.k, queries.n, PRECISIONS.get(options.precision)
    excluded = Exclusions.none(n)

    def ours() -> Any:
        of_documents, of_queries = opened()
        scorer = VectorScorer(of_queries, of_documents, "cosine", Runtime(device="cpu"), precision)
        return scorer.search(np.arange(n), k, excluded)

    def flat() -> Any:
        of_documents, of_queries = opened()
        index = faiss.IndexFlatIP(of_documents.dim)
        for _, block in of_documents.blocks(1 << 20):
            index.add(np.ascontiguousarray(block))
        return index.search(np.concatenate([block for _, block in of_queries.blocks(1 << 20)]), k)

    scorer = VectorScorer(queries, documents, "cosine", Runtime(device="cpu"), precision)
    multiply = products(scorer, k)
    flop = 2.0 * n * documents.n * documents.dim
    best: dict[str, dict[str, float]] = {}
    for _ in range(options.rounds):
        for name, function in (("search", ours), ("faiss", flat), ("products", multiply)):
            times, found = timed(function)
            best[name] = {key: min(value, best.get(name, times)[key]) for key, value in times.items()}
            if name == "search":
                mine = found
            elif name == "faiss":
                theirs = found
    same = float((theirs[1] == mine.documents).mean())
    result: dict[str, Any] = {
        "machine": describe(options.threads),
        "queries": n,
        "documents": documents.n,
        "dim": documents.dim,
        "k": k,
        "precision": scorer.precision(k).name,
        "rounds": options.rounds,
        "best": best,
        "gflops": {name: flop / times["seconds"] / 1e9 for name, times in best.items()},
        "of_faiss": {key: best["search"][key] / best["faiss"][key] for key in ("seconds", "cpu")},
        "of_products": {key: best["products"][key] / best["search"][key] for key in ("seconds", "cpu")},
        "same_as_faiss": same,
    }
    print(
        f"{n} queries x {documents.n} documents x {documents.dim}, k = {k}, "
        f"{options.threads} threads, {scorer.precision(k).name}"
    )
    print(f"{'':10}{'wall s':>9}{'cpu s':>9}{'GFLOP/s':>9}")
    for name, times in best.items():
        print(f"{name:10}{times['seconds']:9.2f}{times['cpu']:9.2f}{result['gflops'][name]:9.0f}")
    print(f"search / faiss: wall {result['of_faiss']['seconds']:.2f}, cpu {result['of_faiss']['cpu']:.2f}")
    print(f"share of the product rate: wall {result['of_products']['seconds']:.2f}, cpu {result['of_products']['cpu']:.2f}")
    print(f"the same document at the same rank as FAISS: {same:.6f}")
    if options.recall:
        result["indexes"] = [approximate(scorer, name, k, folder / str(i)) for i, name in enumerate(INDEXES)]
    return result


def approximate(scorer: VectorScorer, name: str, k: int, folder: Path) -> dict[str, Any]:
    """Return build time, search time and recall of an index."""
    folder.mkdir()
    build, index = timed(lambda: approximate_scorer(scorer, name, folder))
    search, _ = timed(lambda: index.search(np.arange(scorer.n_queries), k, Exclusions.none(scorer.n_queries)))
    row = {"index": index.name, "build": build, "search": search, "recall": index.measure_recall(k)}
    print(f"{row['index']:45} build {build['cpu']:8.2f} search {search['cpu']:8.2f} cpu s, recall {row['recall']:.4f}")
    return row


if __name__ == "__main__":
    main()
