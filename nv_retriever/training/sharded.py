"""FSDP: which layers are sharded, and how a killed run takes its optimizer state up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from transformers import TrainingArguments

from nv_retriever.training.student import layer_list


def shard(arguments: TrainingArguments, encoder: Any) -> None:
    """Let the arguments ask for FSDP over the layers of a SentenceTransformer."""
    layer = type(layer_list(encoder[0].auto_model)[2][0]).__name__
    arguments.fsdp = True
    arguments.fsdp_config = {"version": 2, "transformer_layer_cls_to_wrap": [layer], "reshard_after_forward": True}
    arguments.fsdp_plugin_args = arguments._process_fsdp_args()


def load_optimizer(model: nn.Module, optimizer: Any, checkpoint: Path) -> None:
    """Hand the optimizer state of a checkpoint, which the first process reads, out to the shards.

    Loading as accelerate does it refuses a checkpoint in which a trained weight has no state: a pooler that no loss reads.
    """
    values = torch.load(checkpoint / "optimizer.bin", weights_only=True) if dist.get_rank() == 0 else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_optimizer_state_dict(model, optimizer, values, options=options)
