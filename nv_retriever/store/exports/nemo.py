"""NeMo Automodel's retrieval data: a corpus folder, and one JSON file of questions with pos_doc and neg_doc ids and scores.

Its loader (nemo_automodel 0.7.0, components/datasets/llm/retrieval_dataset.py) reads merlin_metadata.json and the corpus's
Parquet, resolves the corpus's path against the JSON file's folder, and fails on a question without negatives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from nv_retriever.store.exports.format import Format, ParquetRows, Written
from nv_retriever.store.exports.source import Sample, Source

CORPUS = pa.schema([("id", pa.string()), ("text", pa.string())])
CORPUS_BLOCK = 4096


def write(source: Source, folder: Path) -> Written:
    """Write corpus/ (all documents) and train.json, an entry a sample; ASCII only, as the loader opens it in any locale."""
    corpus_id = source.dataset.name
    _write_corpus(source, folder / "corpus", corpus_id)
    written = Written()
    with (folder / "train.json").open("w", encoding="ascii") as file:
        file.write('{"corpus": [{"path": "corpus"}],\n')
        file.write(f'"mining": {json.dumps({"args": source.artifact.run}, allow_nan=False)},\n"data": [')
        for sample in source.samples():
            file.write(("\n" if not written.rows else ",\n") + json.dumps(_entry(sample, corpus_id), allow_nan=False))
            written.rows += 1
        file.write("\n]}\n")
    return written


def _write_corpus(source: Source, folder: Path, corpus_id: str) -> None:
    folder.mkdir()
    metadata = {"class": "TextQADataset", "corpus_id": corpus_id}
    (folder / "merlin_metadata.json").write_text(json.dumps(metadata), encoding="ascii")
    ids = source.dataset.document_ids
    with ParquetRows(folder / "train.parquet", CORPUS) as corpus:
        for start, texts in source.dataset.iter_document_texts(CORPUS_BLOCK):
            for row, text in enumerate(texts, start):
                corpus.append({"id": str(ids[row]), "text": text})


def _entry(sample: Sample, corpus_id: str) -> dict[str, Any]:
    return {
        "question_id": sample.query_id,
        "question": sample.query,
        "corpus_id": corpus_id,
        "pos_doc": [{"id": sample.positive_id, "score": sample.positive_score}],
        "neg_doc": [
            {"id": negative.id, "score": negative.score, "teacher": negative.teacher, "rank": negative.rank}
            for negative in sample.negatives
        ],
    }


FORMAT = Format(
    name="nemo",
    main="train.json",
    write=write,
    usage="`data_dir_list: {path}/train.json` of NeMo Automodel's retrieval recipes (`make_retrieval_dataset`).",
)
