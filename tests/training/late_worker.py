"""A worker of which the second process writes its part of every checkpoint late; a mark before that is an error."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from nv_retriever.training import worker
from nv_retriever.training.trainer import COMPLETE, CheckpointMarker

save, mark = Trainer._save_rng_state, CheckpointMarker.on_save


def save_late(self: Trainer, folder: str) -> None:
    if os.environ["RANK"] == "1":
        time.sleep(2)
    save(self, folder)


def mark_checked(self: CheckpointMarker, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
    mark(self, args, state, control, **kwargs)
    folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
    names = {path.name for path in folder.iterdir()}
    assert COMPLETE not in names or {"rng_state_0.pth", "rng_state_1.pth"} <= names, names


if __name__ == "__main__":
    Trainer._save_rng_state, CheckpointMarker.on_save = save_late, mark_checked
    worker.main(sys.argv[1])
