"""Small BEIR folders for the tests of ingestion."""

import json
from pathlib import Path

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
DOCUMENTS = [
    ("d1", "Cats", "purr at night"),
    ("d2", "", "dogs bark"),
    ("d10", "Fish", "swim"),
    ("é", "Ünïcode", "Straße"),
    ("d3", "", "DOGS  bark"),
]
QUERIES = [("q1", "who purrs?"), ("q2", "who barks?"), ("q3", "who swims?"), ("q4", "Who  BARKS?"), ("q5", "nobody asks")]
LABELS = {
    "train": [("q1", "d1", 1), ("q2", "d2", 2), ("q4", "d3", 1)],
    "test": [("q3", "d10", 1), ("q3", "d1", 0), ("q1", "é", 0)],
}


def write_beir(folder: Path, documents=DOCUMENTS, queries=QUERIES, labels=LABELS, judged=()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"_id": i, "title": title, "text": text} for i, title, text in documents]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in queries))
    for sub, parts in (("qrels", labels), ("judged_nonrelevant", {"test": judged} if judged else {})):
        for split, pairs in parts.items():
            (folder / sub).mkdir(exist_ok=True)
            lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, pair)) for pair in pairs)]
            (folder / sub / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def ingest(source: Path | str, out: Path, **options: object) -> Dataset:
    write_dataset(out, DatasetConfig(source=str(source), **options))
    return Dataset.open(out)


def labelled(dataset: Dataset, split: str | None = None) -> set[tuple[str, str, int]]:
    qrels = dataset.qrels(split)
    rows = zip(qrels.query_rows, qrels.document_rows, qrels.grades, strict=True)
    return {(dataset.query_ids[q], dataset.document_ids[d], int(g)) for q, d, g in rows}
