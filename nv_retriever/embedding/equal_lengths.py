"""Any transformers encoder, over batches of texts of one length: no padding, so companions change nothing."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from copy import deepcopy
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nv_retriever.embedding.attention import SHORT
from nv_retriever.embedding.pooling import pool
from nv_retriever.teachers.identity import EncoderIdentity, Precision


class EqualLengths:
    """One model's forward pass on one device; bf16 is autocast over fp32 weights, or plain where the weights are bf16."""

    stateless = False

    def __init__(self, model: Any, identity: EncoderIdentity, precision: Precision, device: torch.device) -> None:
        self.identity, self.device = identity, device
        encoder = model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model
        # A replica per device: moving one model between devices would break the others.
        self.model = (encoder if device.index in (None, 0) else deepcopy(encoder)).to(device)
        self.autocast = precision == "bf16" and encoder.dtype == torch.float32
        self.padding = int(encoder.config.pad_token_id or 0)
        takes = inspect.signature(encoder.forward).parameters
        self.options = {"use_cache": False} if "use_cache" in takes else {}

    def __call__(self, batch: list[list[int]], skip: int) -> Tensor:
        """Return pooled float32 vectors (len(batch), dim) of token lists, which come by descending length."""
        # Products of few rows, and attention over few tokens, take kernels with other rounding: shorter texts are all filled
        # up to one length and masked, so that every text has one shape, whatever its companions.
        groups = groupby(batch, key=lambda tokens: max(len(tokens), SHORT))
        return torch.cat([self._equal(list(group), length, skip) for length, group in groups])

    def _equal(self, batch: list[list[int]], length: int, skip: int) -> Tensor:
        """Return the vectors of texts that are all `length` tokens long, or all shorter than SHORT."""
        lengths = np.fromiter(map(len, batch), np.int64, len(batch))
        ids = torch.tensor([tokens + [self.padding] * (length - len(tokens)) for tokens in batch], dtype=torch.int64)
        mask = (torch.arange(length) < torch.from_numpy(lengths)[:, None]).long()
        context = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        with context:
            states = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device), **self.options)[0]
        starts = np.arange(len(batch), dtype=np.int64) * length
        flat = states.reshape(len(batch) * length, states.shape[-1])
        return pool(flat, starts, lengths, skip, self.identity.pooling, self.identity.normalize)
