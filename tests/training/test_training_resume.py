import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training_data import run_training

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.config import EarlyStoppingConfig, LoraConfig, TrainingConfig
from nv_retriever.training.development import EarlyStopping
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
    expected = run_training(whole, animals, mined, bert, config, RUNTIME)
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
    info = run_training(killed, animals, mined, bert, config, RUNTIME, lambda step, _: steps.append(step))
    first, second = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all((first[key] == second[key]).all() for key in first), "exactly the same weights"
    assert (whole / "log.jsonl").read_text() == (killed / "log.jsonl").read_text()
    assert sorted(set(steps)) == list(range(1, expected["steps"] + 1)), "the lines from before the kill are told again"
    assert {**info, "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert not (killed / "steps").exists()
    again = run_training(killed, animals, mined, bert, config, RUNTIME)
    assert again == info and json.loads((killed / "training.json").read_text()) == info


def test_a_training_killed_after_its_early_stop_does_not_train_on(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"epochs": 9, "batch_size": 4, "save_every": 2, "log_every": 1, "learning_rate": 1e-12}  # no better score
    config = TrainingConfig(**steps, early_stopping=EarlyStoppingConfig(every=2, patience=1))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = run_training(whole, animals, mined, bert, config, RUNTIME)
    assert (expected["steps"], expected["best_step"]) == (4, 2)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "_export", die)
        run_training(killed, animals, mined, bert, config, RUNTIME)
    info = run_training(killed, animals, mined, bert, config, RUNTIME)
    assert {**info, "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert (whole / "log.jsonl").read_text() == (killed / "log.jsonl").read_text()
    first, second = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert all((first[key] == second[key]).all() for key in first)


def test_a_best_that_is_not_found_again_after_a_kill_leaves_the_one_before_it(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"epochs": 9, "max_steps": 6, "batch_size": 4, "save_every": 3, "learning_rate": 1e-3}
    config = TrainingConfig(**steps, early_stopping=EarlyStoppingConfig(every=1, patience=9))
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def train(folder: Path, *scores: float) -> Any:
        """Train with these scores for its next steps; it is killed where they end."""
        remaining = iter(scores)
        monkeypatch.setattr(EarlyStopping, "measure", lambda *_: next(remaining))
        return run_training(folder, animals, mined, bert, config, RUNTIME)

    expected = train(whole, 0.1, 0.5, 0.2, 0.4, 0.3, 0.3)
    with pytest.raises(StopIteration):
        train(killed, 0.1, 0.5, 0.2, 0.6)
    assert {path.name for path in (killed / "steps").glob("best-*")} == {"best-2.safetensors", "best-4.safetensors"}
    info = train(killed, 0.4, 0.3, 0.3)  # a GPU gives other last bits
    assert {**info, "train_seconds": 0} == {**expected, "train_seconds": 0} and info["best_step"] == 2
    first, second = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert all((first[key] == second[key]).all() for key in first)
