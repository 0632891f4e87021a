"""The content-keyed store of vectors: a text embedded once in a vector space is never embedded again.

A shard is two files: `NAME.vectors.npy` (float32) and then, as its commit, `NAME.keys.npy` (a key and a checksum per row).
Writers take names of their own and commit by renaming, so any number of processes can write without a lock; a text that two
of them embed at once is stored twice, which is harmless. What is damaged is dropped with a warning: it is a cache.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.files import note_use, remove_abandoned, write_aside
from nv_retriever.search.types import FloatArray

logger = logging.getLogger(__name__)
KEY_BYTES = 16
KEY = np.dtype(f"S{KEY_BYTES}")
RECORD = np.dtype([("key", KEY), ("checksum", "<u8")])
Keys = npt.NDArray[np.bytes_]
Places = npt.NDArray[np.int64]


def text_keys(texts: Sequence[str], salt: str) -> Keys:
    """Return the keys (n,) of texts in a role; `salt` stands for the role's prompt and length (at most 64 characters)."""
    secret = salt.encode()
    raw = (
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES, key=secret).digest() for text in texts
    )
    return np.frombuffer(b"".join(raw), dtype=KEY)


def checksums(vectors: FloatArray) -> npt.NDArray[np.uint64]:
    """Return a checksum per row that every single changed bit changes, (n, dim) float32 -> (n,) uint64."""
    words = np.ascontiguousarray(vectors).view(np.uint32).astype(np.uint64)
    weights = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    found: npt.NDArray[np.uint64] = (words * weights).sum(axis=1, dtype=np.uint64)
    return found


class DamagedShardError(RuntimeError):
    """A shard's vectors are not those that were committed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"vector shard {name} is damaged")
        self.name = name


class VectorStore:
    """The vectors of one space, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []
        self._vectors: list[FloatArray] = []
        self._keys: Keys = np.empty(0, KEY)
        self._shards: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self._rows: npt.NDArray[np.int32] = np.empty(0, np.int32)
        self._checksums: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self.refresh()

    @property
    def dim(self) -> int | None:
        """Length of the stored vectors; None while there are none."""
        return self._vectors[0].shape[1] if self._vectors else None

    def __len__(self) -> int:
        return len(self._keys)

    def refresh(self) -> None:
        """Read again which shards there are; unreadable ones are dropped."""
        self._names, self._vectors, records = [], [], []
        for path in sorted(self.folder.glob("*.keys.npy")):
            name = path.name.removesuffix(".keys.npy")
            try:
                record = np.load(path, allow_pickle=False)
                vectors = np.load(self._vectors_path(name), mmap_mode="r", allow_pickle=False)
                if record.dtype != RECORD or vectors.dtype != np.float32 or len(vectors) != len(record) or vectors.ndim != 2:
                    raise ValueError("keys and vectors do not belong together")
                if self._vectors and vectors.shape[1] != self._vectors[0].shape[1]:
                    raise ValueError(f"vectors of length {vectors.shape[1]} among those of length {self.dim}")
            except (FileNotFoundError, ValueError, EOFError) as error:  # no other OSError: it says nothing about the file
                self._drop(name, str(error))
                continue
            self._names.append(name)
            self._vectors.append(vectors)
            records.append(record)
        self._index(records)

    def _index(self, records: list[npt.NDArray[np.void]]) -> None:
        sizes = [len(record) for record in records]
        merged = np.concatenate(records) if records else np.empty(0, RECORD)
        # A text that is stored twice is always taken from the shard whose name comes first.
        order = np.argsort(merged["key"], kind="stable")
        self._keys = merged["key"][order]
        self._checksums = merged["checksum"][order]
        self._shards = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        counted = [np.arange(size, dtype=np.int32) for size in sizes]
        self._rows = np.concatenate(counted)[order] if counted else np.empty(0, np.int32)

    def locate(self, keys: Keys) -> Places:
        """Return where each key's vector is, (n,) int64, for `read`; -1 for those that are not stored."""
        places = np.searchsorted(self._keys, keys).astype(np.int64)
        inside = places < len(self._keys)
        inside[inside] = self._keys[places[inside]] == keys[inside]
        return np.where(inside, places, -1)

    def read(self, places: Places, dim: int | None = None) -> FloatArray:
        """Return vectors (n, dim) float32 at places; NaN rows for -1. Raises DamagedShardError where checksums differ."""
        result = np.full((len(places), dim or self.dim or 0), np.nan, np.float32)
        stored = np.flatnonzero(places >= 0)
        at = places[stored]
        for shard in np.unique(self._shards[at]).tolist():
            mine = self._shards[at] == shard
            vectors = self._vectors[shard][self._rows[at[mine]]]
            if (checksums(vectors) != self._checksums[at[mine]]).any():
                raise DamagedShardError(self._names[shard])
            result[stored[mine]] = vectors
        return result

    def commit(self, keys: Keys, vectors: FloatArray) -> None:
        """Store vectors (n, dim) float32, durably, as one shard; `locate` finds them after `refresh`.

        Raises InputError for vectors of another length than those stored: a server may have another model by the same name.
        """
        if not len(keys):
            return
        if self.dim not in (None, vectors.shape[1]):
            hint = "if the model behind this name is another one now, remove the folder"
            raise InputError(f"vectors in {self.folder}", f"length {self.dim} as before", f"{vectors.shape[1]}", hint)
        name = uuid.uuid4().hex
        record = np.empty(len(keys), RECORD)
        record["key"], record["checksum"] = keys, checksums(vectors)
        for path, array in ((self._vectors_path(name), vectors), (self.folder / f"{name}.keys.npy", record)):
            with write_aside(path) as aside, aside.open("wb") as file:
                np.save(file, array, allow_pickle=False)

    def drop(self, name: str) -> None:
        """Forget a damaged shard; its texts are embedded again."""
        self._drop(name, "its checksums differ")
        self.refresh()

    def clean(self) -> None:
        """Remove what killed writers left more than a day ago, and note that the space is used."""
        note_use(self.folder)
        remove_abandoned(self.folder.glob(".*.part"))
        committed = {path.name.replace(".keys.npy", ".vectors.npy") for path in self.folder.glob("*.keys.npy")}
        remove_abandoned(path for path in self.folder.glob("*.vectors.npy") if path.name not in committed)

    def _vectors_path(self, name: str) -> Path:
        return self.folder / f"{name}.vectors.npy"

    def _drop(self, name: str, reason: str) -> None:
        logger.warning("dropped vector shard %s, its texts will be embedded again: %s", self.folder / name, reason)
        (self.folder / f"{name}.keys.npy").unlink(missing_ok=True)
        self._vectors_path(name).unlink(missing_ok=True)
