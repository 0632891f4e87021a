"""Reading labelled texts: classes and clusters (text, label), scored pairs (first, second, score); from files or the hub."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nv_retriever.errors import InputError
from nv_retriever.training.labelled import ContrastiveSample, class_samples, similarity_samples
from nv_retriever.training.nv_retriever_v1 import BlendSource

Row = dict[str, Any]
ROLES = {"similarity": ("first", "second", "score"), "classification": ("text", "label"), "clustering": ("text", "label")}


def labelled_samples(source: BlendSource, negatives: int, seed: int) -> list[ContrastiveSample]:
    """Return the contrastive samples of a labelled source, at most `source.samples` of them (drawn by their hash)."""
    roles = ROLES[source.task]
    columns = {role: source.columns.get(role, role) for role in roles}
    rows = [values for row in _rows(source.source) for values in _values(row, columns, source.source)]
    if source.task == "similarity":
        samples = similarity_samples([(a, b, float(score)) for a, b, score in rows], negatives, seed)
    else:
        samples = class_samples([row[0] for row in rows], [row[1] for row in rows], negatives, seed)
    if source.samples is None or len(samples) <= source.samples:
        return samples
    from nv_retriever.training.labelled import text_id

    return sorted(samples, key=lambda sample: text_id(sample.query + "\0" + sample.positive))[: source.samples]


def _values(row: Row, columns: dict[str, str], where: str) -> Iterator[tuple[str, ...]]:
    """Yield the roles' values of a row; rows that hold lists (clustering sets) hold one example an element."""
    missing = [column for column in columns.values() if column not in row]
    if missing:
        hint = 'name them: columns={"text": ..., "label": ...}'
        raise InputError(where, f"a column {missing[0]!r}", ", ".join(sorted(row)), hint)
    values = [row[column] for column in columns.values()]
    if all(isinstance(value, list) for value in values):
        yield from (tuple(str(item).strip() for item in items) for items in zip(*values, strict=True))
    else:
        yield tuple(str(value).strip() for value in values)


def _rows(source: str) -> Iterator[Row]:
    if source.startswith("hf:"):
        from datasets import load_dataset

        repository, _, subset = source.removeprefix("hf:").partition(":")
        try:
            yield from load_dataset(repository, subset or None, split="train")
        except Exception as error:
            raise InputError(f"hub data set {repository}", "a train split", str(error).strip().split("\n")[0]) from None
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(source, "a .jsonl, .csv, .tsv or .parquet file, or hf:ORG/NAME", "no such file")
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow.parquet as pq

        yield from pq.read_table(path).to_pylist()
        return
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        if name.endswith((".csv", ".tsv")):
            yield from csv.DictReader(file, delimiter="\t" if name.endswith(".tsv") else ",")
            return
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path} line {number}", "a JSON object", str(error)) from None
            if not isinstance(row, dict):
                raise InputError(f"{path} line {number}", "a JSON object", type(row).__name__)
            yield row
