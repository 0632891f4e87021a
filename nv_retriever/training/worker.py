"""One process of a distributed training: `torchrun -m nv_retriever.training.worker SPEC.json`, started by launch.py."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import record

from nv_retriever.errors import InputError
from nv_retriever.files import read_json, write_json
from nv_retriever.training.build import run_training_process
from nv_retriever.training.job import TrainingJob


def main(path: str) -> None:
    """Run the training that the file describes; only the first process writes.

    A wrong input is written beside that file, for whoever started this. The process ends with whoever holds the other end
    of the standard input, even if it is killed: nobody is left to write into a folder that the next run goes on in.
    """
    # Not sys.stdin.read(): a daemon thread that holds the lock of a buffered stream may make Python abort at exit.
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    spec = read_json(Path(path))
    try:
        run_training_process(Path(spec["folder"]), TrainingJob.from_json(spec["job"]))
    except InputError as error:
        write_json(Path(path).with_suffix(".error"), vars(error))
        raise


if __name__ == "__main__":
    record(main)(sys.argv[1])
