"""What the consumers' loaders make of an export, for consumers that are no dependency of this project.

Each function does what the loader named in its docstring does, without its code; benchmarks/export_loaders.py runs the
loaders themselves, from the consumers' published wheels.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset


def flagembedding_rows(path: Path, cache: Path, group_size: int, distillation: bool) -> list[dict[str, Any]]:
    """Passages and teacher scores a line (FlagEmbedding 1.4.2, abc/finetune/embedder/AbsDataset.py).

    It takes files named .json or .jsonl, alone or in a folder, loads them with the `datasets` library, drops the scores
    unless it distils, then draws a positive and group_size - 1 negatives, repeating them where there are too few.
    """
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix in (".json", ".jsonl")]
    rows = []
    for file in files:
        data = load_dataset("json", data_files=str(file), split="train", cache_dir=str(cache))
        assert not distillation or {"pos_scores", "neg_scores"} <= set(data.column_names)
        for line in data:
            assert isinstance(line["pos"], list)
            assert isinstance(line["neg"], list)
            positive = random.choice(range(len(line["pos"])))
            repeats = max(1, math.ceil((group_size - 1) / len(line["neg"])))
            drawn = random.sample(list(range(len(line["neg"]))) * repeats, group_size - 1)
            scores = None
            if distillation:
                scores = [line["pos_scores"][positive], *(line["neg_scores"][i] for i in drawn)]
                assert all(isinstance(score, int | float) for score in scores)
            passages = [line["pos"][positive], *(line["neg"][i] for i in drawn)]
            rows.append({"line": line, "query": line["query"], "passages": passages, "scores": scores})
    return rows


def tevatron_rows(path: Path, cache: Path, group_size: int, epoch: int = 0, seed: int = 42) -> list[dict[str, Any]]:
    """Query and passages a line (Tevatron, src/tevatron/retriever/dataset.py, TrainDataset.__getitem__).

    The text of a passage is its title, a space and its text where it has a title; too few negatives are drawn with
    replacement, else they are shuffled by a seed and read in a window that moves with the epoch.
    """
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))
    rows = []
    for item, group in enumerate(data):
        hashed = hash(item + seed)
        positive = group["positive_passages"][(hashed + epoch) % len(group["positive_passages"])]
        negatives, size = group["negative_passages"], group_size - 1
        if len(negatives) < size:
            chosen = random.choices(negatives, k=size)
        else:
            offset = epoch * size % len(negatives)
            shuffled = list(negatives)
            random.Random(hashed).shuffle(shuffled)
            chosen = (shuffled * 2)[offset : offset + size]
        passages = [p["title"] + " " + p["text"] if "title" in p else p["text"] for p in (positive, *chosen)]
        rows.append({"group": group, "query": group["query"], "passages": passages})
    return rows


def nemo_rows(path: Path, cache: Path, group_size: int) -> list[dict[str, Any]]:
    """Question and document texts an entry (nemo_automodel 0.7.0, components/datasets/llm/retrieval_dataset.py).

    load_datasets wants five fields, pos_doc not empty, and resolves the corpus's path against the file's folder;
    TextQADataset reads the folder with the `datasets` library; _transform_func takes the first positive and cycles through
    the negatives, of which there must be one.
    """
    with path.open() as file:
        loaded = json.load(file)
    corpora = {}
    for corpus in loaded["corpus"]:
        folder = path.parent / corpus["path"]
        metadata = json.loads((folder / "merlin_metadata.json").read_text())
        assert metadata["class"] == "TextQADataset"
        documents = load_dataset(str(folder), cache_dir=str(cache))["train"]
        places = {str(document): row for row, document in enumerate(documents["id"])}
        corpora[metadata["corpus_id"]] = (documents, places)
    plain = []
    for item in loaded["data"]:
        assert {"question_id", "question", "corpus_id", "pos_doc", "neg_doc"} <= set(item)
        assert item["pos_doc"]
        ids = {name: [{"id": str(document["id"])} for document in item[name]] for name in ("pos_doc", "neg_doc")}
        plain.append({name: item[name] for name in ("question_id", "question", "corpus_id")} | ids)
    rows = []
    for item, whole in zip(Dataset.from_list(plain), loaded["data"], strict=True):
        negatives = item["neg_doc"]
        assert negatives
        taken = [item["pos_doc"][0], *(negatives[i % len(negatives)] for i in range(group_size - 1))]
        documents, places = corpora[item["corpus_id"]]
        texts = [documents[places[document["id"]]]["text"] for document in taken]
        rows.append({"item": whole, "question": item["question"], "texts": texts})
    return rows
