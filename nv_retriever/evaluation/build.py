"""The evaluation stage: retrieve over the whole corpus, measure with ir_measures, keep every query's value."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.evaluation.config import EvaluationConfig
from nv_retriever.evaluation.metrics import aggregate, parse_metrics, per_query
from nv_retriever.evaluation.run_file import RunWriter, strictly_descending, write_run
from nv_retriever.files import write_aside, write_json
from nv_retriever.progress import progress
from nv_retriever.ragged import row_offsets
from nv_retriever.search.types import Exclusions, IntArray, Reason, Scorer, TopK

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

_SEARCH_PAIRS = 1 << 23
"""(query, document) results held at once: the corpus is searched once for so many, 64 MiB."""
_MEASURE_PAIRS = 1 << 18
"""Results that are Python objects at once."""


def write_evaluation(
    folder: Path, scorer: Scorer, dataset: Dataset, split: str, config: EvaluationConfig, model: str
) -> dict[str, Any]:
    """Retrieve `config.depth` documents per query of `split`, measure them, and fill `folder`; returns the summary.

    Files: metrics.json {metric: value}, per_query.parquet (query_id, metric, value), run.trec.gz, evaluation.json (the
    summary). Graded labels count as trec_eval counts them: nDCG by grade, the others from grade 1. Queries of the split
    without a relevant document are left out and counted. Memory is bounded by blocks of queries. Raises InputError for
    an unknown metric or a cutoff beyond the depth.
    """
    measures = parse_metrics(config.metrics, config.depth)
    rows = dataset.query_rows(split)
    if scorer.n_queries != rows.size or scorer.n_documents != dataset.n_documents:
        found = f"{scorer.n_queries} queries, {scorer.n_documents} documents"
        raise InputError(
            f"evaluation of {model}", f"a scorer of {rows.size} queries, {dataset.n_documents} documents", found
        )
    if not rows.size:
        raise InputError(f"data set {dataset.name}, split {split}", "queries with relevant documents", "none")
    excluded = identical_ids(dataset, rows, config.ignore_identical_ids)
    judgements = _Judgements(dataset, split, rows)
    values = np.empty((rows.size, len(measures)))
    folder.mkdir(parents=True, exist_ok=True)
    with write_run(folder / "run.trec.gz", tag=model) as writer, progress("evaluate", rows.size, "queries") as shown:
        for start, top in _search(scorer, rows.size, config.depth, excluded):
            for query, run in _runs(dataset, rows, start, top, writer):
                values[query] = per_query(measures, judgements.take(query), run)
                shown.advance(query.size)
    metrics = aggregate(measures, values)
    write_json(folder / "metrics.json", metrics)
    _write_per_query(folder / "per_query.parquet", dataset.query_ids[rows], list(metrics), values)
    summary = {
        "model": model,
        "dataset": dataset.name,
        "dataset_digest": dataset.info.get("digest"),
        "split": split,
        "queries": int(rows.size),
        "queries_left_out": judgements.left_out,
        "documents": dataset.n_documents,
        "depth": config.depth,
        "ignore_identical_ids": config.ignore_identical_ids,
        "identical_ids": int(excluded.documents.size),
        "score_kind": scorer.score_kind,
        "metrics": metrics,
        "versions": {name: _version(name) for name in ("ir-measures", "pytrec-eval-terrier")},
    }
    write_json(folder / "evaluation.json", summary)
    return summary


def identical_ids(dataset: Dataset, query_rows: IntArray, rule: bool | Literal["auto"]) -> Exclusions:
    """Return exclusions of the document whose id is the query's id, (n_queries,) rows.

    `auto` asks for the same text as well, with or without the title (as mining does): ArguAna's queries are documents,
    Cranfield's query 1 has nothing to do with its document 1.
    """
    if rule is False:
        return Exclusions.none(query_rows.size)
    documents, queries = dataset.document_ids, dataset.query_ids[query_rows]
    rows = np.searchsorted(documents, queries)
    same = np.zeros(queries.size, bool)
    inside = rows < documents.size
    same[inside] = documents[rows[inside]] == queries[inside]
    if rule == "auto" and same.any():
        theirs, asked = rows[same], dataset.query_hashes[query_rows[same]]
        same[same] = (dataset.document_text_hashes[theirs] == asked) | (dataset.document_hashes[theirs] == asked)
    found = rows[same].astype(np.int32)
    return Exclusions(row_offsets(same), found, np.full(found.size, Reason.QUERY_ID, np.uint8))


def _search(scorer: Scorer, queries: int, depth: int, excluded: Exclusions) -> Iterator[tuple[int, TopK]]:
    block = max(1, _SEARCH_PAIRS // depth)
    for start in range(0, queries, block):
        rows = np.arange(start, min(start + block, queries), dtype=np.int32)
        yield start, scorer.search(rows, depth, excluded.take(rows))


def _runs(
    dataset: Dataset, rows: IntArray, start: int, top: TopK, writer: RunWriter
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, dict[str, float]]]]:
    """Yield (indices of queries, their results by id), written to the run file on the way."""
    block = max(1, _MEASURE_PAIRS // max(1, top.documents.shape[1]))
    for first in range(0, top.documents.shape[0], block):
        documents = top.documents[first : first + block]
        scores = strictly_descending(top.scores[first : first + block])
        queries = np.arange(documents.shape[0]) + start + first
        run: dict[str, dict[str, float]] = {}
        for query, found, values in zip(dataset.query_ids[rows[queries]], documents, scores, strict=True):
            kept = found >= 0
            names, numbers = dataset.document_ids[found[kept]].tolist(), values[kept].tolist()
            writer.add(query, names, numbers)
            run[query] = dict(zip(names, numbers, strict=True))
        yield queries, run


class _Judgements:
    """The labels of a split, all grades, of the queries that have a relevant document."""

    def __init__(self, dataset: Dataset, split: str, rows: IntArray) -> None:
        qrels = dataset.qrels(split)
        self.dataset, self.rows = dataset, rows
        order = np.argsort(qrels.query_rows, kind="stable")
        self._documents, self._grades = qrels.document_rows[order], qrels.grades[order]
        sorted_rows = qrels.query_rows[order]
        self._first, self._last = np.searchsorted(sorted_rows, rows, "left"), np.searchsorted(sorted_rows, rows, "right")
        self.left_out = int(np.setdiff1d(sorted_rows, rows).size)

    def take(self, queries: npt.NDArray[np.int64]) -> dict[str, dict[str, int]]:
        """Return the labels of some of the split's queries by id, in their order."""
        result = {}
        for query in queries:
            part = slice(self._first[query], self._last[query])
            names = self.dataset.document_ids[self._documents[part]].tolist()
            result[self.dataset.query_ids[self.rows[query]]] = dict(zip(names, self._grades[part].tolist(), strict=True))
        return result


def _write_per_query(
    path: Path, query_ids: npt.NDArray[np.object_], names: list[str], values: npt.NDArray[np.float64]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "query_id": pa.array(np.tile(query_ids, len(names)), pa.string()),
        "metric": pa.array(np.repeat(names, len(query_ids)), pa.string()),
        "value": pa.array(values.T.ravel(), pa.float64()),
    }
    with write_aside(path) as aside:
        pq.write_table(pa.table(columns), aside, compression="zstd")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
