"""A linear layer and its activation: on a processor that multiplies bf16, packed once and computed in one pass.

oneDNN lays the weights out as its kernels read them and applies the activation to a tile while that is in the registers.
`torch.nn.functional.linear` does neither: it lays them out at every call, and the activation reads and writes all again.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from nv_retriever.hardware import fast_bf16

Gelu = Literal["none", "tanh"]
"""How gelu is approximated, as torch calls it."""
_ROWS = 2048
"""Rows that the layout is made for; it serves any number, with the same bits."""


class Linear:
    """`states @ weight.T + bias`, with gelu after it where it is given."""

    def __init__(self, weight: Tensor, bias: Tensor, gelu: Gelu | None = None) -> None:
        """Take the weight (out, in) and bias (out,), on their device and in their format."""
        self.bias, self.gelu = bias, gelu
        self.packed = _packs(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if self.packed else weight

    def __call__(self, states: Tensor) -> Tensor:
        """Return the layer of some rows, (n, in) -> (n, out)."""
        if self.packed:
            activation, algorithm = ("none", "") if self.gelu is None else ("gelu", self.gelu)
            packed: Tensor = torch.ops.mkldnn._linear_pointwise(states, self.weight, self.bias, activation, [], algorithm)
            return packed
        found = functional.linear(states, self.weight, self.bias)
        return found if self.gelu is None else functional.gelu(found, approximate=self.gelu)


def _packs(weight: Tensor) -> bool:
    """Return whether this torch has the packed layer, which its compiler uses, for this weight; it is no public function."""
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not fast_bf16("cpu"):
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
