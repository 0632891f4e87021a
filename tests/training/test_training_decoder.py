"""The NV-Retriever-v1 recipe on a tiny random Mistral: attention, pooling, LoRA, export, both stages, labelled sets."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import make_dataset, make_mistral

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.training.adapters import add_adapters, merge_adapters
from nv_retriever.training.build import Mined, write_blended_checkpoint, write_student
from nv_retriever.training.config import LoraConfig, StudentConfig
from nv_retriever.training.labelled import class_samples, similarity_samples, write_beir, write_labelled_mining
from nv_retriever.training.labelled_source import labelled_samples
from nv_retriever.training.nv_retriever_v1 import OTHER_TASKS, RETRIEVAL, BlendSource, nv_retriever_v1
from nv_retriever.training.student import open_model, open_student


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mistral(tmp_path_factory.mktemp("mistral") / "tiny")


def first_states(encoder: object, *texts: str) -> list[torch.Tensor]:
    model = encoder[0].auto_model.eval()  # type: ignore[index]
    found = []
    with torch.no_grad():
        for text in texts:
            features = encoder.tokenizer([text, text + " with padding beside it"], padding=True, return_tensors="pt")  # type: ignore[attr-defined]
            found.append(
                model(input_ids=features["input_ids"], attention_mask=features["attention_mask"]).last_hidden_state[0]
            )
    return found


def test_the_first_token_sees_the_last_one_only_in_a_bidirectional_student(mistral: Path) -> None:
    for bidirectional in (False, True):
        encoder = open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral)), bidirectional=bidirectional))
        a, b = first_states(encoder, "a question", "a questiox")
        first = int(
            encoder.tokenizer(["a question", "a question with padding beside it"], padding=True)["attention_mask"][0].index(
                1
            )
        )
        assert torch.equal(a[first], b[first]) == (not bidirectional)


def test_an_encoder_is_bidirectional_already_and_truncation_has_a_limit(bert: Path, mistral: Path) -> None:
    assert open_student(StudentConfig(encoder=EncoderConfig(model=str(bert)), bidirectional=True)) is not None
    student = open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral)), layers=1))
    assert student[0].auto_model.config.num_hidden_layers == len(student[0].auto_model.layers) == 1
    with pytest.raises(InputError, match="at most 2"):
        open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral)), layers=3))


def test_the_instruction_is_attended_to_but_not_pooled(mistral: Path, tmp_path: Path) -> None:
    config = StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), bidirectional=True, pool_prompt=False)
    write_student(tmp_path, config)
    encoder = open_model(tmp_path / "model")
    plain, prompted, other = (encoder.encode("a question", prompt=p) for p in (None, "find it: ", "say it: "))
    assert not np.allclose(plain, prompted, atol=1e-4) and not np.allclose(prompted, other, atol=1e-4)
    ids = encoder.tokenizer(["find it: a question"], return_tensors="pt")
    with torch.no_grad():
        states = encoder[0].auto_model(**ids).last_hidden_state[0]
    length = len("find it: ") + 1
    np.testing.assert_allclose(prompted, states[length:].mean(0).numpy(), atol=1e-5)


def test_merged_adapters_equal_unmerged_ones(mistral: Path) -> None:
    encoder = open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral)), bidirectional=True)).eval()
    add_adapters(encoder, LoraConfig(rank=4, alpha=8))
    trained = [p for p in encoder.parameters() if p.requires_grad]
    assert trained and sum(p.numel() for p in trained) < sum(p.numel() for p in encoder.parameters()) / 2
    for parameter in trained:
        torch.nn.init.normal_(parameter, std=0.2)
    before = encoder.encode(["one", "two words"])
    merge_adapters(encoder)
    np.testing.assert_allclose(encoder.encode(["one", "two words"]), before, atol=1e-5)


def test_class_and_similarity_samples_follow_the_rules() -> None:
    texts = [f"text {i}" for i in range(12)]
    labels = [str(i % 3) for i in range(12)]
    label = dict(zip(texts, labels, strict=True))
    samples = class_samples(texts, labels, 5, seed=1)
    assert len(samples) == 12
    for sample in samples:
        assert label[sample.positive] == label[sample.query] and sample.positive != sample.query
        assert len(set(sample.negatives)) == 5 and all(label[n] != label[sample.query] for n in sample.negatives)
    assert class_samples(texts[::-1], labels[::-1], 5, seed=1) == samples, "the order of the input does not matter"
    assert class_samples(texts, labels, 5, seed=2) != samples
    pairs = [("a", "b", 4.5), ("b", "c", 4.0), ("d", "e", 3.9), ("f", "g", 1.0)]
    found = similarity_samples(pairs, 3, seed=0)
    assert {(s.query, s.positive) for s in found} == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}
    assert all(not {"a", "b", "c"} & set(s.negatives) for s in found), "what is similar to either is no negative"


def test_the_recipe_lists_the_data_sets_of_the_paper() -> None:
    recipe = nv_retriever_v1()
    assert len(RETRIEVAL) == 15 and sum(source.samples or 0 for source in RETRIEVAL) == 728_160
    assert len(OTHER_TASKS) == 17 and len({source.name for source in recipe.sources}) == 32
    first, second = recipe.stages
    assert len(recipe.of(first)) == 15 and len(recipe.of(second)) == 32
    assert (first.training.batch_size, first.training.accumulation, first.training.negatives) == (32, 4, 1)
    assert (second.training.batch_size, second.training.accumulation, second.training.negatives) == (8, 16, 5)
    assert first.training.in_batch_negatives and not second.training.in_batch_negatives
    assert type(recipe).model_validate_json(recipe.model_dump_json()) == recipe


def test_both_stages_run_on_a_tiny_mistral_and_the_export_is_plain(
    animals: Dataset, mined: Path, mistral: Path, tmp_path: Path
) -> None:
    rows = [{"text": f"{word} number {i}", "label": word} for i in range(6) for word in ("good", "bad", "odd")]
    (tmp_path / "classes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    blend = BlendSource(
        name="classes", source=str(tmp_path / "classes.jsonl"), task="classification", instruction="Classify it"
    )
    recipe = nv_retriever_v1(str(mistral), (BlendSource(name="animals", source="animals"), blend))
    student = recipe.student.model_copy(update={"dtype": "float32"})
    write_student(tmp_path / "student", student)
    samples = labelled_samples(blend, 5, seed=0)
    write_beir(tmp_path / "beir", samples)
    labelled = make_dataset(tmp_path / "dataset", tmp_path / "beir")
    write_labelled_mining(tmp_path / "labels", labelled, samples, "labels")
    sources = {
        "animals": Mined(animals, "train", mined, query_prompt=recipe.sources[0].query_prompt),
        "classes": Mined(labelled, "train", tmp_path / "labels", query_prompt=blend.query_prompt),
    }
    model = tmp_path / "student" / "model"
    for stage in recipe.stages:
        training = stage.training.model_copy(
            update={"epochs": 2, "warmup_steps": 1, "learning_rate": 1e-2, "accumulation": 2, "batch_size": 4}
        )
        chosen = [sources[source.name] for source in recipe.of(stage)]
        info = write_blended_checkpoint(tmp_path / stage.name, chosen, model, training, 0, Runtime(device="cpu"))
        assert info["samples"] == (20 if stage.name == "retrieval" else 38) and info["base_model"] == str(mistral)
        model = tmp_path / stage.name / "model"
    program = (
        "import sys, json; from sentence_transformers import SentenceTransformer\n"
        "m = SentenceTransformer(sys.argv[1], device='cpu'); assert 'nv_retriever' not in sys.modules\n"
        "print(json.dumps(m.encode(['a question', 'a questiox'], prompt='find it: ').tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(model)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    ours = open_model(model).encode(["a question", "a questiox"], prompt="find it: ")
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), ours, atol=1e-6)
    assert json.loads((model / "config.json").read_text())["is_causal"] is False
    assert not list(model.rglob("adapter*")) and (model / "model.safetensors").exists()
