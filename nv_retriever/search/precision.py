"""Number formats in which matrix products propose candidates, and which of them is fastest where."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nv_retriever.hardware import Device, fast_bf16
from nv_retriever.search import int8_products


@dataclass(frozen=True)
class Precision:
    """A number format in which a machine multiplies matrices fast."""

    name: str
    dtype: torch.dtype
    """Of the product's cells."""
    bits: torch.dtype
    """The integer type of the same size: a sign is read without looking at the value."""
    accumulation: float
    """Multiples of dim * 2^-24 * (sum of absolute products) that the product may be off."""
    rounding: float
    """Relative error of the product's own format."""


FP32 = Precision("fp32", torch.float32, torch.int32, accumulation=2.0, rounding=0.0)
BF16 = Precision("bf16", torch.bfloat16, torch.int16, accumulation=16.0, rounding=2.0**-7)
INT8 = Precision("int8", torch.float32, torch.int32, accumulation=8.0, rounding=0.0)
"""Sums of integers are exact; scaling them and adding the bound is in fp32."""

INT8_PAYS = 200
"""Documents for each one that is sought, from which a product in half the time pays for the pairs that int8 leaves to be
scored exactly, about four times k beyond fp32's (docs/search.md)."""


def float_precision(device: Device) -> Precision:
    """Return the floating-point format whose products are fastest on the device, by what its processor says."""
    return BF16 if fast_bf16(device) else FP32


def fastest_precision(device: Device, k: int, n_documents: int) -> Precision:
    """Return the format that finds the k best of so many documents soonest; no result depends on it."""
    precision = float_precision(device)
    pays = precision is FP32 and device == "cpu" and n_documents >= INT8_PAYS * k
    return INT8 if pays and int8_products.fast() else precision
