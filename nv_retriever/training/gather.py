"""Gathering passages across processes, so that every process contrasts its queries with everybody's passages."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


class _Gather(torch.autograd.Function):
    """All-gather of blocks of different heights; the gradient of a block is the sum of what all processes found for it."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, sizes: list[int]) -> Tensor:
        """Return the blocks of all processes, one after the other."""
        ctx.sizes, ctx.rank = sizes, dist.get_rank()
        padded = block.new_zeros((max(sizes), block.shape[1]))
        padded[: len(block)] = block
        blocks = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(blocks, padded)
        return torch.cat([other[:size] for other, size in zip(blocks, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of this process's block."""
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        start = sum(ctx.sizes[: ctx.rank])
        return gradient[start : start + ctx.sizes[ctx.rank]], None


def gather(block: Tensor, sizes: list[int]) -> Tensor:
    """Return the blocks of all processes one after the other, (sum of sizes, d); `sizes` are their heights."""
    if len(sizes) == 1:
        return block
    return cast(Tensor, _Gather.apply(block, sizes))  # type: ignore[no-untyped-call]


def evened(chunks: list[dict[str, Tensor]], device: torch.device) -> list[dict[str, Tensor]]:
    """Return the micro-batches, and text that no loss reads until this process has as many as the busiest one.

    FSDP gathers a layer's weights from all processes each time that it is used, so that all must use it equally often.
    """
    most = torch.tensor(len(chunks), device=device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    short = {name: values[:1] for name, values in chunks[-1].items()}
    return chunks + [short] * (int(most) - len(chunks))
