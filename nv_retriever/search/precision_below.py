"""Which format finds the documents below limits soonest: what lies within its bound of a limit has to be scored exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.hardware import Device
from nv_retriever.search import int8_products
from nv_retriever.search.mapped import VectorSource, gather
from nv_retriever.search.precision import FP32, INT8, Precision, float_precision
from nv_retriever.search.prepared import prepare_documents, prepare_queries
from nv_retriever.search.types import FloatArray

_ROWS, _DOCUMENTS = 128, 2048
"""Searches and documents that are looked at."""
_CELL = {"fp32": 1.0, "bf16": 0.45, "int8": 0.5}
"""What a cell of a product costs, where it is not emulated."""
_PAIR = 16.0
"""What scoring a pair exactly costs, in cells of fp32."""
SMALL = 1 << 25
"""Cells of a product that takes no longer than looking at a sample."""


def precision_below(
    queries: VectorSource,
    documents: VectorSource,
    query_rows: npt.NDArray[np.integer],
    limits: FloatArray,
    device: Device,
) -> Precision:
    """Return the format whose products and exact scores cost least, by a sample; no result depends on it.

    Searches `query_rows` (n,) with `limits` (n,); those of one query share its products.
    """
    formats = list(dict.fromkeys([FP32, float_precision(device)]))
    if device == "cpu" and int8_products.fast():
        formats.append(INT8)
    n_queries = len(np.unique(query_rows))
    some = np.flatnonzero(np.isfinite(limits))
    some = some[np.linspace(0, len(some) - 1, min(_ROWS, len(some))).astype(np.int64)]
    if len(formats) == 1 or not len(some) or n_queries * documents.n < SMALL:
        return FP32
    left = gather(queries, query_rows[some])
    right = gather(documents, np.linspace(0, documents.n - 1, min(_DOCUMENTS, documents.n)).astype(np.int64))
    scores = torch.from_numpy(left) @ torch.from_numpy(right).T
    distances = (scores - torch.from_numpy(limits[some, None])).abs()

    def cost(precision: Precision) -> float:
        """Return the cost of a document, in cells of fp32."""
        asked, stored = prepare_queries(left.copy(), precision, "cpu").side, prepare_documents(right, precision, "cpu").side
        added = asked.set_thresholds(torch.from_numpy(limits[some].astype(np.float64)), stored)
        bounds = asked.widths(added, stored) * asked.scales * stored.scale / 2
        near = float((distances <= bounds[:, None]).double().mean())
        return n_queries * _CELL[precision.name] + len(query_rows) * near * _PAIR

    return min(formats, key=cost)
