"""BERT and RoBERTa encoders without padding: tokens of all texts in one matrix, attention inside each text.

Linear layers, layer norms and activations see (tokens, width), so no product is spent on padding. Attention runs over the
texts of one length at a time (CPU), or as one variable-length kernel (GPU). In bf16 only the products and the attention are
bf16; the residual stream, the norms and the pooling stay fp32, which keeps cosines to fp32 above 0.9999.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nv_retriever.embedding.linear import Gelu, Linear
from nv_retriever.embedding.pooling import pool
from nv_retriever.ragged import Index
from nv_retriever.teachers.identity import EncoderIdentity, Precision

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
ACTIVATIONS: dict[str, Gelu] = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
Weights = Mapping[str, Tensor]
"""Tensors by their names in transformers' encoder."""

MIN_ROWS = 16
"""Matrix products of fewer rows take another kernel, with other rounding: shorter batches are filled up with idle rows."""

SHORT = 32
"""Attention over fewer tokens has unaligned buffers in some threads, which round differently: it is filled up and masked."""


class _Layer(NamedTuple):
    qkv: Linear
    out: Linear
    norm1: tuple[Tensor, Tensor]
    up: Linear
    """With the activation."""
    down: Linear
    norm2: tuple[Tensor, Tensor]


class PackedBert:
    """One model's forward pass on one device."""

    stateless = True

    def __init__(
        self,
        config: Any,
        weights: Weights,
        identity: EncoderIdentity,
        precision: Precision,
        device: torch.device,
    ) -> None:
        """Take the model's transformers configuration and tensors; raises KeyError where one is missing."""
        self.identity, self.device = identity, device
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.heads, self.width, self.eps = config.num_attention_heads, config.hidden_size, config.layer_norm_eps
        self.gelu = ACTIVATIONS[config.hidden_act]
        self.words = self._keep(weights["embeddings.word_embeddings.weight"])
        first_type = self._keep(weights["embeddings.token_type_embeddings.weight"][0])
        self.positions = self._keep(weights["embeddings.position_embeddings.weight"]) + first_type
        self.padding = None if config.model_type == "bert" else int(config.pad_token_id)
        self.norm = self._norm(weights, "embeddings.LayerNorm")
        self.layers = [self._layer(weights, f"encoder.layer.{number}") for number in range(config.num_hidden_layers)]
        self.variable_length = _variable_length_attention() if device.type == "cuda" and precision == "bf16" else None

    @staticmethod
    def covers(config: Any) -> bool:
        """Return whether this forward pass computes what transformers' model of this configuration does."""
        absolute = getattr(config, "position_embedding_type", None) in (None, "absolute")
        plain = not getattr(config, "is_decoder", False) and absolute and config.hidden_act in ACTIVATIONS
        return config.model_type in FAMILIES and plain

    def __call__(self, batch: list[list[int]], skip: int) -> Tensor:
        """Return pooled float32 vectors (len(batch), dim) of token lists, which come by descending length."""
        lengths = np.fromiter(map(len, batch), np.int64, len(batch))
        total = int(lengths.sum())
        starts = np.cumsum(lengths) - lengths
        ids, positions = (np.zeros(max(total, MIN_ROWS), np.int64) for _ in range(2))
        ids[:total] = np.concatenate([np.asarray(tokens, np.int64) for tokens in batch])
        positions[:total] = self._positions(ids[:total], starts, lengths)
        index, places = (torch.from_numpy(array).to(self.device) for array in (ids, positions))
        states = functional.layer_norm(self.words[index] + self.positions[places], (self.width,), *self.norm, self.eps)
        for layer in self.layers:
            states = self._forward(states, layer, lengths, total)
        return pool(states, starts, lengths, skip, self.identity.pooling, self.identity.normalize)

    def _positions(self, ids: Index, starts: Index, lengths: Index) -> Index:
        """Return each token's position in its text; RoBERTa counts from behind the padding's, which padding tokens keep."""
        if self.padding is None:
            return np.arange(len(ids)) - np.repeat(starts, lengths)
        counted = ids != self.padding
        running = np.cumsum(np.append(0, counted))
        positions: Index = (running[1:] - np.repeat(running[starts], lengths)) * counted + self.padding
        return positions

    def _forward(self, states: Tensor, layer: _Layer, lengths: Any, total: int) -> Tensor:
        states = states + layer.out(self._attend(layer.qkv(states.to(self.dtype)), lengths, total))
        states = functional.layer_norm(states, (self.width,), *layer.norm1, self.eps)
        states = states + layer.down(layer.up(states.to(self.dtype)))
        return functional.layer_norm(states, (self.width,), *layer.norm2, self.eps)

    def _attend(self, qkv: Tensor, lengths: Any, total: int) -> Tensor:
        """Return attention inside each text, (rows, 3 * width) -> (rows, width)."""
        size = self.width // self.heads
        mixed = qkv.new_zeros(len(qkv), self.width)
        if self.variable_length is not None:
            bounds = torch.from_numpy(np.append(0, np.cumsum(lengths)).astype(np.int32)).to(self.device)
            q, k, v = qkv[:total].view(total, 3, self.heads, size).unbind(1)
            longest = int(lengths.max())
            mixed[:total] = self.variable_length(q, k, v, bounds, bounds, longest, longest).reshape(total, self.width)
            return mixed
        start = 0
        for length, count in _runs(lengths):
            stop = start + length * count
            some = qkv[start:stop].view(count, length, 3, self.heads, size)
            mask = None
            if length < SHORT:
                some = functional.pad(some, (0, 0, 0, 0, 0, 0, 0, SHORT - length))
                mask = (torch.arange(SHORT, device=self.device) < length).view(1, 1, 1, SHORT)
            q, k, v = some.permute(2, 0, 3, 1, 4)
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            mixed[start:stop].view(count, length, self.heads, size).copy_(found.transpose(1, 2)[:, :length])
            start = stop
        return mixed

    def _layer(self, weights: Weights, name: str) -> _Layer:
        three = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        weight, bias = (torch.cat([weights[f"{part}.{kind}"] for part in three]) for kind in ("weight", "bias"))
        return _Layer(
            qkv=Linear(weight.to(self.device, self.dtype), bias.to(self.device, self.dtype)),
            out=self._linear(weights, f"{name}.attention.output.dense"),
            norm1=self._norm(weights, f"{name}.attention.output.LayerNorm"),
            up=self._linear(weights, f"{name}.intermediate.dense", self.gelu),
            down=self._linear(weights, f"{name}.output.dense"),
            norm2=self._norm(weights, f"{name}.output.LayerNorm"),
        )

    def _linear(self, weights: Weights, name: str, gelu: Gelu | None = None) -> Linear:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return Linear(weight.to(self.device, self.dtype), bias.to(self.device, self.dtype), gelu)

    def _norm(self, weights: Weights, name: str) -> tuple[Tensor, Tensor]:
        return self._keep(weights[f"{name}.weight"]), self._keep(weights[f"{name}.bias"])

    def _keep(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, torch.float32)


def _runs(lengths: Any) -> list[tuple[int, int]]:
    """Return (length, how many in a row) of sorted lengths."""
    values, counts = np.unique(-lengths, return_counts=True)
    return [(-int(value), int(count)) for value, count in zip(values, counts, strict=True)]


def _variable_length_attention() -> Any:
    """Return torch's variable-length attention kernel, or None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
