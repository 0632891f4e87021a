"""One process of a distributed training: `torchrun -m nv_retriever.training.worker SPEC.json`, started by launch.py."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.build import Mined, train_checkpoint
from nv_retriever.training.config import TrainingConfig


def main(path: str) -> None:
    """Run the training that the file describes; only the first process writes.

    The process ends with whoever holds the other end of the standard input, even if it is killed: nobody is left to write
    into a folder that the next run goes on in.
    """
    # Not sys.stdin.read(): a daemon thread that holds the lock of a buffered stream may make Python abort at exit.
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    train_checkpoint(
        Path(spec["folder"]),
        [_source(source) for source in spec["sources"]],
        Path(spec["model_folder"]),
        TrainingConfig.model_validate(spec["config"]),
        spec["seed"],
        Runtime.model_validate(spec["runtime"]),
    )


def _source(described: dict[str, Any]) -> Mined:
    paths = {
        "dataset": Dataset.open(described["dataset"]),
        "mining_folder": Path(described["mining_folder"]),
        "guide": tuple(map(Path, described["guide"])) if described["guide"] else None,
    }
    return Mined(**{**described, **paths})


if __name__ == "__main__":
    main(sys.argv[1])
