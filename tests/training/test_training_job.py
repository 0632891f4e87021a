"""A training job goes to other processes as JSON, and comes back the same."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nv_retriever import progress
from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.training import job as job_module
from nv_retriever.training.build import run_training_job
from nv_retriever.training.config import EarlyStoppingConfig, TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob, development_source
from nv_retriever.training.labelled import class_samples, write_labelled


def test_a_job_survives_json(animals: Dataset, tmp_path: Path) -> None:
    sources = [
        Mined(animals, "train", tmp_path / "a"),
        Mined(animals, "train", tmp_path / "b", "find: ", "", False, 7, (tmp_path / "documents", tmp_path / "queries")),
    ]
    job = TrainingJob(sources, tmp_path / "model", TrainingConfig(epochs=2), 3, Runtime(workers=1))
    back = TrainingJob.from_json(json.loads(json.dumps(job.as_json())))
    assert [source.dataset.folder for source in back.sources] == [animals.folder, animals.folder]
    assert replace(back, sources=[replace(source, dataset=animals) for source in back.sources]) == job


@pytest.mark.parametrize(
    ("settings", "device", "message"),
    [
        ({}, "cuda", "a GPU that torch can use"),
        ({"strategy": "fsdp"}, "cpu", "fsdp with one process"),
        ({"strategy": "fsdp", "processes": 2}, "cpu", "fsdp on a CPU"),
        ({"precision": "bf16"}, "cpu", "training.precision: expected a processor or GPU that multiplies bf16, found none"),
        ({"query_max_length": 129}, "cpu", r"query_max_length: expected at most the student's 128 positions, found 129"),
        ({"document_max_length": 600}, "cpu", "128 positions, found 600"),
        ({"early_stopping": {"split": "nowhere"}}, "cpu", "a source with a split 'nowhere'"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_the_start(
    animals: Dataset,
    mined: Path,
    bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    device: str,
    message: str,
) -> None:
    monkeypatch.setattr(job_module, "fast_bf16", lambda _: False)  # the hardware is asked, and answers differently
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    config = TrainingConfig.model_validate(settings)
    job = TrainingJob([Mined(animals, "train", mined)], bert, config, 0, Runtime(device=device, workers=1))
    with pytest.raises(InputError, match=message):
        run_training_job(tmp_path / "out", job)
    assert not (tmp_path / "out" / "steps").exists()


def test_every_process_needs_a_gpu_of_its_own(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the hardware is asked, and answers differently
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    job = TrainingJob([Mined(animals, "train", mined)], bert, TrainingConfig(processes=3), 0, Runtime())
    with pytest.raises(InputError, match=r"training\.processes: expected at most 2, the GPUs here, found 3"):
        run_training_job(tmp_path / "out", job)


def test_early_stopping_measures_a_retrieval_source(animals: Dataset, mined: Path, bert: Path, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(12)]
    write_labelled(tmp_path / "classes", class_samples(texts, [str(i % 2) for i in range(12)], 3, 0), "classes")
    classes = Dataset.open(tmp_path / "classes" / "dataset")
    labelled = Mined(classes, "train", tmp_path / "classes", in_batch_negatives=False)
    sources = [labelled, Mined(animals, "train", mined)]
    assert development_source(sources, "train") is sources[1]
    config = TrainingConfig(batch_size=4, max_steps=2, early_stopping=EarlyStoppingConfig(every=1, split="test"))
    info = run_training_job(tmp_path / "out", TrainingJob(sources, bert, config, 0, Runtime(device="cpu", workers=1)))
    assert 0 <= info["development"] <= 1


def test_a_prompt_that_leaves_no_room_for_the_text_is_refused(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path
) -> None:
    """All queries would be the same tokens."""
    config, prompt = TrainingConfig(max_steps=1, query_max_length=8), "Given a question, retrieve passages that answer it: "
    job = TrainingJob([Mined(animals, "train", mined, prompt)], bert, config, 0, Runtime(device="cpu", workers=1))
    with pytest.raises(InputError, match=r"query_max_length: .* more than the 12 tokens of the prompt .* found 8"):
        run_training_job(tmp_path / "out", job)


def test_a_training_that_diverges_says_so_and_saves_no_checkpoint(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path
) -> None:
    settings = {"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0, "save_every": 4}
    config = TrainingConfig(max_steps=9, epochs=99, batch_size=4, **settings)
    job = TrainingJob([Mined(animals, "train", mined)], bert, config, 0, Runtime(device="cpu", workers=1))
    with pytest.raises(InputError, match=r"expected a finite loss, found nan up to step 4; lower training.learning_rate"):
        run_training_job(tmp_path / "out", job)
    assert not list((tmp_path / "out" / "steps").glob("checkpoint-*"))


def test_a_training_shows_its_steps_from_the_checkpoint_on(
    animals: Dataset,
    mined: Path,
    bert: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "nv_retriever.progress")
    config = TrainingConfig(max_steps=4, epochs=99, batch_size=4, save_every=2)
    job = TrainingJob([Mined(animals, "train", mined)], bert, config, 0, Runtime(device="cpu", workers=1))

    def stop(step: int, _: object) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training_job(tmp_path / "out", job, stop)
    first = ["train: 1 of 4 steps 25 %", "train: 2 of 4 steps 50 %", "train: 3 of 4 steps 75 %", "train: 4 of 4 steps 100 %"]
    run_training_job(tmp_path / "out", job)
    shown = [record.getMessage() for record in caplog.records if record.name == "nv_retriever.progress"]
    assert [line.rsplit(",", 1)[0] for line in shown] == first + first[2:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"accumulation": 9, "batch_size": 4},
            r"training\.accumulation: expected at most \d, the batches of 1 epochs, found 9",
        ),
        ({"warmup_steps": 4, "max_steps": 3}, r"training\.warmup_steps: expected at most \d, the steps, found 4"),
    ],
)
def test_steps_that_the_samples_are_too_few_for(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, settings: dict[str, int], message: str
) -> None:
    config = TrainingConfig.model_validate(settings)
    with pytest.raises(InputError, match=message):
        run_training_job(tmp_path, TrainingJob([Mined(animals, "train", mined)], bert, config, 0, Runtime(device="cpu")))


def test_the_card_says_what_the_student_is(animals: Dataset, mined: Path, bert: Path, tmp_path: Path) -> None:
    config = TrainingConfig(max_steps=1, batch_size=4)
    source = Mined(animals, "train", mined, query_prompt="find: ")
    run_training_job(tmp_path, TrainingJob([source], bert, config, 0, Runtime(device="cpu", workers=1)))
    card = (tmp_path / "model" / "README.md").read_text()
    recipe = json.loads(card.split("```json\n")[1].split("```")[0])
    own = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())["prompts"]
    layers = json.loads((tmp_path / "model" / "config.json").read_text())["num_hidden_layers"]
    assert recipe["student"] == {"layers": layers, "prompts": own} and f"| layers | {layers} |" in card
    assert recipe["mining"][0]["query_prompt"] == "find: "
