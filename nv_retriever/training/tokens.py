"""Tokens of all texts of a training, written once and memory-mapped: no text is tokenised twice, memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.files import write_aside
from nv_retriever.search.types import IntArray

BLOCK = 4096


class Tokens:
    """Token ids of some rows of a corpus or of the queries, special tokens included, truncated."""

    def __init__(self, folder: Path, rows: IntArray, prompt_length: int = 0) -> None:
        """Open what `write_tokens` wrote of `rows`; the first `prompt_length` tokens of a text are not pooled."""
        self._rows, self.prompt_length = rows, prompt_length
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        empty = not self._offsets[-1]
        self._flat = np.empty(0, np.uint32) if empty else np.memmap(folder / "tokens.bin", dtype=np.uint32, mode="r")

    def take(self, rows: npt.NDArray[np.integer]) -> list[npt.NDArray[np.uint32]]:
        """Return the token ids of each row, a list of (length,) uint32."""
        places = np.searchsorted(self._rows, rows)
        return [self._flat[self._offsets[place] : self._offsets[place + 1]] for place in places]


def write_tokens(
    folder: Path, rows: IntArray, texts: Callable[[IntArray], list[str]], tokenizer: Any, prompt: str, max_length: int
) -> None:
    """Tokenise `prompt + text` of every row (ascending, unique) into `folder`, unless that was done before."""
    if not (folder / "offsets.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        lengths: list[int] = []
        with (folder / "tokens.bin").open("wb") as file:
            for start in range(0, len(rows), BLOCK):
                block = [prompt + text for text in texts(rows[start : start + BLOCK])]
                encoded = tokenizer(block, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
                lengths.extend(len(ids) for ids in encoded)
                np.fromiter((token for ids in encoded for token in ids), np.uint32, sum(map(len, encoded))).tofile(file)
        with write_aside(folder / "offsets.npy") as aside, aside.open("wb") as file:
            np.save(file, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
