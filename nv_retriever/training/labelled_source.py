"""Reading labelled texts: classes and clusters (text, label), scored pairs (first, second, score); from files or the hub."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nv_retriever.data.pair_files import read_records
from nv_retriever.data.records import Problems
from nv_retriever.errors import InputError, first_line
from nv_retriever.fingerprint import file_digest
from nv_retriever.training.blend import BlendSource
from nv_retriever.training.labelled import ContrastiveSample, class_samples, similarity_samples, text_id

logger = logging.getLogger(__name__)
Row = Mapping[str, Any]
Placed = tuple[str, tuple[str, ...]]
"""Where a row is, and its values."""
ROLES = {"similarity": ("first", "second", "score"), "classification": ("text", "label"), "clustering": ("text", "label")}


def labelled_samples(source: BlendSource, negatives: int, seed: int) -> list[ContrastiveSample]:
    """Return the contrastive samples of a labelled source, at most `source.samples` of them (drawn by their hash)."""
    roles = ROLES[source.task]
    columns = {role: source.columns.get(role, role) for role in roles}
    where = source.source
    read = [(place, values) for place, row in _rows(where) for values in _values(row, columns, place)]
    placed = _filled(read, where, roles)
    rows = [values for _, values in placed]
    if source.task == "similarity":
        pairs = [(first, second, _number(score, place)) for place, (first, second, score) in placed]
        samples = similarity_samples(pairs, negatives, seed)
    else:
        samples = class_samples([row[0] for row in rows], [row[1] for row in rows], negatives, seed, source.samples)
    if not samples:
        raise InputError(where, "texts that share a class, or pairs that score at least 4", f"{len(rows)} rows without any")
    if source.samples is None or len(samples) <= source.samples:
        return samples
    return sorted(samples, key=lambda sample: text_id(sample.query + "\0" + sample.positive))[: source.samples]


def rows_digest(source: str) -> str:
    """Return a digest of what `labelled_samples` reads: the file's content, or the hub repository's commit."""
    if source.startswith("hf:"):
        from nv_retriever.data.hub import hub_digest

        return hub_digest(source.removeprefix("hf:").partition(":")[0], None) + source.removeprefix("hf:").partition(":")[2]
    return file_digest(_file(source))


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):  # NaN is not below the threshold of similar pairs
        raise InputError(where, "a number as a pair's score", repr(text))
    return number


def _values(row: Row, columns: dict[str, str], where: str) -> Iterator[tuple[str, ...]]:
    """Yield the roles' values of a row; rows that hold lists (clustering sets) hold one example an element."""
    parts = [column.split("+") for column in columns.values()]
    missing = [name for names in parts for name in names if name not in row]
    if missing:
        hint = f"the source's `columns` name them, for example {{{', '.join(f'{role}: …' for role in columns)}}}"
        raise InputError(where, f"a column {missing[0]!r}", ", ".join(sorted(row)), hint)
    values = [row[names[0]] if len(names) == 1 else " ".join(_text(row[name]) for name in names) for names in parts]
    lists = [value for value in values if isinstance(value, list)]
    if lists and len({len(value) if isinstance(value, list) else -1 for value in values}) > 1:
        raise InputError(where, f"lists of one length ({', '.join(columns)})", "others")
    for items in zip(*values, strict=True) if lists else [values]:
        yield tuple(map(_text, items))


def _filled(placed: list[Placed], source: str, roles: tuple[str, ...]) -> list[Placed]:
    """Return rows without anything empty; others are an error in a file, and skipped on the hub: nobody can mend them."""
    filled = [one for one in placed if "" not in one[1]]
    if len(filled) < len(placed):
        place, values = next(one for one in placed if "" in one[1])
        if not source.startswith("hf:"):
            raise InputError(place, f"a {roles[values.index('')]} that is not empty", "none")
        logger.warning("%s: %d rows with something empty (skipped)", source, len(placed) - len(filled))
    return filled


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _file(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(source, "a .jsonl, .csv, .tsv or .parquet file, or hf:ORG/NAME", "no such file")
    return path


def _rows(source: str) -> Iterator[tuple[str, Row]]:
    """Yield (place, row) of every row."""
    if source.startswith("hf:"):
        from datasets import load_dataset

        repository, _, subset = source.removeprefix("hf:").partition(":")
        try:
            table = load_dataset(repository, subset or None, split="train")
        except Exception as error:
            raise InputError(f"hub data set {repository}", "a train split", first_line(error)) from None
        yield from ((source, row) for row in table)
        return
    problems = Problems()
    for place, _, row in read_records(_file(source), problems):
        yield str(place), row
    problems.check()
