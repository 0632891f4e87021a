import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradient_worker import step
from safetensors.torch import load_file
from training_data import make_mining

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.build import Mined
from nv_retriever.training.config import EarlyStoppingConfig, LaunchConfig, TrainingConfig
from nv_retriever.training.launch import launch_checkpoint

HERE = Path(__file__).parent


def test_two_processes_give_the_gradient_of_one_with_the_joined_batch(animals: Dataset, bert: Path, tmp_path: Path) -> None:
    """Seven samples (four and three), ragged negatives, shared passages, negatives gathered across ranks."""
    mining = make_mining(tmp_path / "mining", animals, ragged=True)
    root = str(HERE.parents[1])
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    arguments = [str(animals.folder), str(mining), str(bert), str(tmp_path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "gradient_worker.py"), *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for cached in (False, True):
        single = step(animals, mining, bert, tmp_path / "single", cached, 0, 1)
        joined = load_file(tmp_path / f"cached-{cached}.safetensors")
        assert joined.keys() == single.keys()
        for name, gradient in single.items():
            torch.testing.assert_close(joined[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_training_in_two_processes(animals: Dataset, mined: Path, bert: Path, tmp_path: Path, strategy: str) -> None:
    lines: list[tuple[int, dict[str, float]]] = []
    stopping = EarlyStoppingConfig(every=2) if strategy == "ddp" else None
    config = TrainingConfig(epochs=2, batch_size=4, log_every=1, save_every=2, learning_rate=1e-3, early_stopping=stopping)
    launch = LaunchConfig(processes=2, strategy=strategy)
    source = Mined(animals, "train", mined)
    info = launch_checkpoint(
        tmp_path / "out",
        [source],
        bert,
        config,
        0,
        Runtime(device="cpu", workers=1),
        launch,
        lambda *line: lines.append(line),
    )
    assert info["processes"] == 2 and info["steps"] == 6
    assert [step for step, values in lines if "loss" in values] == [1, 2, 3, 4, 5, 6]
    assert lines[-1][1] and json.loads((tmp_path / "out" / "training.json").read_text()) == info
    before, after = (load_file(folder / "model.safetensors") for folder in (bert, tmp_path / "out" / "model"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert not (tmp_path / "out" / "steps").exists()
