"""A worker that shards over CPUs: accelerate does it on accelerators only, although FSDP and gloo can."""

import sys
from collections.abc import Callable
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from nv_retriever.training import launch, worker
from nv_retriever.training.job import TrainingJob

begin = AcceleratorState.__init__


def begin_sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def shard_over_cpus(replace: Callable[[object, str, Any], None]) -> None:
    """Let `strategy: fsdp` start this worker; accelerate would train whole models, and so `TrainingJob.check` refuses it."""
    command = [sys.executable, "-m", "nv_retriever.training.torchrun", "--standalone", "--nproc-per-node", "2", __file__]
    replace(launch, "_command", lambda _, __, path: [*command, str(path)])
    replace(TrainingJob, "check", lambda *_: None)


if __name__ == "__main__":
    AcceleratorState.__init__ = begin_sharded
    TrainingJob.check = lambda *_: None  # it refuses to shard without a GPU
    worker.main(sys.argv[1])
