"""From token states to one vector: mean, first token, last token or maximum, over packed sequences, in fp32."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nv_retriever.ragged import Index, ranges, row_offsets


def pool(states: Tensor, starts: Index, lengths: Index, skip: int, mode: str, normalize: bool) -> Tensor:
    """Return the vectors (n, dim) float32 of sequences that lie in `states` (tokens, dim) at `starts`, `lengths` long.

    The first `skip` tokens (an instruction) are left out. A sequence is reduced by itself, in the order of its tokens, so
    that its vector does not depend on the others. One without any token has the vector of zeros.
    """
    states = states.float()
    empty = lengths == 0
    starts = np.where(empty, 0, starts)  # there is no state of theirs
    kept = np.maximum(lengths - skip, 0)
    begin = starts + (lengths - kept)
    if mode == "mean":
        vectors = _mean(states, begin, kept)
    elif mode == "max":
        rows, offsets = _picked(begin, np.maximum(kept, 1), states.device)
        vectors = torch.segment_reduce(states[rows], "max", offsets=offsets)
    else:
        # As in sentence-transformers: a text that is all instruction has its first token pooled.
        at = np.where(kept > 0, begin, starts) if mode == "cls" else starts + lengths - 1
        vectors = states[torch.from_numpy(at).to(states.device)]
    vectors[torch.from_numpy(empty).to(states.device)] = 0
    return functional.normalize(vectors, dim=1) if normalize else vectors


def _mean(states: Tensor, begin: Index, kept: Index) -> Tensor:
    rows, offsets = _picked(begin, kept, states.device)
    return functional.embedding_bag(rows, states, offsets[:-1], mode="mean")


def _picked(begin: Index, lengths: Index, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows of the ranges, one after the other, and their offsets."""
    _, rows = ranges(begin, lengths)
    return torch.from_numpy(rows).to(device), torch.from_numpy(row_offsets(lengths)).to(device)
