"""A worker of which the second process fails when it writes its part of a checkpoint."""

import os
import sys

from torch.distributed.elastic.multiprocessing.errors import record
from transformers import Trainer

from nv_retriever.training import worker

save = Trainer._save_rng_state


def fail(self: Trainer, folder: str) -> None:
    if os.environ["RANK"] == "1":
        raise MemoryError("no room\nfor the rest")
    save(self, folder)


if __name__ == "__main__":
    Trainer._save_rng_state = fail
    record(worker.main)(sys.argv[1])
