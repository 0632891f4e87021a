"""The index stage: search every query of a split once, and score every document that it excludes."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import GateError, InputError
from nv_retriever.files import read_json, write_aside, write_json
from nv_retriever.mapped_file import create_mapped
from nv_retriever.progress import progress
from nv_retriever.search.blocks import EXCLUDED_SCORES, Block, search_block
from nv_retriever.search.candidate_table import COLUMNS, DOCUMENTS, EXCLUDED, INFO, SCORES
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Exclusions, FloatArray, IntArray, Scorer

logger = logging.getLogger(__name__)
DONE = "blocks.json"
"""Which blocks are finished; gone, as the excluded scores are, when the table is complete."""
PAIRS_PER_BLOCK = 1 << 35
"""Query-document pairs in one block of queries: what a kill may cost, a few minutes on two cores."""
FEWEST_ROWS, MOST_ROWS = 1024, 1 << 15


def write_candidates(
    folder: Path,
    scorer: Scorer,
    dataset: Dataset,
    split: str,
    config: SearchConfig,
    teacher: str,
    blocks: Iterable[Path] = (),
) -> dict[str, Any]:
    """Fill `folder` with the candidate table of a split, block by block; a block that was finished is not searched again.

    `blocks` are folders that `write_block` filled elsewhere: their queries are taken over. Returns the counts for the
    manifest. Raises InputError where the scorer is not over this data set's documents and the split's queries, GateError
    where more vectors are quarantined, or fewer candidates are recalled, than `config` allows.
    """
    rows = dataset.query_rows(split)
    if (scorer.n_queries, scorer.n_documents) != (len(rows), dataset.n_documents):
        expected = f"{len(rows)} queries and {dataset.n_documents} documents, as in {dataset.name}/{split}"
        raise InputError(f"teacher {teacher}", expected, f"{scorer.n_queries} and {scorer.n_documents}")
    quarantine = check_quarantine(scorer, dataset, rows, config.max_quarantined, teacher)
    exclusions = build_exclusions(dataset, split, config.exclude_same_id)
    searcher, index_info = _with_index(folder, scorer, config)
    work = _Work(folder, exclusions, config.depth, dataset.n_documents)
    work.take_over(map(Block.open, blocks))
    with progress(f"search {teacher}", len(rows), "queries") as bar:
        for start, stop in work.blocks():
            if start not in work.done:
                work.commit(search_block(searcher, exclusions, start, stop, config.depth))
            bar.advance(stop - start)
    _write_excluded(folder, dataset, split, exclusions, work.excluded_scores)
    missing = int((work.documents < 0).sum())
    info = {
        "teacher": teacher,
        "score_kind": scorer.score_kind,
        "split": split,
        "queries": len(rows),
        "documents": dataset.n_documents,
        "depth": config.depth,
        "candidates": work.documents.size - missing,
        "excluded": len(exclusions.documents),
        "exclude_same_id": config.exclude_same_id,
        **quarantine,
        **index_info,
    }
    write_json(folder / INFO, info)
    work.close()
    return info


def check_quarantine(scorer: Scorer, dataset: Dataset, query_rows: IntArray, allowed: float, teacher: str) -> dict[str, Any]:
    """Return how many vectors are not finite; raises GateError where they are more than the share `allowed`."""
    info: dict[str, Any] = {}
    for what, total in (("documents", scorer.n_documents), ("queries", scorer.n_queries)):
        bad: npt.NDArray[np.integer] = getattr(scorer, f"quarantined_{what}", np.empty(0, np.int64))
        info[f"quarantined_{what}"] = len(bad)
        if len(bad) > allowed * total:
            ids = dataset.document_ids[bad[:5]] if what == "documents" else dataset.query_ids[query_rows[bad[:5]]]
            raise GateError(
                f"{len(bad)} of {total} {what} have vectors of {teacher} that are not finite "
                f"(ids {', '.join(map(repr, ids))}); search.max_quarantined allows a share of {allowed:g}"
            )
        if len(bad):
            logger.warning("%d of %d %s are quarantined: vectors of %s are not finite", len(bad), total, what, teacher)
    return info


def _with_index(folder: Path, scorer: Scorer, config: SearchConfig) -> tuple[Scorer, dict[str, Any]]:
    """Return the scorer that searches: the exact one itself, or an approximate index over its vectors."""
    if config.index == "exact":
        return scorer, {"index": "exact"}
    from nv_retriever.search.approximate import approximate_scorer

    searcher = approximate_scorer(scorer, config.index, folder)
    recall = searcher.measure_recall(min(config.depth, scorer.n_documents))
    if recall < config.min_recall:
        hint = "raise nprobe or ef_search, or use the index `exact`"
        found = f"{searcher.name} finds {recall:.4f} of the exact candidates, {config.min_recall} are wanted"
        raise GateError(f"{found}; {hint}")
    return searcher, {"index": searcher.name, "recall": round(recall, 6)}


class _Work:
    """Memory-mapped outputs, and which blocks of queries are finished."""

    def __init__(self, folder: Path, exclusions: Exclusions, depth: int, n_documents: int) -> None:
        """Go on from the blocks that a killed build finished, or start."""
        self.folder, self.exclusions = folder, exclusions
        n_queries, n_excluded = len(exclusions.offsets) - 1, len(exclusions.documents)
        self.rows_per_block = max(FEWEST_ROWS, min(MOST_ROWS, PAIRS_PER_BLOCK // max(n_documents, 1)))
        self.layout = {"queries": n_queries, "depth": depth, "excluded": n_excluded, "rows_per_block": self.rows_per_block}
        self.done = self._finished()
        fresh = not self.done
        if fresh:
            (folder / DONE).unlink(missing_ok=True)
        self.documents: npt.NDArray[np.int32] = _memmap(folder / DOCUMENTS, np.int32, (n_queries, depth), fresh)
        self.scores: FloatArray = _memmap(folder / SCORES, np.float32, (n_queries, depth), fresh)
        self.excluded_scores: FloatArray = _memmap(folder / EXCLUDED_SCORES, np.float32, (n_excluded,), fresh)

    def _finished(self) -> list[int]:
        try:
            state = read_json(self.folder / DONE)
            there = all((self.folder / name).exists() for name in (DOCUMENTS, SCORES, EXCLUDED_SCORES))
            return list(state["done"]) if there and state["layout"] == self.layout else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def blocks(self) -> list[tuple[int, int]]:
        """Return (first, after the last) query of every block."""
        n = len(self.documents)
        return [(start, min(start + self.rows_per_block, n)) for start in range(0, n, self.rows_per_block)]

    def take_over(self, blocks: Iterable[Block]) -> None:
        """Copy what was searched elsewhere; own blocks that are covered by it are finished."""
        covered = np.zeros(len(self.documents), bool)
        for block in blocks:
            self._put(block)
            covered[block.start : block.stop] = True
        self.done += [start for start, stop in self.blocks() if covered[start:stop].all() and start not in self.done]

    def commit(self, block: Block) -> None:
        """Write one of the own blocks, which counts once it is on disk."""
        self._put(block)
        for array in (self.documents, self.scores, self.excluded_scores):
            if isinstance(array, np.memmap):
                array.flush()
        self.done.append(block.start)
        write_json(self.folder / DONE, {"layout": self.layout, "done": self.done})

    def _put(self, block: Block) -> None:
        rows = slice(block.start, block.stop)
        first, stop = self.exclusions.offsets[[block.start, block.stop]]
        self.documents[rows], self.scores[rows] = block.documents, block.scores
        self.excluded_scores[first:stop] = block.excluded_scores

    def close(self) -> None:
        """Remove what only a resumed build needs."""
        for name in (DONE, EXCLUDED_SCORES):
            (self.folder / name).unlink(missing_ok=True)


def _memmap(path: Path, dtype: Any, shape: tuple[int, ...], fresh: bool) -> npt.NDArray[Any]:
    """Open a .npy file for writing; empty arrays can't be mapped and are plain."""
    if 0 in shape:
        np.save(path, np.empty(shape, dtype), allow_pickle=False)
        return np.empty(shape, dtype)
    if fresh:
        return create_mapped(path, dtype, shape)
    return np.lib.format.open_memmap(path, mode="r+", dtype=dtype, shape=shape)


def _write_excluded(folder: Path, dataset: Dataset, split: str, exclusions: Exclusions, scores: FloatArray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    queries = exclusions.queries
    labels = _labels(dataset, split, queries, exclusions.documents)
    columns = (queries, exclusions.documents, exclusions.reasons, *labels, np.asarray(scores))
    with write_aside(folder / EXCLUDED) as path:
        pq.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), path, compression="zstd")


def _labels(
    dataset: Dataset, split: str, queries: npt.NDArray[np.integer], documents: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return each pair's grade (the split's, else the highest of any split, else 0) and whether it is the split's positive.

    `queries` (n,) index the split's queries, `documents` (n,) are rows.
    """
    keys = dataset.query_rows(split).astype(np.int64)[queries] * dataset.n_documents + documents
    grades = np.zeros(len(keys), np.int32)
    for name in (None, split):  # the split comes last: its label wins, and says whether the pair is its positive
        labels = dataset.qrels(name)
        known = labels.query_rows.astype(np.int64) * dataset.n_documents + labels.document_rows
        order = np.lexsort((labels.grades, known))
        at = np.searchsorted(known[order], keys, side="right") - 1
        found = at >= 0
        found[found] = known[order][at[found]] == keys[found]
        grades[found] = labels.grades[order][at[found]]
        in_split = found & (grades >= dataset.min_grade)
    return grades, in_split
