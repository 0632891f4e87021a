"""Small data sets on disk for the tests of search."""

import json

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset


def dataset_of(folder, documents, queries, qrels, **config) -> Dataset:
    """`documents` {id: (title, text)}, `queries` {id: text}, `qrels` {split: [(query, document, grade)]}.

    Queries of several splits stay in all of them, unlike by default: search has to exclude what every split knows.
    """
    source = folder / "source"
    (source / "qrels").mkdir(parents=True)
    rows = [{"_id": key, "title": title, "text": text} for key, (title, text) in documents.items()]
    (source / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": key, "text": text} for key, text in queries.items()]
    (source / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, labels in qrels.items():
        lines = ["query-id\tcorpus-id\tscore"] + ["\t".join(map(str, label)) for label in labels]
        (source / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "dataset").mkdir()
    write_dataset(folder / "dataset", DatasetConfig(source=str(source), **{"on_leak": "keep", **config}))
    return Dataset.open(folder / "dataset")
