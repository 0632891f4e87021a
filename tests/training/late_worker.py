"""A worker of which the second process is late with its part of every checkpoint, and with reading the best one.

A mark that comes before that part is an error.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from nv_retriever.training import run, worker
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.trainer import COMPLETE, CheckpointMarker

save, mark, load = Trainer._save_rng_state, CheckpointMarker.on_save, run.load_trainable


def late() -> None:
    if os.environ["RANK"] == "1":
        time.sleep(4)


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


if __name__ == "__main__":
    Trainer._save_rng_state, CheckpointMarker.on_save, run.load_trainable = save_late, mark_checked, load_late
    worker.main(sys.argv[1])
