"""Train as the arguments say and kill -9 this process as soon as the given step is logged."""

import os
import signal
import sys
from pathlib import Path

from training_data import run_training

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.training.config import TrainingConfig


def main(folder: str, dataset: str, mining: str, model: str, config: str, last: int) -> None:
    def on_log(step: int, values: dict[str, float]) -> None:
        if step >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    settings, runtime = TrainingConfig.model_validate_json(config), Runtime(device="cpu", workers=1)
    run_training(Path(folder), Dataset.open(dataset), Path(mining), Path(model), settings, runtime, on_log)


if __name__ == "__main__":
    main(*sys.argv[1:6], last=int(sys.argv[6]))
