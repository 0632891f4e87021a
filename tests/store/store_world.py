"""Small hand-written artifacts, as docs/architecture.md defines them, in a home folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.dataset import Dataset

ODD_IDS = [
    "it's",
    'say "hi"',
    "tab\there",
    "comma,id",
    "(paren)",
    "back\\slash",
    "line\nbreak",
    "separator\u2028id",
    "two words",
    "'; drop table triples; --",
    "{text} %s $1",
    "ünï-日本-😀",
    "2024-02-30",
    "007",
    "null",
]
TRIPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "query_id", "positive_id", "negative_id")),
        ("position", pa.int32()),
        ("teacher", pa.string()),
        ("rank", pa.int64()),
        ("positive_score", pa.float32()),
        ("negative_score", pa.float32()),
        ("score_kind", pa.string()),
        ("limit_score", pa.float32()),
        ("reason", pa.string()),
    ]
)
SHORTFALL = pa.schema(
    [
        *((name, pa.string()) for name in ("query_id", "positive_id")),
        *((name, pa.int64()) for name in ("wanted", "found", "depth")),
        ("reason", pa.string()),
    ]
)
VERDICTS = pa.schema(
    [
        *((name, pa.string()) for name in ("query_id", "positive_id", "document_id", "judge", "verdict")),
        ("score", pa.float32()),
    ]
)


@dataclass
class Mined:
    """A sample as a test writes it: negatives are document ids, or rows of triples.parquet that overwrite the defaults."""

    query_id: str
    positive_id: str
    negatives: list[str | dict[str, Any]] = field(default_factory=list)


def write_mining(folder: Path, samples: list[Mined], /, run_id: str = "0123456789abcdef", **run: Any) -> Path:
    """Write run.json, triples.parquet and shortfall.parquet; samples without negatives are in the shortfall only."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = sorted(samples, key=lambda sample: (sample.query_id, sample.positive_id))
    rows = [row for sample in samples for row in _rows(sample, run_id)]
    short = [
        {"query_id": s.query_id, "positive_id": s.positive_id, "wanted": 4, "found": 0, "depth": 10, "reason": "exhausted"}
        for s in samples
        if not s.negatives
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRIPLES), folder / "triples.parquet")
    pq.write_table(pa.Table.from_pylist(short, schema=SHORTFALL), folder / "shortfall.parquet")
    described = {
        "run_id": run_id,
        "created_at": "2026-01-02T03:04:05Z",
        "dataset": "odd",
        "split": "train",
        "rule": "topk-percpos(0.95)",
        "selection": "top(4)",
        "anchor": "each",
        "ensemble": "none",
        "teachers": ["all-MiniLM-L6-v2"],
        "seed": 7,
        "config": {"rule": "topk-percpos(0.95)"},
        "samples": len(samples),
        "queries": len({sample.query_id for sample in samples}),
        "triples": len(rows),
        "short": len(short),
    }
    described.update(run)
    (folder / "run.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


def _rows(sample: Mined, run_id: str) -> list[dict[str, Any]]:
    rows = []
    for position, negative in enumerate(sample.negatives):
        row = {
            "run_id": run_id,
            "query_id": sample.query_id,
            "positive_id": sample.positive_id,
            "position": position,
            "teacher": "all-MiniLM-L6-v2",
            "rank": position + 1,
            "positive_score": 0.8,
            "negative_score": 0.7 - 0.01 * position,
            "score_kind": "cosine",
            "limit_score": 0.76,
            "reason": "kept",
        }
        rows.append({**row, **(negative if isinstance(negative, dict) else {"negative_id": negative})})
    return rows


def write_dataset(
    folder: Path, documents: dict[str, tuple[str, str]], queries: dict[str, str], name: str = "odd"
) -> Dataset:
    """Write a data set's artifact by hand, so that ids may hold what no input format lets through; open it."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = sorted(documents)
    corpus = {"doc_id": ids, "title": [documents[i][0] for i in ids], "text": [documents[i][1] for i in ids]}
    pq.write_table(pa.table(corpus, schema=pa.schema([(name, pa.string()) for name in corpus])), folder / "corpus.parquet")
    asked = {"query_id": sorted(queries), "text": [queries[i] for i in sorted(queries)]}
    pq.write_table(pa.table(asked, schema=pa.schema([(name, pa.string()) for name in asked])), folder / "queries.parquet")
    info = {
        "name": "odd",
        "documents": len(ids),
        "queries": len(queries),
        "min_grade": 1,
        "splits": {"train": len(queries)},
        "template": "{title} {text}",
    }
    (folder / "dataset.json").write_text(json.dumps(info), encoding="utf-8")
    return Dataset.open(folder)


def odd_world(home: Path) -> tuple[Path, Dataset, list[Mined]]:
    """Return a mining artifact (odd ids, repeats, several positives, unequal sizes), its data set, its samples."""
    documents = {i: ("" if n % 2 else f"Title {n}", f'text of\n"{i}"') for n, i in enumerate(ODD_IDS)}
    queries = {i: f"query of {i}" for i in ODD_IDS}
    a, b, c, d, e, *rest = ODD_IDS
    samples = [
        Mined(a, b, [c, d, e]),
        Mined(a, e, [c, d]),
        Mined(b, a, [c, c, {"negative_id": d, "limit_score": None}]),
        Mined(c, a, []),
        Mined(d, a, [{"negative_id": rest[3], "limit_score": None, "reason": "random", "rank": None}]),
        *(Mined(i, a, [b, c, d]) for i in rest),
    ]
    dataset = write_dataset(home / "artifacts" / "dataset" / "d0", documents, queries)
    mining = write_mining(home / "artifacts" / "mining" / "m0", samples, dataset_artifact="dataset/d0")
    return mining, dataset, samples


def spawn(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that runs `code` with sys.argv[1:] = arguments; it talks over stdin and stdout."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def expect_line(process: subprocess.Popen[str], line: str) -> None:
    """Wait until the process says `line`."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line
