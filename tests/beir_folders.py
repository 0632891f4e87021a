"""Small data sets that a test writes down, as BEIR folders and ingested."""

import json
from pathlib import Path

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset


def write_beir(folder, documents, queries, qrels):
    """documents {id: text or (title, text)}, queries {id: text}, qrels {split: [(query, document, grade)]}."""
    (folder / "qrels").mkdir(parents=True)
    pairs = {key: value if isinstance(value, tuple) else ("", value) for key, value in documents.items()}
    lines = [json.dumps({"_id": key, "title": title, "text": text}) for key, (title, text) in pairs.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": k, "text": t}) + "\n" for k, t in queries.items()))
    for split, rows in qrels.items():
        body = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in rows)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + body)


def ingest(folder, documents, queries, qrels, **config) -> Dataset:
    source, target = Path(folder) / "beir", Path(folder) / "dataset"
    write_beir(source, documents, queries, qrels)
    target.mkdir()
    write_dataset(target, DatasetConfig(source=str(source), **config))
    return Dataset.open(target)
