"""Files of pairs and triples: parquet, JSON lines (or an array), CSV and TSV, alone or as a folder of splits and shards."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.lines import files_digest, iter_json, iter_lines, read_bytes
from nv_retriever.data.pair_columns import RecordColumns, detect_columns
from nv_retriever.data.pairs import PairSource, Row
from nv_retriever.data.records import Place, Problems, shorten, split_name
from nv_retriever.errors import InputError, first_line

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz")
_ABOUT = "dataset_infos.json"
"""What a repository of the hub says about its data, beside the data."""
_WORD = re.compile(r"[^\W\d_]+")
_SPLIT_WORDS = ("train", "training", "dev", "validation", "valid", "val", "test")
_TEST_WORDS = ("testing", "eval", "evaluation")


def suffix(name: str) -> str:
    """Return which of the suffixes a file's name ends with, in whatever case; "" for none."""
    return next((known for known in SUFFIXES if name.lower().endswith(known)), "")


def pair_files(folder: Path) -> list[Path]:
    """Return the data files of a folder or of its `data/` folder, sorted."""
    places = [folder, folder / "data"]
    found = (
        [p for p in sorted(place.glob("[!.]*")) if p.is_file() and suffix(p.name) and p.name != _ABOUT] for place in places
    )
    return next((files for files in found if files), [])


def split_in_name(name: str) -> str:
    """Return the split that a file's name says (`train-00000.parquet`, `pairs_test.csv`), "" where it says none or two.

    It is a word between other characters than letters, of those that Hugging Face's `datasets` knows.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    found = {split_name(word) for word in words if word in _SPLIT_WORDS} | {"test" for word in words if word in _TEST_WORDS}
    return found.pop() if len(found) == 1 else ""


class PairFiles(PairSource):
    """The source behind one or more files of pairs; files named by their splits keep them."""

    def __init__(self, files: list[Path], name: str, columns: Mapping[str, str | None]) -> None:
        self.files, self.name, self._given = files, name, columns
        for file in files:
            if not suffix(file.name):
                raise InputError(str(file), f"a file named {', '.join(SUFFIXES)}", file.suffix or "no suffix")
        named = {file: split_in_name(file.name) for file in files}
        if set(named.values()) == {""}:
            named = dict.fromkeys(files, split_in_name(name))
        # Nothing but dev or test is a table of its own, which a hash splits; nothing but train is what training wants.
        said = set(named.values())
        self._splits = named if said == {"train"} or len(said) > 1 else {}

    def digest(self) -> str:
        """Return the digest of the files' names and contents."""
        roots = {file.parent for file in self.files}
        return files_digest(self.files, roots.pop())

    def rows(self, problems: Problems) -> Iterator[Row]:
        """Yield the rows of all files."""
        for file in self.files:
            records, columns = RecordColumns(str(file), self._given), None
            for place, names, cells in read_records(file, problems):
                if ".json" in suffix(file.name):
                    columns = records.of(place, names)
                elif columns is None:
                    columns = detect_columns(str(file), names, self._given)
                yield Row(place, cells, columns, self._splits.get(file, ""))
            records.finish()


def read_records(path: Path, problems: Problems) -> Iterator[tuple[Place, list[str], Mapping[str, Any]]]:
    """Yield (place, column names, cells) of the rows of a parquet, CSV, TSV or JSON file; `problems` takes what is wrong."""
    kind = suffix(path.name).removesuffix(".gz")
    if kind == ".parquet":
        yield from _read_parquet(path)
    elif kind in (".csv", ".tsv"):
        yield from _read_csv(path, "\t" if kind == ".tsv" else ",", problems)
    elif is_array(path):
        yield from _read_array(path, problems)
    else:
        for place, record in iter_json(path, problems):
            yield place, list(record), record


def _read_parquet(path: Path) -> Iterator[tuple[Place, list[str], Mapping[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            names, number = file.schema_arrow.names, 0
            if len(set(names)) != len(names):
                raise InputError(str(path), "different column names", ", ".join(names))
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield Place(str(path), number, "row"), names, record
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), "a parquet file", first_line(error)) from None


def _read_csv(path: Path, delimiter: str, problems: Problems) -> Iterator[tuple[Place, list[str], Mapping[str, Any]]]:
    csv.field_size_limit(1 << 30)
    lines = _all_lines(path, problems)
    header = next(lines, "")
    # Passages of TSV files begin with quotes of their own (BEIR, MS MARCO): quotes enclose cells where the header has them.
    quoted = delimiter != "\t" or header.startswith('"')
    rows = chain([header] if header else [], lines)
    reader = csv.reader(rows, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    hint = "" if quoted else "put the header's cells in quotes too where quotes enclose cells"
    try:
        names = [name.strip() for name in next(reader, [])]
        problems.check()  # a first line that is no UTF-8 was passed over: what was read is not the header
        if len(names) == 1 and any(mark in names[0] for mark in "\t;,|"):
            separators = "commas separate the cells of .csv files, tabs those of .tsv files"
            raise InputError(f"{path} line 1", f"a header separated by {delimiter!r}", shorten(names[0]), separators)
        if len(set(names)) != len(names) or not names:
            raise InputError(f"{path} line 1", "a header of different column names", ", ".join(names) or "an empty file")
        start = reader.line_num + 1
        for cells in reader:
            place, start = Place(str(path), start), reader.line_num + 1
            if len(cells) == len(names):
                yield place, names, dict(zip(names, cells, strict=True))
            elif cells:
                problems.add(place, f"{len(names)} cells", f"{len(cells)}: {shorten(delimiter.join(cells))}", hint)
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}", "a CSV row", str(error)) from None


def _all_lines(path: Path, problems: Problems) -> Iterator[str]:
    """Yield every line, an empty one in place of one that is not UTF-8: the reader of rows counts what it gets."""
    number = 0
    for place, line in iter_lines(path, problems):
        yield from ["\n"] * (place.row - number - 1)
        yield line + "\n"
        number = place.row


def is_array(path: Path) -> bool:
    """Return whether a file holds a JSON array: by its first bytes."""
    return read_bytes(path, 64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _read_array(path: Path, problems: Problems) -> Iterator[tuple[Place, list[str], Mapping[str, Any]]]:
    try:
        records = json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(str(path), "a JSON array of objects in UTF-8", str(error)) from None
    for number, record in enumerate(records, start=1):
        place = Place(str(path), number, "row")
        if isinstance(record, dict):
            yield place, list(record), record
        else:
            problems.add(place, "a JSON object", f"{type(record).__name__} {shorten(record)}")
