"""BERT and RoBERTa encoders without padding: tokens of all texts in one matrix, attention inside each text.

Linear layers, layer norms and activations see (tokens, width), so no product is spent on padding. In bf16 only the products
and the attention are bf16; the residual stream, the norms and the pooling stay fp32, which keeps cosines above 0.9999.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nv_retriever.embedding.attention import Attention
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
        """Take the model's transformers configuration and tensors; raises KeyError or ValueError where they do not fit."""
        self.identity, self.device = identity, device
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.heads, self.width, self.eps = config.num_attention_heads, config.hidden_size, config.layer_norm_eps
        self.gelu = ACTIVATIONS[config.hidden_act]
        self.words = self._keep(weights["embeddings.word_embeddings.weight"])
        if self.words.shape != (config.vocab_size, self.width):
            expected = f"a word embedding for each of {config.vocab_size} words, of {self.width} numbers"
            raise ValueError(f"{expected}, found an array of {tuple(self.words.shape)}")
        first_type = self._keep(weights["embeddings.token_type_embeddings.weight"][0])
        self.positions = self._keep(weights["embeddings.position_embeddings.weight"]) + first_type
        self.padding = None if config.model_type == "bert" else int(config.pad_token_id)
        self.norm = self._norm(weights, "embeddings.LayerNorm")
        self.layers = [self._layer(weights, f"encoder.layer.{number}") for number in range(config.num_hidden_layers)]

    @staticmethod
    def covers(config: Any) -> bool:
        """Return whether this forward pass computes what transformers' model of this configuration does."""
        if config.model_type not in FAMILIES:  # others need not have the settings that are asked for below
            return False
        absolute = getattr(config, "position_embedding_type", None) in (None, "absolute")
        return not getattr(config, "is_decoder", False) and absolute and config.hidden_act in ACTIVATIONS

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
        attention = Attention(lengths, self.heads, self.width // self.heads, self.device, self.dtype)
        for layer in self.layers:
            states = self._forward(states, layer, attention)
        return pool(states, starts, lengths, skip, self.identity.pooling, self.identity.normalize)

    def _positions(self, ids: Index, starts: Index, lengths: Index) -> Index:
        """Return each token's position in its text; RoBERTa counts from behind the padding's, which padding tokens keep."""
        if self.padding is None:
            return np.arange(len(ids)) - np.repeat(starts, lengths)
        counted = ids != self.padding
        running = np.cumsum(np.append(0, counted))
        positions: Index = (running[1:] - np.repeat(running[starts], lengths)) * counted + self.padding
        return positions

    def _forward(self, states: Tensor, layer: _Layer, attention: Attention) -> Tensor:
        states = states + layer.out(attention(layer.qkv(states.to(self.dtype))))
        states = functional.layer_norm(states, (self.width,), *layer.norm1, self.eps)
        states = states + layer.down(layer.up(states.to(self.dtype)))
        return functional.layer_norm(states, (self.width,), *layer.norm2, self.eps)

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
