"""Any transformers encoder, over batches of texts of one length: no padding, no mask, so companions change nothing."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nv_retriever.embedding.pooling import pool
from nv_retriever.teachers.identity import EncoderIdentity, Precision

MIN_ROWS = 16
"""Matrix products of fewer rows take another kernel, with other rounding: small groups are filled up with copies."""


class EqualLengths:
    """One model's forward pass on one device; bf16 is autocast over fp32 weights, or plain where the weights are bf16."""

    def __init__(self, model: Any, identity: EncoderIdentity, precision: Precision, device: torch.device) -> None:
        self.identity, self.device = identity, device
        encoder = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model
        # A replica per device: moving one model between devices would break the others.
        self.model = encoder.to(device) if device.index in (None, 0) else _copy_to(encoder, device)
        self.autocast = precision == "bf16" and encoder.dtype == torch.float32
        takes = inspect.signature(encoder.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in takes else {}

    def __call__(self, batch: list[list[int]], skip: int) -> Tensor:
        """Return pooled float32 vectors (len(batch), dim) of token lists, which come by descending length."""
        return torch.cat([self._equal(list(group), skip) for _, group in groupby(batch, key=len)])

    def _equal(self, batch: list[list[int]], skip: int) -> Tensor:
        count, length = len(batch), max(1, len(batch[0]))
        rows = max(count, -(-MIN_ROWS // length))
        ids = torch.tensor(batch + [batch[0]] * (rows - count), dtype=torch.int64, device=self.device)
        context = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        with context:
            states = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), **self.options).last_hidden_state
        starts = np.arange(count, dtype=np.int64) * length
        lengths = np.full(count, length, np.int64)
        flat = states.reshape(rows * length, states.shape[-1])
        return pool(flat, starts, lengths, skip, self.identity.pooling, self.identity.normalize)


def _copy_to(model: Any, device: torch.device) -> Any:
    import copy

    return copy.deepcopy(model).to(device)
