"""The peers in the benchmark of mining, each as (what is timed, how many rows it made)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mining_world import DIM

DEPTH, NEGATIVES, MARGIN = 112, 10, 0.95


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
