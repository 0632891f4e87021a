"""Attention inside each text of a batch whose tokens lie behind each other, without padding.

On a GPU one variable-length kernel does it all. On a CPU texts of one length are computed together by torch's kernel. Long
ones in bf16 are two matrix products each, in two thirds of the time: no maximum need be subtracted from what is
exponentiated where the sums show that nothing overflowed, and a column of ones beside the values makes these sums part of
the product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nv_retriever.hardware import fast_bf16

SHORT = 32
"""Attention over fewer tokens has unaligned buffers in some threads, which round differently: it is filled up and masked."""
LONG = 48
"""Texts of at least so many tokens are multiplied one by one."""
_MULTIPLE = 16
"""Long texts are filled up to a multiple: each shape that is new to oneDNN costs milliseconds."""
_CELLS = 1 << 22
"""Of the weights of one text (8 MiB): the queries of a longer one come in parts."""
_SUMS = 2.0**-100, 2.0**100
"""Where a sum of powers of two lies whose large terms neither overflowed nor vanished."""


class Attention:
    """Attention for one batch of texts; its memory serves all layers."""

    def __init__(
        self, lengths: npt.NDArray[np.int64], heads: int, size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take the lengths of the texts, descending, and what the heads (of `size` numbers) are computed in."""
        self.heads, self.size, self.device = heads, size, device
        self.total, self.longest = int(lengths.sum()), int(lengths.max(initial=0))
        half = dtype == torch.bfloat16
        self.kernel = _variable_length_kernel() if half and device.type == "cuda" and fast_bf16("cuda") else None
        if self.kernel is not None:
            self.bounds = torch.from_numpy(np.append(0, np.cumsum(lengths)).astype(np.int32)).to(device)
            return
        self.runs = _runs(lengths)
        fast = half and device.type == "cpu" and fast_bf16("cpu")
        self.products = _Products(self.longest, heads, size, dtype) if fast and self.longest >= LONG else None

    def __call__(self, qkv: Tensor) -> Tensor:
        """Return attention inside each text, (rows, 3 * width) -> (rows, width); rows behind the texts become zeros."""
        width = self.heads * self.size
        mixed = qkv.new_zeros(len(qkv), width)
        if self.kernel is not None:
            q, k, v = qkv[: self.total].view(self.total, 3, self.heads, self.size).unbind(1)
            found = self.kernel(q, k, v, self.bounds, self.bounds, self.longest, self.longest)
            mixed[: self.total] = found.reshape(self.total, width)
            return mixed
        start = 0
        for length, count in self.runs:
            stop = start + length * count
            texts = qkv[start:stop].view(count, length, 3, self.heads, self.size)
            found = mixed[start:stop].view(count, length, self.heads, self.size)
            if length < LONG or self.products is None:
                found.copy_(self._together(texts))
            else:
                for text, out in zip(texts, found, strict=True):
                    if not self.products.attend(text, out):
                        out.copy_(self._together(text[None])[0])
            start = stop
        return mixed

    def _together(self, texts: Tensor) -> Tensor:
        """Return torch's own attention of texts of one length, (texts, length, 3, heads, size) without the 3."""
        length, mask = texts.shape[1], None
        if length < SHORT:
            texts = functional.pad(texts, (0, 0, 0, 0, 0, 0, 0, SHORT - length))
            mask = (torch.arange(SHORT, device=self.device) < length).view(1, 1, 1, SHORT)
        q, k, v = texts.permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)[:, :length]


class _Products:
    """Attention of one text at a time by matrix products, in memory that is taken once."""

    def __init__(self, longest: int, heads: int, size: int, dtype: torch.dtype) -> None:
        self.scale = math.log2(math.e) / math.sqrt(size)
        """Of a score, as the exponent of a power of two."""
        rows = heads * _filled_up(longest)
        cells = min(rows * _filled_up(longest), max(_CELLS, rows * _MULTIPLE))
        self.qk, self.values, self.mixed, self.weights = (
            torch.empty(numbers, dtype=dtype) for numbers in (2 * rows * size, rows * (size + 1), rows * (size + 1), cells)
        )

    def attend(self, text: Tensor, out: Tensor) -> bool:
        """Set `out` (length, heads, size) to the attention of a text (length, 3, heads, size); False where it overflows."""
        length, heads, size = out.shape
        rows = _filled_up(length)
        qk = self.qk[: 2 * heads * rows * size].view(2, heads, rows, size)
        values = self.values[: heads * rows * (size + 1)].view(heads, rows, size + 1)
        mixed = self.mixed[: values.numel()].view_as(values)
        qk[:, :, :length] = text[:, :2].permute(1, 2, 0, 3)
        values[:, :length, :size] = text[:, 2].transpose(0, 1)
        values[:, :length, size] = 1
        qk[:, :, length:], values[:, length:] = 0, 0
        keys, step = qk[1].transpose(1, 2), max(_MULTIPLE, _CELLS // (heads * rows) // _MULTIPLE * _MULTIPLE)
        for first in range(0, rows, step):
            queries, found = qk[0, :, first : first + step], mixed[:, first : first + step]
            weights = self.weights[: heads * queries.shape[1] * rows].view(heads, queries.shape[1], rows)
            torch.baddbmm(weights, queries, keys, beta=0, alpha=self.scale, out=weights)
            torch.bmm(weights.exp2_(), values, out=found)
        by_row = mixed[:, :length].transpose(0, 1)
        sums = by_row[..., size:]
        torch.div(by_row[..., :size], sums, out=out)
        smallest, largest = sums.aminmax()
        return smallest.item() > _SUMS[0] and largest.item() < _SUMS[1]


def _filled_up(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _runs(lengths: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (length, how many in a row) of sorted lengths."""
    values, counts = np.unique(-lengths, return_counts=True)
    return [(-int(value), int(count)) for value, count in zip(values, counts, strict=True)]


def _variable_length_kernel() -> Any:
    """Return torch's variable-length attention kernel, or None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
