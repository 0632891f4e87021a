"""Where the k-th best score of a query probably lies, read off a sample of the corpus; the search checks and corrects it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.ragged import Index
from nv_retriever.search.blockwise import Search
from nv_retriever.search.prepared import Prepared
from nv_retriever.search.proposals import Documents
from nv_retriever.search.tile import Tile, Workers
from nv_retriever.search.types import Exclusions, FloatArray

SHARE, FEWEST, MOST = 12, 1024, 8192
"""A sample is 1 / SHARE of the corpus, within bounds."""
_QUERIES = 512
_GROUP = 8
"""Only the best of so many sampled documents is looked at: half the truth, a tenth of the time."""


@dataclass(frozen=True)
class Sample:
    """Some documents."""

    rows: Index
    """(m,) ascending."""
    documents: Prepared[Documents]


def sample_rows(n_documents: int, most: int) -> Index:
    """Return pseudo-random rows, one from each of equal strata, ascending; all rows of a small corpus."""
    m = min(max(n_documents // SHARE, FEWEST), MOST, most) // _GROUP * _GROUP or 1
    if n_documents <= min(4 * m, most):
        return np.arange(n_documents)
    within = np.random.default_rng(0).random(m)
    return np.minimum(((np.arange(m) + within) * n_documents / m).astype(np.int64), n_documents - 1)


def guess_thresholds(search: Search, sample: Sample, n_documents: int, deeper: int, workers: Workers) -> FloatArray:
    """Return for each query a score that a little more than k allowed documents below its limit are likely to reach.

    (n,) float32. Where the sample has too few below a limit, it is the sample's lowest score (a threshold of -inf would make
    the cells of all the query's rows large, and so coarse); in later passes, or without limits, -inf. `deeper` multiplies
    how many documents are aimed at. It is a true lower bound of the k-th best where the sample is the corpus.
    """
    queries, documents = search.queries.side, sample.documents.side
    rounds = search.rounds
    m, n = len(sample.rows), len(search.queries.vectors)
    added = queries.set_thresholds(torch.zeros_like(queries.scales), documents)
    width = queries.widths(added, documents).cpu().numpy()[rounds.columns]
    scales = queries.scales.cpu().numpy()[rounds.columns] * documents.scale
    whole = m == n_documents
    rank = (search.k if deeper == 1 else m + 1) if whole else _rank(search.k * deeper * (m / n_documents))
    found = np.full(len(rounds.columns), -np.inf)
    if rank <= m:
        step = max(8, min(_QUERIES, 4 * workers.cells // m // 8 * 8))

        def read(_: Tile, low: int) -> None:
            """Find the guesses of the rows whose queries lie in one tile."""
            part = slice(low, min(low + step, n))
            scores = queries.against(documents, part)(slice(0, m))
            _strike(scores, search, sample, part)
            lowest = None if search.limits is None or whole or deeper > 1 else _lowest(scores)
            for rows in rounds.within(part.start, part.stop):
                nth = _nth(_below(scores[:, : rows.stop - rows.start], search, rows, scales), rank)
                found[rows] = nth if lowest is None else np.where(np.isneginf(nth), lowest[: len(nth)], nth)

        workers.map(read, range(0, n, step))
    # Products lie above the scores by half their width on average. A guess may be too high, unless it has to be a proof.
    found -= width * (1.0 if whole else 0.5)
    with np.errstate(over="ignore", invalid="ignore"):
        guesses = np.nextafter((found * scales).astype(np.float32), np.float32(-np.inf), dtype=np.float32)
    return np.where(np.isfinite(guesses), guesses, np.float32(-np.inf))


def _rank(expected: float) -> int:
    """Return a rank in the sample that lies above the corpus's k-th best a few times in a million (Poisson).

    One query that fails costs a pass over all documents.
    """
    return math.ceil(expected + 4.3 * math.sqrt(expected) + 4)


def _strike(scores: torch.Tensor, search: Search, sample: Sample, part: slice) -> None:
    """Take what is excluded or quarantined out of a sample's scores (m, tile)."""
    rows, columns = _excluded(search.excluded, sample.rows, part)
    scores[torch.from_numpy(rows).to(scores.device), torch.from_numpy(columns).to(scores.device)] = -torch.inf
    scores[torch.from_numpy(np.flatnonzero(~sample.documents.finite)).to(scores.device)] = -torch.inf


def _below(scores: torch.Tensor, search: Search, rows: slice, scales: npt.NDArray[np.float64]) -> torch.Tensor:
    """Return a sample's scores (m, n) without those that are not below the limits of some rows (n)."""
    if search.limits is None:
        return scores
    with np.errstate(over="ignore"):
        limits = (search.limits[rows].astype(np.float64) / scales[rows]).astype(np.float32)
    return scores.masked_fill(scores >= torch.from_numpy(limits).to(scores.device), -torch.inf)


def _excluded(excluded: Exclusions, sampled: Index, part: slice) -> tuple[Index, Index]:
    inside = slice(int(excluded.offsets[part.start]), int(excluded.offsets[part.stop]))
    documents = excluded.documents[inside].astype(np.int64)
    columns = np.repeat(np.arange(part.stop - part.start), np.diff(excluded.offsets[part.start : part.stop + 1]))
    rows = np.minimum(np.searchsorted(sampled, documents), len(sampled) - 1)
    there = sampled[rows] == documents
    return rows[there], columns[there]


def _lowest(scores: torch.Tensor) -> npt.NDArray[np.floating]:
    """Return the smallest finite value of each column, (m, n) -> (n,); -inf without one."""
    smallest: npt.NDArray[np.floating] = (
        scores.masked_fill(scores == -torch.inf, torch.inf).amin(dim=0).float().cpu().numpy()
    )
    return np.where(np.isposinf(smallest), -np.inf, smallest)


def _nth(scores: torch.Tensor, rank: int) -> npt.NDArray[np.floating]:
    """Return the rank-th largest value of each column, (m, n) -> (n,), or a little less."""
    m = len(scores)
    if m % _GROUP == 0 and rank * 4 * _GROUP <= m:
        groups = scores.view(_GROUP, m // _GROUP, -1)
        scores = groups[0]
        for other in groups[1:]:
            scores = torch.maximum(scores, other)
    if scores.device.type != "cpu":
        return scores.float().T.contiguous().topk(rank, dim=1, sorted=False).values.amin(dim=1).cpu().numpy()
    rows = scores.T.float().neg().contiguous().numpy()  # numpy's partition is slow where many of the smallest are equal
    rows.partition(rank - 1, axis=1)
    nth: npt.NDArray[np.floating] = -rows[:, rank - 1]
    return nth
