"""The NV-Retriever-v1 recipe on a tiny random Mistral: attention, pooling, LoRA, export, both stages, labelled sets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import make_mistral

from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.training.adapters import add_adapters, merge_adapters
from nv_retriever.training.blend import BlendSource, Task
from nv_retriever.training.build import write_student
from nv_retriever.training.config import LoraConfig, StudentConfig
from nv_retriever.training.labelled import class_samples, similarity_samples
from nv_retriever.training.labelled_source import labelled_samples
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
        encoder = open_student(
            StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), bidirectional=bidirectional)
        )
        a, b = first_states(encoder, "a question", "a questiox")
        first = int(
            encoder.tokenizer(["a question", "a question with padding beside it"], padding=True)["attention_mask"][0].index(
                1
            )
        )
        assert torch.equal(a[first], b[first]) == (not bidirectional)


def test_an_encoder_is_bidirectional_already_and_truncation_has_a_limit(bert: Path, mistral: Path) -> None:
    assert open_student(StudentConfig(encoder=EncoderConfig(model=str(bert)), bidirectional=True)) is not None
    student = open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), layers=1))
    assert student[0].auto_model.config.num_hidden_layers == len(student[0].auto_model.layers) == 1
    with pytest.raises(InputError, match="at most 2"):
        open_student(StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), layers=3))


def test_the_instruction_is_attended_to_but_not_pooled(mistral: Path, tmp_path: Path) -> None:
    config = StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), bidirectional=True, pool_prompt=False)
    write_student(tmp_path, config)
    encoder = open_model(tmp_path / "model")
    plain, prompted, other = (encoder.encode("a question", prompt=p) for p in (None, "find it: ", "say it: "))
    assert not np.allclose(plain, prompted, atol=1e-4) and not np.allclose(prompted, other, atol=1e-4)
    ids = encoder.tokenizer(["find it: a question"], return_tensors="pt")
    with torch.no_grad():
        states = encoder[0].auto_model(**ids).last_hidden_state[0]
    pooled = states[len("find it: ") + 1 :].mean(0).numpy()
    np.testing.assert_allclose(prompted, pooled / np.linalg.norm(pooled), atol=1e-5)


def test_merged_adapters_equal_unmerged_ones(mistral: Path) -> None:
    encoder = open_student(
        StudentConfig(encoder=EncoderConfig(model=str(mistral), pooling="mean"), bidirectional=True)
    ).eval()
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


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("classification", "a.jsonl", '{"text": null, "label": "x"}', r"a.jsonl line 1: expected a text that is not empty"),
        ("classification", "a.csv", "text,label\na,x\nb\n", r"a.csv line 3: expected 2 cells, found 1"),
        ("classification", "a.csv", "text,label\n ,x\n", r"a.csv line 2: expected a text that is not empty"),
        ("clustering", "a.jsonl", '{"text": ["a", "b"], "label": ["x"]}', r"a.jsonl line 1: expected lists of one length"),
        ("similarity", "a.csv", "first,second,score\na,b,nan\n", r"a.csv line 2: expected a number .* found 'nan'"),
    ],
)
def test_labelled_rows_that_mean_nothing_are_refused(
    tmp_path: Path, task: Task, name: str, content: str, message: str
) -> None:
    """What is missing would be the text "None", and a score that is no number a similar pair."""
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        labelled_samples(BlendSource(name="a", source=str(path), task=task), 1, seed=0)


def test_rows_of_the_hub_with_something_empty_are_skipped_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody can mend them."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "tweets").mkdir(parents=True)
    rows = [{"text": text, "label": label} for text, label in (("a", 0), ("b", 0), ("", 1), ("c", 1), ("d", 1))]
    (tmp_path / "mine" / "tweets" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = BlendSource(name="tweets", source="hf:mine/tweets", task="classification")
    samples = labelled_samples(source, 1, seed=0)
    assert {sample.query for sample in samples} == {"a", "b", "c", "d"}
    assert "hf:mine/tweets: 1 rows with something empty (skipped)" in caplog.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\nGrün,x\n".encode("latin-1")),
        ("a.jsonl.gz", b"no gzip"),
        ("a.parquet", b"PAR1 but no more"),
    ],
)
def test_labelled_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name):
        labelled_samples(BlendSource(name="a", source=str(path), task="classification"), 1, seed=0)
