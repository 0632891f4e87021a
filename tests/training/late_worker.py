"""A worker of which the second process is late with its part of every checkpoint, and with reading the best one.

It also measures other scores. A mark that comes before its part is an error, and so are scores that differ.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from transformers import Trainer, TrainingArguments

from nv_retriever.training import run, worker
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.development import EarlyStopping
from nv_retriever.training.trainer import COMPLETE, CheckpointMarker

save, mark, load = Trainer._save_rng_state, CheckpointMarker.on_save, run.load_trainable
measure, end_step = EarlyStopping.measure, EarlyStopping.on_step_end


def late() -> None:
    if os.environ["RANK"] == "1":
        time.sleep(1)


def save_late(self: Trainer, folder: str) -> None:
    late()
    save(self, folder)


def load_late(model: BiEncoder, path: Path) -> None:
    late()
    load(model, path)


def mark_checked(self: CheckpointMarker, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
    mark(self, args, state, control, **kwargs)
    folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
    names = {path.name for path in folder.iterdir()}
    assert COMPLETE not in names or {"rng_state_0.pth", "rng_state_1.pth"} <= names, names


def measure_otherwise(self: EarlyStopping, model: BiEncoder) -> float:
    return measure(self, model) - int(os.environ["RANK"]) * (1 + len(self.scores))


def end_step_agreed(self: EarlyStopping, *args: Any, **kwargs: Any) -> None:
    end_step(self, *args, **kwargs)
    scores: list[Any] = [None, None]
    dist.all_gather_object(scores, self.scores)
    assert scores[0] == scores[1], scores


if __name__ == "__main__":
    Trainer._save_rng_state, CheckpointMarker.on_save, run.load_trainable = save_late, mark_checked, load_late
    EarlyStopping.measure, EarlyStopping.on_step_end = measure_otherwise, end_step_agreed
    worker.main(sys.argv[1])
