"""Candidates of a block of queries: a part of a table, searched by any worker and put together by `write_candidates`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nv_retriever.data.dataset import Dataset
from nv_retriever.files import read_json, write_aside, write_json
from nv_retriever.search.candidate_table import DOCUMENTS, SCORES
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, Scorer

BLOCK, EXCLUDED_SCORES = "block.json", "excluded-scores.npy"


@dataclass(frozen=True)
class Block:
    """Queries `start` to before `stop` of a split."""

    start: int
    stop: int
    documents: IntArray
    """(stop - start, depth) int32, as in the table."""
    scores: FloatArray
    """(stop - start, depth) float32, as in the table."""
    excluded_scores: FloatArray
    """(n_excluded,) float32, of every document that these queries exclude, in order."""

    @staticmethod
    def open(folder: Path) -> Block:
        """Read what `write_block` wrote."""
        where = read_json(folder / BLOCK)
        arrays = [np.load(folder / name, allow_pickle=False) for name in (DOCUMENTS, SCORES, EXCLUDED_SCORES)]
        return Block(where["start"], where["stop"], *arrays)


def divide(n_queries: int, most: int) -> list[tuple[int, int]]:
    """Return at most `most` ranges (first, after the last) of about the same size that cover all queries.

    >>> divide(10, 4)
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    count = min(most, n_queries)
    bounds = [number * n_queries // count for number in range(count + 1)] if count else []
    return list(itertools.pairwise(bounds))


def search_block(scorer: Scorer, exclusions: Exclusions, start: int, stop: int, depth: int) -> Block:
    """Search some queries of a split, and score every document that they exclude; `exclusions` are the whole split's."""
    rows = np.arange(start, stop)
    excluded = exclusions.take(rows)
    found = scorer.search(rows, depth, excluded)
    excluded_scores = scorer.score_pairs(start + excluded.queries, excluded.documents)
    return Block(start, stop, found.documents, found.scores, excluded_scores)


def write_block(
    folder: Path, scorer: Scorer, dataset: Dataset, split: str, config: SearchConfig, start: int, stop: int
) -> dict[str, Any]:
    """Search a block of queries and write it for `Block.open`; returns the counts for the manifest."""
    exclusions = build_exclusions(dataset, split, config.exclude_same_id)
    block = search_block(scorer, exclusions, start, stop, config.depth)
    arrays = (block.documents, block.scores, block.excluded_scores)
    for name, array in zip((DOCUMENTS, SCORES, EXCLUDED_SCORES), arrays, strict=True):
        with write_aside(folder / name) as aside, aside.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    counts = {"start": start, "stop": stop}
    write_json(folder / BLOCK, counts)
    return counts
