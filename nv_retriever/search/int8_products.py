"""Products of 8-bit integers by oneDNN, as torch's own quantized linear layer calls it; exact sums, scaled to fp32."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

ZERO = 128
"""What stands for zero on the unsigned side."""
UNSIGNED, SIGNED = 127, 63
"""The largest levels of both sides: without VNNI a processor adds two products in 16 bits, and 2 * 255 * 63 fits."""


@dataclass(frozen=True)
class Packed:
    """The signed side of a product, laid out as oneDNN wants it."""

    rows: Any
    steps: torch.Tensor
    """(n,) fp32, what a level of each row stands for."""
    zeros: torch.Tensor
    """(n,) int32, all zero."""


def pack(rows: torch.Tensor, steps: torch.Tensor) -> Packed:
    """Lay out rows (n, dim) int8 within +-SIGNED, whose levels stand for `steps` (n,) fp32."""
    return Packed(torch.ops.onednn.qlinear_prepack(rows, None), steps, torch.zeros(len(rows), dtype=torch.int32))


def multiply(left: torch.Tensor, step: float, right: Packed, bias: torch.Tensor) -> torch.Tensor:
    """Return (left - ZERO) times right transposed, scaled, plus `bias` (n,) of each column, (m, n) fp32.

    `left` (m, dim) uint8 within ZERO +- UNSIGNED, a level stands for `step`. The sums are exact while they fit 32 bits.
    """
    product: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        left, step, ZERO, right.rows, right.steps, right.zeros, bias, 1.0, 0, torch.float32, "none", [], ""
    )
    return product


@cache
def fast() -> bool:
    """Return whether this processor multiplies so, twice as fast as in fp32, and as exactly as said."""
    return torch.backends.cpu.get_cpu_capability() in {"AVX2", "AVX512"} and _exact()


def _exact() -> bool:
    """Try a small product with the extreme levels."""
    levels = torch.randint(-UNSIGNED, UNSIGNED + 1, (24, 70), generator=torch.Generator().manual_seed(0))
    left, right = levels[:15], levels[15:].clamp(-SIGNED, SIGNED)
    left[:2], right[:2] = UNSIGNED, SIGNED
    left[2], right[2] = -UNSIGNED, -SIGNED
    steps, bias = 2.0 ** torch.arange(-9.0, 0.0), torch.arange(9.0) - 4
    try:
        found = multiply((left + ZERO).to(torch.uint8), 0.5, pack(right.to(torch.int8), steps), bias)
    except (AttributeError, RuntimeError, TypeError):  # another torch, or one without oneDNN
        return False
    return torch.equal(found.double(), (left @ right.T).double() * 0.5 * steps + bias)
