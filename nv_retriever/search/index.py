"""FAISS behind one small class: exact and approximate nearest-neighbour indexes over vectors on disk, on CPU and GPU."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.ragged import Index
from nv_retriever.search.mapped import VectorSource, gather, stream
from nv_retriever.search.types import FloatArray

_GPU_MOST = 2048
"""FAISS's GPU indexes return no more neighbours than this."""
_TRAINING_ROWS = 64
"""Per list: what k-means needs."""
_BLOCK = 65_536

PARAMETERS: dict[str, dict[str, int]] = {
    "exact": {},
    "flat": {},
    "ivf": {"nlist": 1024, "nprobe": 32},
    "ivfpq": {"nlist": 1024, "nprobe": 32, "m": 48, "bits": 8},
    "hnsw": {"m": 32, "ef_construction": 80, "ef_search": 256},
}
"""Names and defaults. `exact` is this project's own search, `flat` FAISS's."""


@dataclass(frozen=True)
class IndexName:
    """What an index is called in configurations and tables, e.g. `ivf(nlist=1024, nprobe=32)`; `str` gives it back."""

    kind: str
    parameters: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def parse(text: str) -> IndexName:
        """Return the name with defaults filled in; raises InputError for unknown kinds and parameters.

        >>> str(IndexName.parse("ivf(nprobe=8)"))
        'ivf(nlist=1024, nprobe=8)'
        """
        match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
        if not match or match[1] not in PARAMETERS:
            raise InputError("index", f"one of {', '.join(PARAMETERS)}, such as ivf(nlist=1024, nprobe=32)", repr(text))
        kind, values = match[1], dict(PARAMETERS[match[1]])
        for part in filter(None, (piece.strip() for piece in (match[2] or "").split(","))):
            given = re.fullmatch(r"(\w+)\s*=\s*([1-9]\d*)", part)
            if not given or given[1] not in values:
                expected = f"{kind} with {', '.join(values) or 'no parameters'}, each a positive number"
                raise InputError("index", expected, repr(part))
            values[given[1]] = int(given[2])
        return IndexName(kind, tuple(values.items()))

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={value}" for key, value in self.parameters)
        return f"{self.kind}({inside})" if inside else self.kind

    def __getitem__(self, key: str) -> int:
        return dict(self.parameters)[key]


class FaissIndex:
    """A FAISS inner-product index; rows that are not finite are zeros in it and never returned."""

    def __init__(self, name: IndexName, index: Any, quarantined: Index) -> None:
        self.name, self.quarantined = name, quarantined
        self._index = index

    @property
    def n(self) -> int:
        """Rows, quarantined ones included."""
        return int(self._index.ntotal)

    @staticmethod
    def build(
        name: IndexName, documents: VectorSource, quarantined: npt.NDArray[np.integer], device: str = "cpu"
    ) -> FaissIndex:
        """Train on a sample of the rows and add all of them, block by block."""
        index = _empty(name, documents)
        if not index.is_trained:
            wanted = min(documents.n, _TRAINING_ROWS * max(_lists(name, documents.n), 256))
            rows = np.unique(np.linspace(0, documents.n - 1, wanted).astype(np.int64))
            index.train(np.nan_to_num(gather(documents, rows), nan=0, posinf=0, neginf=0))
        index = _to_device(index, name, device)
        for _, block in stream(documents, _BLOCK):
            finite = np.isfinite(block).all(axis=1, keepdims=True)
            index.add(np.ascontiguousarray(np.where(finite, block, np.float32(0))))
        return FaissIndex(name, index, np.asarray(quarantined, np.int64))

    @staticmethod
    def open(path: Path, name: IndexName, quarantined: npt.NDArray[np.integer], device: str = "cpu") -> FaissIndex:
        """Open an index file, memory-mapped where its kind allows it."""
        faiss = _faiss()
        try:
            index = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", faiss.IO_FLAG_MMAP))
        except RuntimeError:
            index = faiss.read_index(str(path))
        return FaissIndex(name, _to_device(index, name, device), np.asarray(quarantined, np.int64))

    def save(self, path: Path) -> None:
        """Write the index file."""
        _faiss().write_index(_to_cpu(self._index), str(path))

    def neighbours(self, queries: FloatArray, k: int) -> Index:
        """Return the rows of the k (approximately) nearest documents, int64 (n, k), -1 where there are no more."""
        faiss = _faiss()
        index, name = self._index, self.name
        k = min(k, self.n)
        if k > _GPU_MOST:
            index = _to_cpu(index)
        parameters = None
        if name.kind in ("ivf", "ivfpq"):
            parameters = faiss.SearchParametersIVF(nprobe=min(name["nprobe"], _lists(name, self.n)))
        elif name.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(name["ef_search"], k))
        vectors = np.ascontiguousarray(np.nan_to_num(queries, nan=0, posinf=0, neginf=0), np.float32)
        found: Index = index.search(vectors, k, params=parameters)[1]
        if len(self.quarantined):
            found = np.where(np.isin(found, self.quarantined), -1, found)
        return found


def _faiss() -> Any:
    """Import FAISS where it is needed; its type stubs lack classes that it has."""
    return importlib.import_module("faiss")


def gpus() -> int:
    """Return how many GPUs FAISS can use; 0 with faiss-cpu. Its GPU calls abort the process where this is 0."""
    faiss = _faiss()
    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def _lists(name: IndexName, n: int) -> int:
    """Return the number of lists: no more than the corpus can train."""
    return max(1, min(name["nlist"], n // 16))


def _empty(name: IndexName, documents: VectorSource) -> Any:
    faiss = _faiss()
    dim, metric = documents.dim, faiss.METRIC_INNER_PRODUCT
    if name.kind == "flat":
        return faiss.IndexFlatIP(dim)
    if name.kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, name["m"], metric)
        index.hnsw.efConstruction = name["ef_construction"]
        return index
    quantizer = faiss.IndexFlatIP(dim)
    lists = _lists(name, documents.n)
    if name.kind == "ivf":
        index = faiss.IndexIVFFlat(quantizer, dim, lists, metric)
    elif name.kind == "ivfpq":
        if dim % name["m"]:
            raise InputError("index", f"m that divides the {dim} numbers of a vector", f"m={name['m']}")
        bits = min(name["bits"], max(1, int(np.log2(max(documents.n, 2)))))
        index = faiss.IndexIVFPQ(quantizer, dim, lists, name["m"], bits, metric)
        index.pq.cp.min_points_per_centroid = 1
    else:
        raise InputError("index", "a FAISS index", str(name))
    index.own_fields = True
    quantizer.this.disown()
    index.cp.min_points_per_centroid = 1
    return index


def _to_device(index: Any, name: IndexName, device: str) -> Any:
    """Return the index on the first GPU, where there is one; what a GPU computes only with some parameters stays.

    Not on all GPUs: replicas take no search parameters, and are no index that can be written.
    """
    if device != "cuda" or not gpus() or name.kind not in ("flat", "ivf"):
        return index
    faiss = _faiss()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _to_cpu(index: Any) -> Any:
    """Return the index on the CPU."""
    return _faiss().index_gpu_to_cpu(index) if gpus() and "Gpu" in type(index).__name__ else index
