"""BEIR folders: corpus.jsonl[.gz], queries.jsonl[.gz], qrels/*.tsv[.gz], and judged_nonrelevant/ for grade-0 labels.

Thakur et al. 2021, BEIR. `judged_nonrelevant/` (an addition of ours) holds pairs that were judged and found not relevant;
other folders beside it are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nv_retriever.data.lines import files_digest, iter_json, iter_lines
from nv_retriever.data.records import Document, Label, Problems, Query, parse_grade, shorten, split_name
from nv_retriever.errors import InputError

HEADER = ("query-id", "corpus-id", "score")
_LABEL_FOLDERS = ("qrels", "judged_nonrelevant")


def find_jsonl(folder: Path, stem: str) -> Path:
    """Return `stem.jsonl` or `stem.jsonl.gz` in a folder; raises InputError where there is none, or both."""
    found = [path for path in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if path.exists()]
    if len(found) != 1:
        state = "both" if found else "neither"
        raise InputError(str(folder), f"either {stem}.jsonl or {stem}.jsonl.gz", state)
    return found[0]


def is_beir_folder(folder: Path) -> bool:
    """Return whether a folder looks like a BEIR data set (so that what is missing in it is worth naming)."""
    names = ("corpus.jsonl", "corpus.jsonl.gz", "queries.jsonl", "queries.jsonl.gz", "qrels")
    return any((folder / name).exists() for name in names)


def _label_files(folder: Path) -> list[Path]:
    """Return a folder's files of labels, without hidden ones (macOS writes ._test.tsv); raises InputError for others."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file() and not path.name.startswith(".")]
    for path in files:
        if not path.name.endswith((".tsv", ".tsv.gz")):
            raise InputError(str(path), "files named SPLIT.tsv or SPLIT.tsv.gz only", path.name, "move it elsewhere")
        if path.with_name(f"{path.name}.gz") in files:
            raise InputError(str(folder), f"either {path.name} or {path.name}.gz", "both")
    return files


class BeirFolder:
    """The source behind a BEIR folder."""

    repeats = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.resolve().name
        self.corpus, self.query_file = find_jsonl(folder, "corpus"), find_jsonl(folder, "queries")
        self.label_files = [path for name in _LABEL_FOLDERS for path in _label_files(folder / name)]
        if not any(path.parent.name == "qrels" for path in self.label_files):
            raise InputError(str(folder / "qrels"), "relevance labels (train.tsv, dev.tsv or test.tsv)", "no .tsv file")

    def digest(self) -> str:
        """Return the digest of the names and contents of all files that are read."""
        return files_digest([self.corpus, self.query_file, *self.label_files], self.folder)

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the documents of corpus.jsonl."""
        for place, record in iter_json(self.corpus, problems):
            if "_id" in record and "text" in record:
                yield Document(record["_id"], record.get("title"), record["text"], place)
            else:
                problems.add(place, "an object with '_id', 'text' and, if there is one, 'title'", f"keys {list(record)}")

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the queries of queries.jsonl."""
        for place, record in iter_json(self.query_file, problems):
            if "_id" in record and "text" in record:
                yield Query(record["_id"], record["text"], place)
            else:
                problems.add(place, "an object with '_id' and 'text'", f"keys {list(record)}")

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield the labels of qrels/; those of judged_nonrelevant/ have grade 0 whatever their score."""
        for path in self.label_files:
            judged_negative = path.parent.name == "judged_nonrelevant"
            for label in read_qrels(path, split_name(path.name.split(".tsv")[0]), problems):
                yield label._replace(grade=min(label.grade, 0)) if judged_negative else label


def read_qrels(path: Path, split: str, problems: Problems) -> Iterator[Label]:
    """Yield the labels of a tab-separated file with the header query-id, corpus-id, score."""
    has_header = False
    for place, line in iter_lines(path, problems):
        cells = line.split("\t")
        if not has_header:
            names = tuple(cell.strip().lower().replace("_", "-") for cell in cells)
            if names != HEADER:
                only = set(HEADER) <= set(names)
                hint = "leave these three columns, in this order" if only else f"add the header line {'<tab>'.join(HEADER)}"
                raise InputError(str(place), f"the header {', '.join(HEADER)}, separated by tabs", shorten(line), hint)
            has_header = True
        elif line.strip():
            grade = parse_grade(cells[2], place, problems) if len(cells) == 3 else None
            if len(cells) != 3:
                problems.add(place, "three cells separated by tabs", f"{len(cells)}: {shorten(line)}")
            elif grade is not None:
                yield Label(split, cells[0], cells[1], grade, place)
    if not has_header:
        raise InputError(str(path), f"the header {', '.join(HEADER)}", "an empty file")
