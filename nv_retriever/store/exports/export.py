"""Exports for other trainers: one dispatch over the formats, written aside, then renamed into place."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nv_retriever.disk import place_named
from nv_retriever.errors import InputError
from nv_retriever.files import aside_of, local_path, read_json
from nv_retriever.store.exports import (
    flagembedding,
    labeled_list,
    labeled_pair,
    n_tuple,
    nemo,
    parquet,
    tevatron,
    trec,
    triplet,
)
from nv_retriever.store.exports.format import Format, Written
from nv_retriever.store.exports.source import Source

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

_MODULES = (triplet, n_tuple, labeled_pair, labeled_list, flagembedding, tevatron, nemo, parquet, trec)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}
MARKER = ".nvr-export"
"""Names the files of an export, so that a later one may replace them and nothing else."""
README = "README.md"
FILE_SUFFIXES = frozenset({".parquet", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".trec", ".run", ".gz"})


@dataclass(frozen=True)
class ExportResult:
    """What was written, and what the format could not represent."""

    path: Path
    """The folder, or the file where a file was asked for."""
    rows: int
    """Rows, lines or entries written."""
    skipped: int
    """Mined triples, and samples without negatives, that are not in the export."""
    why: str
    """Each reason with its count; empty where nothing is missing."""


def export(format_name: str, mining_folder: Path | str, dataset: Dataset, out: Path | str) -> ExportResult:
    """Write the negatives of a mining artifact for another trainer.

    `out` is a folder; formats of one file also take a file name with their suffix. An earlier export there is replaced;
    anything else there is kept, and raises InputError, as do unknown formats.
    """
    form, out, alone = check_export(format_name, out)
    source = Source(mining_folder, dataset)
    aside = aside_of(out)
    aside.mkdir(parents=True)
    try:
        with place_named(out):
            written = form.write(source, aside)
            result = _result(form, source, written, out)
            if not alone:
                (aside / README).write_text(_readme(form, source, result), encoding="utf-8")
            _sync(aside)
            _publish(form, source, aside, out, alone)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return result


def check_request(format_name: str | None, out: Path | str | None) -> None:
    """Raise InputError unless a format and a place are given together and can be written, or neither is given."""
    if format_name is not None and out is not None:
        check_export(format_name, out)
    elif format_name is not None or out is not None:
        raise InputError("export", "a format and a place together (--export FORMAT --out PATH)", "only one of them")


def check_export(format_name: str, out: Path | str) -> tuple[Format, Path, bool]:
    """Return the format, the place without links, and whether that is a single file; raises InputError as `export` does."""
    form = find_format(format_name)
    out = local_path(f"--out {out}", out).resolve()  # what a link leads to is replaced, not the link
    alone = out.suffix.lower() in form.alone
    _check_place(form, out, alone)
    return form, out, alone


def find_format(name: str) -> Format:
    """Return a format by its name; raises InputError that lists the names."""
    if name not in FORMATS:
        raise InputError("export", "one of " + ", ".join(FORMATS), repr(name))
    return FORMATS[name]


def _result(form: Format, source: Source, written: Written, out: Path) -> ExportResult:
    lost = dict(written.lost)
    if source.counts.without and form.name != "parquet":
        lost["samples without negatives"] = source.counts.without
    parts = [f"{count} {reason}" for reason, count in lost.items()] + written.notes
    return ExportResult(out, written.rows, sum(lost.values()), "; ".join(parts))


def _marker(out: Path, alone: bool) -> Path:
    return out.with_name(f".{out.name}{MARKER}") if alone else out / MARKER


def _check_place(form: Format, out: Path, alone: bool) -> None:
    """Raise InputError where the output would replace anything but an earlier export."""
    where = f"--out {out}"
    if not alone and out.suffix.lower() in FILE_SUFFIXES:
        suffixes = f" or a file named *{' or *'.join(form.alone)}" if form.alone else ""
        raise InputError(where, f"a folder{suffixes} for format {form.name}", f"a file name with {out.suffix}")
    if out.is_mount():  # a mounted disk cannot be renamed away
        raise InputError(where, "a folder that can be replaced", "a mount point", f"--out {out / 'negatives'}")
    beside = next((parent for parent in out.parents if parent.exists()), out)  # what is there is renamed away
    if not (beside.is_dir() and os.access(beside, os.W_OK)):
        raise InputError(where, "a place below a folder that can be written", f"{beside}, which is none")
    if not out.exists():
        return
    if out.is_dir() == alone:
        raise InputError(where, "a file" if alone else "a folder", "a folder" if alone else "a file")
    known = _marked(_marker(out, alone))
    present = {out.name} if alone else {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    if foreign := sorted(present - known):
        hint = "choose another path, or remove it yourself"
        raise InputError(where, "nothing there, or an earlier export", f"{foreign[0]!r}, which is none", hint)


def _marked(marker: Path) -> set[str]:
    try:
        files = read_json(marker)["files"]
        return {marker.name, *(str(name) for name in files)}
    except (OSError, ValueError, KeyError, TypeError):
        return {marker.name}


def _publish(form: Format, source: Source, aside: Path, out: Path, alone: bool) -> None:
    files = [out.name] if alone else sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
    mark = json.dumps({"format": form.name, "run_id": source.artifact.run_id, "files": files})
    if alone:
        _marker(out, alone).write_text(mark, encoding="utf-8")
        (aside / form.main).replace(out)
        return
    (aside / MARKER).write_text(mark, encoding="utf-8")
    old = aside_of(out)
    if out.exists():
        out.replace(old)
    aside.replace(out)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _readme(form: Format, source: Source, result: ExportResult) -> str:
    """Return the export's README: a data-set card whose header tells the `datasets` library which file is what."""
    lines = []
    if form.parts:
        lines += ["---", "configs:"]
        for name, file in form.parts.items():
            lines += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {file}"]
        lines += ["---"]
    run = source.artifact.run
    facts = ("dataset", "split", "rule", "selection", "anchor", "ensemble", "teachers", "seed", "run_id")
    lines += [f"# Hard negatives, format {form.name}", "", form.usage.replace("{path}", "THIS_FOLDER"), ""]
    lines += [f"- {name}: {run[name]}" for name in facts if run.get(name) not in (None, "", [])]
    lines += [f"- rows: {result.rows}", f"- not represented: {result.why or 'nothing'}", ""]
    return "\n".join(lines)
