"""From token states to one vector: mean, first token, last token or maximum, over packed sequences, in fp32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Index = npt.NDArray[np.int64]


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
        rows, offsets = _ranges(begin, np.maximum(kept, 1))
        picked = states[torch.from_numpy(rows).to(states.device)]
        bounds = torch.from_numpy(np.append(offsets, len(rows))).to(states.device)
        vectors = torch.segment_reduce(picked, "max", offsets=bounds)
    else:
        # As in sentence-transformers: a text that is all instruction has its first token pooled.
        at = np.where(kept > 0, begin, starts) if mode == "cls" else starts + lengths - 1
        vectors = states[torch.from_numpy(at).to(states.device)]
    vectors[torch.from_numpy(empty).to(states.device)] = 0
    return functional.normalize(vectors, dim=1) if normalize else vectors


def _mean(states: Tensor, begin: Index, kept: Index) -> Tensor:
    rows, offsets = _ranges(begin, kept)
    index, bounds = torch.from_numpy(rows).to(states.device), torch.from_numpy(offsets).to(states.device)
    return functional.embedding_bag(index, states, bounds, mode="mean")


def _ranges(begin: Index, lengths: Index) -> tuple[Index, Index]:
    """Return the concatenated ranges begin[i] … begin[i] + lengths[i] - 1, and where each starts."""
    offsets = np.cumsum(lengths) - lengths
    rows = np.arange(int(lengths.sum()), dtype=np.int64) + np.repeat(begin - offsets, lengths)
    return rows, offsets
