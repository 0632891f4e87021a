"""A worker that shards over CPUs: accelerate does it on accelerators only, although FSDP and gloo can."""

import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from nv_retriever.training import worker
from nv_retriever.training.job import TrainingJob

begin = AcceleratorState.__init__


def begin_sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
    begin(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = begin_sharded
    TrainingJob.check = lambda *_: None  # it refuses to shard without a GPU
    worker.main(sys.argv[1])
