import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from gradient_worker import step
from safetensors.torch import load_file
from sharded_worker import shard_over_cpus
from training_data import make_mining, run_training

from nv_retriever import progress
from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.training import launch
from nv_retriever.training.config import EarlyStoppingConfig, LoraConfig, NodesConfig, TrainingConfig
from nv_retriever.training.job import Mined, TrainingJob

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


@pytest.fixture
def sharded_over_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    shard_over_cpus(monkeypatch.setattr)


@pytest.mark.usefixtures("sharded_over_cpus")
def test_shards_are_trained_as_whole_models_are(animals: Dataset, bert: Path, tmp_path: Path) -> None:
    """The two processes have 5 and 4 micro-batches in the first step: all of them gather a layer's weights equally often."""
    mining, runtime = make_mining(tmp_path / "mining", animals, ragged=True), Runtime(device="cpu", workers=1)
    steps = {"max_steps": 2, "log_every": 1, "save_every": 9, "learning_rate": 1e-3, "micro_batch_tokens": 64}
    settings = {**steps, "precision": "fp32", "dropout": 0.0}
    run_training(tmp_path / "whole", animals, mining, bert, TrainingConfig(**settings, batch_size=8), runtime)
    whole = logged(tmp_path / "whole")
    for cached in (False, True):
        config = TrainingConfig(**settings, batch_size=4, processes=2, strategy="fsdp", gradient_caching=cached)
        out = tmp_path / f"cached-{cached}"
        check_trained(out, run_training(out, animals, mining, bert, config, runtime), bert, 2)
        sharded = logged(out)
        for name in ("loss", "grad_norm"):
            assert [line[name] for line in sharded] == pytest.approx([line[name] for line in whole], rel=1e-4, abs=1e-4)


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def check_trained(out: Path, info: dict[str, Any], bert: Path, steps: int) -> None:
    """The weights of all layers are there, and some moved; nothing is left of the processes."""
    assert info["processes"] == 2 and info["steps"] == steps
    assert json.loads((out / "training.json").read_text()) == info
    before, after = (load_file(folder / "model.safetensors") for folder in (bert, out / "model"))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert {path.name for path in out.iterdir()} == {"log.jsonl", "model", "training.json"}


def test_a_wrong_input_that_a_process_finds_is_told_in_one_line(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path
) -> None:
    """A learning rate with which the loss diverges is found out by the processes only."""
    steps = {"max_steps": 5, "batch_size": 4, "learning_rate": 1e30, "max_grad_norm": 0, "warmup_steps": 0, "log_every": 1}
    config, runtime = TrainingConfig(**steps, processes=2), Runtime(device="cpu", workers=1)
    with pytest.raises(InputError, match=r"^training: expected a finite loss, found nan up to step \d; lower"):
        run_training(tmp_path / "out", animals, mined, bert, config, runtime)


STEPS = {"max_steps": 24, "epochs": 99, "batch_size": 4, "learning_rate": 1e-3, "save_every": 3, "log_every": 1}


def test_a_training_whose_starter_was_killed_leaves_no_process_behind_and_goes_on(
    animals: Dataset,
    mined: Path,
    bert: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {"lora": LoraConfig(rank=2, dropout=0.1), "gradient_checkpointing": True, "dropout": 0.2, "processes": 2}
    stopping = EarlyStoppingConfig(every=3, patience=9)
    config = TrainingConfig(**{**STEPS, "max_steps": 12}, **own, early_stopping=stopping)
    killed = tmp_path / "killed"
    arguments = [str(killed), str(animals.folder), str(mined), str(bert), config.model_dump_json(), "4"]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(HERE / "killed_training.py"), *arguments]
    died = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    deadline = time.monotonic() + 300
    while workers_of(killed):
        assert time.monotonic() < deadline, "the processes outlive the one that started them"
        time.sleep(0.05)
    assert list((killed / "steps").glob("checkpoint-*")) and not (killed / "model").exists()
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, "nv_retriever.progress")
    info, lines = check_resumed(killed, animals, mined, bert, config)
    check_trained(tmp_path / "whole", info, bert, 12)
    assert [step for step, values in lines if "loss" in values] == list(range(1, 13))
    assert "train: 12 steps" in caplog.messages
    assert lines[-1][1]


@pytest.mark.usefixtures("sharded_over_cpus")
def test_a_sharded_training_of_which_a_process_was_killed_ends_and_goes_on(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process must not wait for it."""
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.05)
    sharded = {"strategy": "fsdp", "gradient_caching": True, "accumulation": 2}
    config = TrainingConfig(**STEPS, **sharded, processes=2, dropout=0.2)
    killed, dead = tmp_path / "killed", list[psutil.Process]()

    def kill(step: int, _: dict[str, float]) -> None:
        """Kill the second process once it has left a checkpoint."""
        if step >= 4 and not dead:
            dead.extend(process for process in workers_of(killed) if process.environ().get("RANK") == "1")
            for process in dead:
                process.kill()

    with pytest.raises(RuntimeError, match=r"^training in 2 processes: process 1 was killed \(SIGKILL\)[^\n]*$"):
        run_training(killed, animals, mined, bert, config, Runtime(device="cpu", workers=1), kill)
    assert not workers_of(killed) and "SIGKILL" in (killed / "launch-0.txt").read_text()
    check_resumed(killed, animals, mined, bert, config)


def check_resumed(
    killed: Path, animals: Dataset, mined: Path, bert: Path, config: TrainingConfig
) -> tuple[dict[str, Any], list[tuple[int, dict[str, float]]]]:
    """Going on ends with exactly the weights, and the log, of a training that nobody killed; return what that one said."""
    whole, runtime, lines = killed.parent / "whole", Runtime(device="cpu", workers=1), list[tuple[int, dict[str, float]]]()
    run_training(killed, animals, mined, bert, config, runtime)
    info = run_training(whole, animals, mined, bert, config, runtime, lambda *line: lines.append(line))
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first), "exactly the same weights"
    assert (whole / "log.jsonl").read_text() == (killed / "log.jsonl").read_text()
    assert {path.name for path in killed.iterdir()} == {"log.jsonl", "model", "training.json"}
    return info, lines


def test_the_process_that_failed_by_itself_is_told(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process fails of the second one's end, within the same second."""
    command = [sys.executable, "-m", "nv_retriever.training.torchrun", "--standalone", "--nproc-per-node", "2"]
    monkeypatch.setattr(launch, "_command", lambda _, __, path: [*command, str(HERE / "failing_worker.py"), str(path)])
    config, runtime = TrainingConfig(max_steps=2, batch_size=4, save_every=1, processes=2), Runtime(device="cpu", workers=1)
    with pytest.raises(RuntimeError, match=r"^training in 2 processes: process 1 ended with MemoryError: no room; what"):
        run_training(tmp_path / "out", animals, mined, bert, config, runtime)


def test_two_machines_over_shared_storage_both_return_the_result(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rendezvous = f"127.0.0.1:{free.getsockname()[1]}"
    config, runtime = TrainingConfig(max_steps=2, batch_size=4), Runtime(device="cpu", workers=1)
    job = TrainingJob([Mined(animals, "train", mined)], bert, config, 0, runtime)

    def machine(rank: int) -> dict[str, Any]:
        nodes = NodesConfig(nodes=2, node_rank=rank, rendezvous=rendezvous)
        return launch.launch_training_job(tmp_path / "out", job, nodes=nodes)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(machine, range(2))
    assert first == second and first["processes"] == 2 and first["steps"] == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"log.jsonl", "model", "training.json"}


def test_checkpoints_and_the_end_wait_for_the_slowest_process(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark before the last process has written would lose its random state; without the steps it finds no best weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    monkeypatch.setattr(launch, "_command", lambda _, __, path: [*command, str(HERE / "late_worker.py"), str(path)])
    config = TrainingConfig(
        max_steps=2, batch_size=4, save_every=1, processes=2, early_stopping=EarlyStoppingConfig(every=1)
    )
    info = run_training(tmp_path / "out", animals, mined, bert, config, Runtime(device="cpu", workers=1))
    assert info["steps"] == 2


def workers_of(folder: Path) -> list[psutil.Process]:
    """Processes whose command names the folder's specification."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if f"{folder}/launch-" in " ".join(process.info["cmdline"] or ())]
