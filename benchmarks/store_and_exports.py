"""Seconds (wall, CPU) and peak memory of filling the database and of every export.

    python benchmarks/store_and_exports.py [--triples 200000] [--documents 100000]

Each measurement runs in its own process, best of three; documents are of 600 characters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import peak_mb

NEGATIVES = 4
CODE = """
import sys
from benchmarks.store_and_exports import measure; measure(*sys.argv[1:])
"""


def write_world(home: Path, triples: int, documents: int) -> None:
    """Write a data set and a mining artifact of that size."""
    dataset, mining = home / "artifacts" / "dataset" / "d", home / "artifacts" / "mining" / "m"
    dataset.mkdir(parents=True)
    mining.mkdir(parents=True)
    generator = np.random.default_rng(0)
    words = [f"word{i}" for i in range(5000)]
    ids = [f"d{i:08d}" for i in range(documents)]
    texts = [" ".join(words[j] for j in generator.integers(0, 5000, 70)) for _ in ids]
    corpus = pa.table({"doc_id": ids, "title": [""] * documents, "text": texts})
    pq.write_table(corpus, dataset / "corpus.parquet", row_group_size=8192)
    samples = triples // NEGATIVES
    queries = [f"q{i:08d}" for i in range(samples)]
    pq.write_table(pa.table({"query_id": queries, "text": [f"question {q}" for q in queries]}), dataset / "queries.parquet")
    described = {
        "name": "bench",
        "documents": documents,
        "queries": samples,
        "min_grade": 1,
        "splits": {},
        "template": "{text}",
    }
    (dataset / "dataset.json").write_text(json.dumps({**described, "template": "{text}"}))
    rows = np.arange(triples)
    table = {
        "run_id": ["0" * 16] * triples,
        "query_id": [queries[i] for i in rows // NEGATIVES],
        "positive_id": [ids[i] for i in rows // NEGATIVES % documents],
        "negative_id": [ids[i] for i in generator.integers(0, documents, triples)],
        "position": pa.array(rows % NEGATIVES, pa.int32()),
        "teacher": ["all-MiniLM-L6-v2"] * triples,
        "rank": pa.array(rows % NEGATIVES + 1, pa.int64()),
        "positive_score": pa.array(generator.random(triples), pa.float32()),
        "negative_score": pa.array(generator.random(triples), pa.float32()),
        "score_kind": ["cosine"] * triples,
        "limit_score": pa.array(generator.random(triples), pa.float32()),
        "reason": ["kept"] * triples,
    }
    pq.write_table(pa.table(table), mining / "triples.parquet")
    run = {"run_id": "0" * 16, "rule": "topk", "triples": triples, "dataset_artifact": "dataset/d", "queries": samples}
    (mining / "run.json").write_text(json.dumps(run))


def measure(what: str, home_path: str) -> None:
    """Do one thing in this process; print its seconds and what it added to the peak memory, in MiB."""
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.store.database import TripleStore
    from nv_retriever.store.exports.export import export

    home = Path(home_path)
    mining, store = home / "artifacts" / "mining" / "m", TripleStore(home / "triples.duckdb")
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    if what == "add":
        store.path.unlink(missing_ok=True)
        store.add(mining)
    elif what == "add again":
        store.add(mining)
    elif what == "group by rule":
        with store.read() as connection:
            connection.sql("select rule, count(*) from triples join mining_runs using (run_id) group by 1").fetchall()
    else:
        export(what, mining, Dataset.open(home / "artifacts" / "dataset" / "d"), home / "out" / what)
    print(json.dumps([time.perf_counter() - started, time.process_time() - cpu, peak_mb() - before]))


def main() -> None:
    from nv_retriever.store.exports.export import FORMATS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triples", type=int, default=200_000)
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        write_world(Path(home), arguments.triples, arguments.documents)
        print(f"| {arguments.triples} triples, {arguments.documents} documents | s | CPU s | MiB |\n|---|---|---|---|")
        for what in ("add", "add again", "group by rule", *FORMATS):
            command = [sys.executable, "-c", CODE, what, home]
            runs = [json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout) for _ in range(3)]
            seconds, cpu, _ = map(min, zip(*runs, strict=True))
            print(f"| {what} | {seconds:.2f} | {cpu:.2f} | {max(run[2] for run in runs):.0f} |", flush=True)


if __name__ == "__main__":
    main()
