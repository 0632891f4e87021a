import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.build import write_checkpoint
from nv_retriever.training.config import EarlyStoppingConfig, LoraConfig, TrainingConfig
from nv_retriever.training.run import Run
from nv_retriever.training.trainer import COMPLETE

HERE = Path(__file__).parent
RUNTIME = Runtime(device="cpu", workers=1)
CONFIGS = {
    "dropout and early stopping": {"dropout": 0.3, "early_stopping": EarlyStoppingConfig(every=2, patience=9)},
    "adapters, accumulation, cached gradients": {
        "lora": LoraConfig(rank=2, alpha=4, dropout=0.1),
        "accumulation": 2,
        "gradient_caching": True,
    },
    "adapters, recomputed activations": {
        "lora": LoraConfig(rank=2, alpha=4, dropout=0.1),
        "gradient_checkpointing": True,
        "dropout": 0.2,
    },
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, name: str
) -> None:
    config = TrainingConfig(
        epochs=4, batch_size=4, learning_rate=1e-3, save_every=3, log_every=1, learn_temperature=True, **CONFIGS[name]
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = write_checkpoint(whole, animals, "train", mined, bert, config, 0, RUNTIME)
    arguments = [str(killed), str(animals.folder), str(mined), str(bert), config.model_dump_json(), "8"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    died = subprocess.run(
        [sys.executable, str(HERE / "killed_training.py"), *arguments], env=environment, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    checkpoints = {path.name: path for path in (killed / "steps").glob("checkpoint-*")}
    assert (checkpoints["checkpoint-6"] / COMPLETE).exists() and not (killed / "model").exists()
    (killed / "steps" / "checkpoint-7").mkdir()
    (killed / "steps" / "checkpoint-7" / "trainer_state.json").write_text("{")  # killed while it was written

    steps: list[int] = []
    info = write_checkpoint(killed, animals, "train", mined, bert, config, 0, RUNTIME, lambda step, _: steps.append(step))
    first, second = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all((first[key] == second[key]).all() for key in first), "exactly the same weights"
    assert (whole / "log.jsonl").read_text() == (killed / "log.jsonl").read_text()
    assert sorted(set(steps)) == list(range(1, expected["steps"] + 1)), "the lines from before the kill are told again"
    assert {**info, "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert not (killed / "steps").exists()
    again = write_checkpoint(killed, animals, "train", mined, bert, config, 0, RUNTIME)
    assert again == info and json.loads((killed / "training.json").read_text()) == info


def test_a_training_killed_after_its_early_stop_does_not_train_on(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"epochs": 9, "batch_size": 4, "save_every": 2, "log_every": 1, "learning_rate": 1e-12}  # no better score
    config = TrainingConfig(**steps, early_stopping=EarlyStoppingConfig(every=2, patience=1))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = write_checkpoint(whole, animals, "train", mined, bert, config, 0, RUNTIME)
    assert (expected["steps"], expected["best_step"]) == (4, 2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_export", die)
        write_checkpoint(killed, animals, "train", mined, bert, config, 0, RUNTIME)
    info = write_checkpoint(killed, animals, "train", mined, bert, config, 0, RUNTIME)
    assert {**info, "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert (whole / "log.jsonl").read_text() == (killed / "log.jsonl").read_text()
    first, second = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert all((first[key] == second[key]).all() for key in first)
