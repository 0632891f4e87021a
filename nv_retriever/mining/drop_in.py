"""For users of `sentence_transformers.util.mine_hard_negatives`: the same main arguments, a `datasets.Dataset` back.

    from nv_retriever.mining.drop_in import mine_hard_negatives

docs/mining.md lists every difference with its reason. What this function cannot honour is no argument of it, so that a
call fails instead of ignoring it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from nv_retriever.data.records import shorten
from nv_retriever.errors import InputError
from nv_retriever.mining.anchor import Anchor
from nv_retriever.mining.library import MiningResult, check_count, mine
from nv_retriever.mining.naming import number_text

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)
Format = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]


def mine_hard_negatives(
    dataset: Dataset,
    model: SentenceTransformer,
    anchor_column_name: str | None = None,
    positive_column_name: str | None = None,
    corpus: list[str] | None = None,
    *,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    num_negatives: int = 3,
    sampling_strategy: Literal["random", "top"] = "top",
    query_prompt_name: str | None = None,
    query_prompt: str | None = None,
    corpus_prompt_name: str | None = None,
    corpus_prompt: str | None = None,
    output_format: Format = "triplet",
    output_scores: bool = False,
    batch_size: int = 32,
    anchor: Anchor = "each",
    seed: int = 0,
) -> Dataset:
    """Return (anchor, positive) pairs with hard negatives; arguments as in sentence-transformers, `anchor` and `seed` ours.

    `range_min` skips raw ranks, `range_max` is the last rank that is looked at (default: as deep as it takes), the other
    limits all apply. `random` draws by softmax of the scores. Raises InputError for arguments without effect.
    """
    if sampling_strategy not in ("top", "random") or output_format not in (
        "triplet",
        "n-tuple",
        "labeled-pair",
        "labeled-list",
    ):
        raise InputError(
            "mine_hard_negatives", "a known sampling_strategy and output_format", f"{sampling_strategy}, {output_format}"
        )
    if not hasattr(model, "encode_query"):
        raise InputError("model", "a SentenceTransformer", type(model).__name__)
    columns = _columns(dataset, anchor_column_name, positive_column_name)
    anchors, positives = (_texts(dataset[name], f"column {name!r}") for name in columns)
    queries = list(dict.fromkeys(anchors))
    documents = list(dict.fromkeys([*_texts([] if corpus is None else corpus, "corpus"), *positives]))
    _check_range(range_min, range_max, num_negatives)
    window = (range_max - range_min) if range_max is not None else 10 * num_negatives
    selection = f"top({num_negatives})" if sampling_strategy == "top" else f"sample({num_negatives}, of={window})"
    row_of = {text: row for row, text in enumerate(queries)}, {text: row for row, text in enumerate(documents)}
    encode: dict[str, Any] = {"batch_size": batch_size, "normalize_embeddings": True, "convert_to_numpy": True}
    found = mine(
        model.encode_query(queries, prompt_name=query_prompt_name, prompt=query_prompt, **encode),
        model.encode_document(documents, prompt_name=corpus_prompt_name, prompt=corpus_prompt, **encode),
        [(row_of[0][query], row_of[1][positive]) for query, positive in zip(anchors, positives, strict=True)],
        query_texts=queries,
        document_texts=documents,
        rule=_rule(range_min, max_score, absolute_margin, relative_margin),
        selection=selection,
        min_score=min_score,
        anchor=anchor,
        seed=seed,
        depth=range_max if range_max is not None else max(100, range_min + 10 * num_negatives),
        deepen=range_max is None,
    )
    if found.short.num_rows:
        texts = "%d of %d (anchor, positive) pairs have fewer than %d negatives: %s"
        facts = found.statistics["samples"], num_negatives, found.statistics["short_reasons"]
        logger.warning(texts, found.short.num_rows, *facts)
    return _FORMATS[output_format](found, queries, documents, columns, num_negatives, output_scores)


def _texts(values: Iterable[Any], name: str) -> list[str]:
    """Return the texts; a single text is not taken for the list of its characters."""
    if isinstance(values, str):
        raise InputError(name, "a list of texts", "one text")
    texts = list(values)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"{name} row {row}", "a text", shorten(text))
    return texts


def _columns(dataset: Dataset, anchor: str | None, positive: str | None) -> tuple[str, str]:
    names = getattr(dataset, "column_names", None)
    if not isinstance(names, list):
        raise InputError("dataset", "a datasets.Dataset (one split)", type(dataset).__name__)
    if len(names) < 2 or not len(dataset):
        raise InputError("dataset", "rows with an anchor and a positive", f"{len(dataset)} rows of {names}")
    for name in (anchor, positive):
        if name is not None and name not in names:
            raise InputError("column name", f"one of {', '.join(names)}", repr(name))
    columns = anchor or names[0], positive or names[1]
    if columns[0] == columns[1]:
        raise InputError("column names", "an anchor and another column for the positive", f"{columns[0]!r} for both")
    return columns


def _check_range(range_min: int, range_max: int | None, num_negatives: int) -> None:
    check_count("num_negatives", num_negatives)
    check_count("range_min", range_min, least=0)
    if range_max is None:
        return
    check_count("range_max", range_max)
    if range_max - range_min < num_negatives:
        raise InputError("range_max", f"at least range_min + num_negatives = {range_min + num_negatives}", str(range_max))


def _rule(range_min: int, max_score: float | None, absolute: float | None, relative: float | None) -> str:
    """Return the name of the rule that all limits make together."""
    parts = [f"topk-shift({range_min})"] if range_min else []
    parts += [f"topk-abs({number_text(max_score)})"] if max_score is not None else []
    parts += [f"topk-marginpos({number_text(absolute)})"] if absolute is not None else []
    parts += [f"topk-percpos({number_text(round(1 - relative, 12))})"] if relative is not None else []
    return "&".join(parts) or "topk"


Columns = tuple[str, str]


def _triplets(
    found: MiningResult, queries: list[str], documents: list[str], columns: Columns, wanted: int, scores: bool
) -> Dataset:
    data: dict[str, list[Any]] = {
        columns[0]: [queries[row] for row in found.query.tolist()],
        columns[1]: [documents[row] for row in found.positive.tolist()],
        "negative": [documents[row] for row in found.negative.tolist()],
    }
    if scores:
        data["scores"] = np.stack([found.positive_score, found.negative_score], 1).tolist()
    return _dataset(data)


def _samples(found: MiningResult) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each sample's negatives."""
    changed = np.flatnonzero((np.diff(found.query) != 0) | (np.diff(found.positive) != 0)) + 1
    return [part for part in np.split(np.arange(len(found)), changed) if len(part)]


def _tuples(
    found: MiningResult, queries: list[str], documents: list[str], columns: Columns, wanted: int, scores: bool
) -> Dataset:
    names = [columns[0], columns[1], *(f"negative_{number}" for number in range(1, wanted + 1))]
    data: dict[str, list[Any]] = {name: [] for name in [*names, *(["scores"] if scores else [])]}
    for rows in _samples(found):
        if len(rows) < wanted:
            continue
        texts = [queries[found.query[rows[0]]], documents[found.positive[rows[0]]]]
        texts += [documents[row] for row in found.negative[rows].tolist()]
        for name, text in zip(names, texts, strict=True):
            data[name].append(text)
        if scores:
            data["scores"].append(_sample_scores(found, rows))
    return _dataset(data)


def _lists(
    found: MiningResult, queries: list[str], documents: list[str], columns: Columns, wanted: int, scores: bool
) -> Dataset:
    last = "scores" if scores else "labels"
    data: dict[str, list[Any]] = {columns[0]: [], columns[1]: [], last: []}
    for rows in _samples(found):
        data[columns[0]].append(queries[found.query[rows[0]]])
        data[columns[1]].append([documents[row] for row in [found.positive[rows[0]], *found.negative[rows].tolist()]])
        data[last].append(_sample_scores(found, rows) if scores else [1, *[0] * len(rows)])
    return _dataset(data)


def _pairs(
    found: MiningResult, queries: list[str], documents: list[str], columns: Columns, wanted: int, scores: bool
) -> Dataset:
    """Each (query, document) once: several positives of a query may share a negative."""
    last = "score" if scores else "label"
    seen: dict[tuple[int, int], Any] = {}
    for rows in _samples(found):
        query = int(found.query[rows[0]])
        values = _sample_scores(found, rows) if scores else [1, *[0] * len(rows)]
        for row, value in zip([int(found.positive[rows[0]]), *found.negative[rows].tolist()], values, strict=True):
            seen.setdefault((query, row), value)
    data: dict[str, list[Any]] = {
        columns[0]: [queries[query] for query, _ in seen],
        columns[1]: [documents[row] for _, row in seen],
        last: list(seen.values()),
    }
    return _dataset(data)


def _sample_scores(found: MiningResult, rows: npt.NDArray[np.intp]) -> list[float]:
    return [float(found.positive_score[rows[0]]), *found.negative_score[rows].tolist()]


def _dataset(data: dict[str, list[Any]]) -> Dataset:
    from datasets import Dataset as Made

    return Made.from_dict(data)


_FORMATS = {"triplet": _triplets, "n-tuple": _tuples, "labeled-pair": _pairs, "labeled-list": _lists}
