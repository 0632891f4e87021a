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
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe, peak_mb

DIM, DEPTH, NEGATIVES, MARGIN = 384, 112, 10, 0.95
SIDES = ("nv-retriever", "faiss", "st", "st-faiss", "hn_mine")
NAMES = {
    "nv-retriever": "nv-retriever, to rows in DuckDB",
    "faiss": "FAISS IndexFlatIP.search alone",
    "st": "sentence-transformers, to triplets",
    "st-faiss": "sentence-transformers, use_faiss",
    "hn_mine": "FlagEmbedding's hn_mine algorithm",
}


def prepare(folder: Path, options: argparse.Namespace) -> None:
    """Ingest the data set and write its vectors: an embeddings artifact each for documents and queries."""
    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.data.dataset import Dataset

    source = options.dataset or synthetic_source(folder / "source", options.queries, options.documents)
    (folder / "dataset").mkdir()
    write_dataset(folder / "dataset", DatasetConfig(source=str(source)))
    write_clusters(folder, Dataset.open(folder / "dataset"))


def synthetic_source(folder: Path, queries: int, documents: int) -> Path:
    """Write a BEIR folder of numbered texts; query i's positive is document i."""
    (folder / "qrels").mkdir(parents=True)
    for name, kind, n in (("corpus", "document", documents), ("queries", "query", queries)):
        rows = [{"_id": f"{kind[0]}{i:06}", "title": "", "text": f"The {kind} of number {i}"} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f"q{i:06}\td{i % documents:06}\t1\n" for i in range(queries))
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + labels)
    return folder


def write_clusters(folder: Path, dataset: Any) -> None:
    """Write vectors: groups of clusters, clusters around a query's positives, documents around clusters, queries near."""
    from nv_retriever.embedding.shards import write_vectors

    rng = np.random.default_rng(0)
    rows, labels = dataset.query_rows("train"), dataset.positives("train")
    cluster = np.full(dataset.n_documents, -1, np.int64)
    known = dataset.positives()
    cluster[known.document_rows] = known.query_rows
    size = max(1, round(len(known.document_rows) / max(1, len(np.unique(known.query_rows)))))
    rest = np.flatnonzero(cluster < 0)
    cluster[rest] = dataset.n_queries + np.arange(len(rest)) // size
    centres = near(rng, noise(rng, -(-int(cluster.max() + 1) // 20))[np.arange(cluster.max() + 1) // 20], 0.35)
    documents = near(rng, centres[cluster], 0.7 if size > 1 else 0.0)
    first = labels.document_rows[np.searchsorted(labels.query_rows, rows)]
    queries = near(rng, documents[first], 1.0)
    for name, array in (("documents", documents), ("queries", queries)):
        write_vectors(folder / name, len(array), DIM, lambda a, b, array=array: array[a:b], {"score_kind": "cosine"})


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return near(rng, np.zeros((n, DIM), np.float32), 1.0)


def near(rng: np.random.Generator, centres: np.ndarray, distance: float) -> np.ndarray:
    """Return unit vectors around others."""
    rows = centres + np.float32(distance / DIM**0.5) * rng.standard_normal(centres.shape, dtype=np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


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


def faiss_alone(folder: Path, scratch: Path) -> tuple[Callable[[], None], Callable[[], int]]:
    import faiss

    from nv_retriever.embedding.shards import Vectors

    found: list[Any] = []

    def run() -> None:
        index = faiss.IndexFlatIP(DIM)
        for _, block in Vectors.open(folder / "documents").blocks(1 << 16):
            index.add(np.ascontiguousarray(block))
        for _, block in Vectors.open(folder / "queries").blocks(1 << 16):
            found.append(index.search(np.ascontiguousarray(block), DEPTH))

    return run, lambda: sum(indices.size for _, indices in found)


def texts_of(folder: Path) -> tuple[list[str], list[str], Any]:
    """Return queries' and documents' texts, different ones, and the labels."""
    from nv_retriever.data.dataset import Dataset

    dataset = Dataset.open(folder / "dataset")
    rows, labels = dataset.query_rows("train"), dataset.positives("train")
    queries, documents = dataset.query_texts(rows), dataset.document_texts()
    return queries, documents, (np.searchsorted(rows, labels.query_rows), labels.document_rows)


def sentence_transformers(folder: Path, scratch: Path, use_faiss: bool) -> tuple[Callable[[], None], Callable[[], int]]:
    """The peer's own function; a text's vector is that of the last row with this text."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from nv_retriever.embedding.shards import Vectors

    if use_faiss:
        import faiss  # noqa: F401

    class Given(SentenceTransformer):
        """A model that has all vectors already."""

        def __init__(self, tables: dict[str, tuple[dict[str, int], Path]]) -> None:
            super().__init__(modules=[torch.nn.Identity()], device="cpu", similarity_fn_name="cosine")
            self.tables = tables

        def get_embedding_dimension(self) -> int:
            return DIM

        def _given(self, kind: str, texts: list[str]) -> np.ndarray:
            rows, place = self.tables[kind]
            return Vectors.open(place).take([rows[text] for text in texts])

        def encode_query(self, sentences: Any, **_: Any) -> np.ndarray:
            return self._given("queries", sentences)

        def encode_document(self, sentences: Any, **_: Any) -> np.ndarray:
            return self._given("documents", sentences)

    queries, documents, (query_of, document_of) = texts_of(folder)
    rows = {
        "queries": {text: i for i, text in enumerate(queries)},
        "documents": {text: i for i, text in enumerate(documents)},
    }
    model = Given({name: (found, folder / name) for name, found in rows.items()})
    pairs = Dataset.from_dict({"anchor": [queries[i] for i in query_of], "positive": [documents[i] for i in document_of]})
    most = int(np.bincount(query_of).max())
    found: list[Any] = []

    def run() -> None:
        found.append(
            mine_hard_negatives(
                pairs, model, corpus=documents, range_max=DEPTH - most, relative_margin=1 - MARGIN,
                num_negatives=NEGATIVES, output_format="triplet", use_faiss=use_faiss, verbose=False,
            )
        )  # fmt: skip

    return run, lambda: len(found[0])


def hn_mine(folder: Path, scratch: Path) -> tuple[Callable[[], None], Callable[[], int]]:
    """What FlagEmbedding's scripts/hn_mine.py does once it has vectors."""
    import faiss

    from nv_retriever.embedding.shards import Vectors

    queries, documents, (query_of, document_of) = texts_of(folder)
    data: list[dict[str, Any]] = [{"query": text, "pos": []} for text in queries]
    for i, j in zip(query_of.tolist(), document_of.tolist(), strict=True):
        data[i]["pos"].append(documents[j])

    def run() -> None:
        index = faiss.IndexFlatIP(DIM)
        for _, block in Vectors.open(folder / "documents").blocks(1 << 16):
            index.add(np.ascontiguousarray(block))
        found: list[list[int]] = []
        for _, block in Vectors.open(folder / "queries").blocks(64):
            found.extend(index.search(np.ascontiguousarray(block), DEPTH)[1].tolist())
        for row, places in zip(data, found, strict=True):
            kept = [place for place in places if documents[place] not in row["pos"] and documents[place] != row["query"]]
            kept = random.sample(kept, NEGATIVES) if len(kept) > NEGATIVES else kept
            row["neg"] = [documents[place] for place in kept]
        with (scratch / "mined.jsonl").open("w") as file:
            for row in data:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    return run, lambda: sum(len(row["neg"]) for row in data)


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
