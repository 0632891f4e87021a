"""For users of `sentence_transformers.util.mine_hard_negatives`: the same main arguments, a `datasets.Dataset` back.

    from nv_retriever.mining.drop_in import mine_hard_negatives

docs/mining.md lists every difference with its reason. What this function cannot honour is no argument of it, so that a
call fails instead of ignoring it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

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
_Sample = tuple[str, str, list[str], list[float]]


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
    from datasets import Dataset as Made

    if sampling_strategy not in ("top", "random") or output_format not in get_args(Format):
        found = f"{sampling_strategy}, {output_format}"
        raise InputError("mine_hard_negatives", "a known sampling_strategy and output_format", found)
    if not hasattr(model, "encode_query"):
        raise InputError("model", "a SentenceTransformer", type(model).__name__)
    columns = _columns(dataset, anchor_column_name, positive_column_name)
    anchors, positives = (_texts(dataset[name], f"column {name!r}") for name in columns)
    queries = list(dict.fromkeys(anchors))
    documents = list(dict.fromkeys([*_texts([] if corpus is None else corpus, "corpus"), *positives]))
    _check_range(range_min, range_max, num_negatives)
    names = _output_columns(columns, output_format, num_negatives, output_scores)
    window = (range_max - range_min) if range_max is not None else 10 * num_negatives
    selection = f"top({num_negatives})" if sampling_strategy == "top" else f"sample({num_negatives}, of={window})"
    query_row = {text: row for row, text in enumerate(queries)}
    document_row = {text: row for row, text in enumerate(documents)}
    encode: dict[str, Any] = {"batch_size": batch_size, "normalize_embeddings": True, "convert_to_numpy": True}
    result = mine(
        model.encode_query(queries, prompt_name=query_prompt_name, prompt=query_prompt, **encode),
        model.encode_document(documents, prompt_name=corpus_prompt_name, prompt=corpus_prompt, **encode),
        [(query_row[query], document_row[positive]) for query, positive in zip(anchors, positives, strict=True)],
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
    if result.short.num_rows:
        text = "%d of %d (anchor, positive) pairs have fewer than %d negatives: %s"
        facts = result.statistics["samples"], num_negatives, result.statistics["short_reasons"]
        logger.warning(text, result.short.num_rows, *facts)
    data: dict[str, list[Any]] = {name: [] for name in names}
    for row in _rows(_samples(result, queries, documents, output_scores), output_format, num_negatives):
        for name, value in zip(names, row, strict=False):  # labels of triplets and tuples have no column
            data[name].append(value)
    return Made.from_dict(data)


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


def _output_columns(columns: tuple[str, str], form: Format, wanted: int, scores: bool) -> list[str]:
    """Return the names of a format's columns; raises InputError where the anchor's or the positive's is one of its own."""
    if form in ("triplet", "n-tuple"):
        added = ["negative"] if form == "triplet" else [f"negative_{number}" for number in range(1, wanted + 1)]
        added += ["scores"] if scores else []
    else:
        added = [("score" if scores else "label") + ("s" if form == "labeled-list" else "")]
    if taken := set(columns) & set(added):
        expected = f"other names than the {form}'s own ({', '.join(added)})"
        raise InputError("column names", expected, f"{min(taken)!r} for the anchor or positive", "rename the column")
    return [*columns, *added]


def _rows(samples: Iterable[_Sample], form: Format, wanted: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a format, their scores or labels last."""
    seen: set[tuple[str, str]] = set()
    for query, positive, negatives, values in samples:
        if form == "triplet":
            for negative, value in zip(negatives, values[1:], strict=True):
                yield query, positive, negative, [values[0], value]
        elif form == "labeled-list":
            yield query, [positive, *negatives], values
        elif form == "labeled-pair":
            for passage, value in zip([positive, *negatives], values, strict=True):
                if (query, passage) not in seen:  # several positives of a query may share a negative
                    seen.add((query, passage))
                    yield query, passage, value
        elif len(negatives) == wanted:
            yield query, positive, *negatives, values


def _samples(found: MiningResult, queries: list[str], documents: list[str], scores: bool) -> Iterator[_Sample]:
    """Yield each sample's query, positive and negatives, and its scores, else its labels, the positive's first."""
    positive_scores, negative_scores = found.positive_score, found.negative_score
    changed = np.flatnonzero((np.diff(found.query) != 0) | (np.diff(found.positive) != 0)) + 1
    for rows in np.split(np.arange(len(found)), changed):
        if len(rows):
            first, negatives = rows[0], [documents[row] for row in found.negative[rows].tolist()]
            measured = [float(positive_scores[first]), *negative_scores[rows].tolist()]
            values = measured if scores else [1, *[0] * len(rows)]
            yield queries[found.query[first]], documents[found.positive[first]], negatives, values
