"""The embeddings artifact: float32 vectors in row order, in memory-mapped shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.files import read_json, write_aside, write_json
from nv_retriever.mapped_file import create_mapped
from nv_retriever.search.types import FloatArray, ScoreKind

SHARD_ROWS = 65_536
BLOCK_ROWS = 4096
INFO = "embeddings.json"


class Vectors:
    """Vectors of one model, (n, dim) float32, whose inner products are the scores; on disk or in memory."""

    def __init__(self, parts: Sequence[FloatArray], dim: int, score_kind: ScoreKind, info: dict[str, Any]) -> None:
        self.parts, self.dim, self.score_kind, self.info = list(parts), dim, score_kind, info
        self.starts = np.concatenate([[0], np.cumsum([len(part) for part in self.parts])]).astype(np.int64)
        self.n = int(self.starts[-1])
        self.quarantined: npt.NDArray[np.int64] = np.asarray(info.get("quarantined", []), np.int64)
        """Rows whose vectors are not finite, ascending."""

    @classmethod
    def open(cls, folder: Path | str) -> Vectors:
        """Open an embeddings artifact, memory-mapped; raises ArtifactError where it is incomplete."""
        path = Path(folder)
        try:
            info = read_json(path / INFO)
            n, dim, kind = info["rows"], info["dim"], info["score_kind"]
            parts = [_map(path / shard_name(number)) for number in range(-(-n // SHARD_ROWS))]
            if sum(map(len, parts)) != n or any(part.shape[1:] != (dim,) or part.dtype != np.float32 for part in parts):
                raise ValueError("the shards do not hold the vectors that embeddings.json counts")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} is no complete embeddings artifact: {error}") from None
        return cls(parts, dim, kind, info)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.floating], score_kind: ScoreKind = "cosine") -> Vectors:
        """Return vectors in memory, (n, dim); rows that are not finite are quarantined.

        Raises InputError for another shape.
        """
        if array.ndim != 2:
            raise InputError("vectors", "an array of shape (n, dim)", f"shape {array.shape}")
        values = np.ascontiguousarray(array, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist()
        return cls([values], values.shape[1], score_kind, {"quarantined": bad})

    def __len__(self) -> int:
        return self.n

    def blocks(self, max_rows: int) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, float32 (rows, dim)) in row order, at most `max_rows` rows each; views, not copies."""
        for start, part in zip(self.starts.tolist(), self.parts, strict=False):
            for offset in range(0, len(part), max_rows):
                yield start + offset, part[offset : offset + max_rows]

    def take(self, rows: npt.NDArray[np.integer] | Sequence[int]) -> FloatArray:
        """Return the vectors of some rows in the order given, float32 (n, dim); raises IndexError beyond the ends."""
        wanted = np.asarray(rows, np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.n):
            raise IndexError(f"rows are 0 to {self.n - 1}, found {wanted.min()} to {wanted.max()}")
        result = np.empty((len(wanted), self.dim), np.float32)
        home = np.searchsorted(self.starts, wanted, side="right") - 1
        for number in np.unique(home).tolist():
            at = np.flatnonzero(home == number)
            result[at] = self.parts[number][wanted[at] - self.starts[number]]
        return result


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"vectors-{number:05d}.npy"


def _map(path: Path) -> FloatArray:
    array: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def unit_length(vectors: FloatArray) -> FloatArray:
    """Return vectors (n, dim) float32 scaled to length 1; those of length 0 stay."""
    norms = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    scaled: FloatArray = (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32)
    return scaled


def write_vectors(
    folder: Path, n: int, dim: int, gather: Callable[[int, int], FloatArray], info: dict[str, Any]
) -> dict[str, Any]:
    """Write rows 0 … n-1, as `gather(start, stop)` gives them (rows, dim), shard by shard in flat memory; returns the info.

    Rows that are not finite become NaN throughout and are listed as `quarantined`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    quarantined: list[int] = []
    for number in range(-(-n // SHARD_ROWS)):
        first, last = number * SHARD_ROWS, min((number + 1) * SHARD_ROWS, n)
        with write_aside(folder / shard_name(number)) as aside:
            shard = create_mapped(aside, np.float32, (last - first, dim))
            for start in range(first, last, BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, last)
                block = gather(start, stop)
                bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
                shard[start - first : stop - first] = block
                shard[start - first + bad] = np.nan
                quarantined.extend((start + bad).tolist())
            shard.flush()
            del shard
    complete = {"rows": n, "dim": dim, **info, "quarantined": quarantined}
    write_json(folder / INFO, complete)
    return complete
