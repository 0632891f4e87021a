"""Which source a data set's name means: `stdlib`, a folder, a file, a BEIR name, `hf:ORG/NAME`, `irds:NAME`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.records import Source
from nv_retriever.errors import InputError

FORUMS = (
    *("android", "english", "gaming", "gis", "mathematica", "physics"),
    *("programmers", "stats", "tex", "unix", "webmasters", "wordpress"),
)
"""Of CQADupStack."""
BEIR_NAMES = (
    *("arguana", "climate-fever", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "msmarco", "nfcorpus", "nq", "quora"),
    *("scidocs", "scifact", "trec-covid", "webis-touche2020"),
    *(f"cqadupstack-{forum}" for forum in FORUMS),
)


def open_source(config: DatasetConfig) -> Source:
    """Return the source that `config.source` names.

    Raises InputError where there is nothing of that name, and for a setting that such a source does not read.
    """
    from nv_retriever.data.hub import HubBeir, HubPairs
    from nv_retriever.data.pairs import PairSource

    source = _open(config)
    if config.columns and not isinstance(source, PairSource):
        raise InputError("dataset.columns", "nothing: only files and data sets of pairs have roles", config.source)
    on_hub = isinstance(source, HubBeir | HubPairs) and not Path(source.repository).exists()
    if config.revision is not None and not on_hub:
        raise InputError("dataset.revision", "nothing: only data sets on the hub have revisions", config.source)
    return source


def empty_policy(config: DatasetConfig) -> Literal["fail", "skip"]:
    """Return what happens to empty texts: `config.on_empty`, or what `auto` means for its source."""
    if config.on_empty != "auto":
        return config.on_empty
    return "fail" if config.source == "stdlib" or is_path(config.source) else "skip"


def is_path(name: str) -> bool:
    """Return whether a data set's name means a folder or file, there or not; other names are of what others published."""
    from nv_retriever.data.pair_files import suffix

    if name.startswith(("hf:", "irds:")):
        return False
    return "/" in name or bool(suffix(name)) or name.startswith((".", "~")) or Path(name).exists()


def _open(config: DatasetConfig) -> Source:
    name = config.source
    if not name.strip():
        raise InputError("dataset.source", "the name of a data set", repr(name), "'.' is the current folder")
    path = Path(name).expanduser()
    if name == "stdlib":
        from nv_retriever.data.stdlib import StandardLibrary

        return StandardLibrary()
    if name in ("hf:", "irds:"):
        raise InputError("dataset.source", f"{name}NAME", repr(name))
    if name.startswith("hf:"):
        from nv_retriever.data.hub import open_hub

        return open_hub(name.removeprefix("hf:"), config)
    if name.startswith("irds:"):
        from nv_retriever.data.irds import IrDatasets

        return IrDatasets(name.removeprefix("irds:"))
    if path.is_dir():
        return _open_folder(path, config)
    if path.is_file():
        from nv_retriever.data.pair_files import PairFiles

        return PairFiles([path], path.name.split(".")[0], config.columns)
    if name in BEIR_NAMES:
        from nv_retriever.data.hub import open_beir

        return open_beir(name, config)
    if is_path(name):
        raise InputError(name, "a BEIR folder or a file of pairs", "nothing there")
    kinds = "stdlib, a folder, a file, hf:ORG/NAME, irds:NAME, or a BEIR name"
    close = get_close_matches(name.lower(), ("stdlib", *BEIR_NAMES), n=1)
    names = ", ".join(dict.fromkeys("cqadupstack-FORUM" if one.startswith("cqadupstack-") else one for one in BEIR_NAMES))
    hint = f"did you mean {close[0]}?" if close else f"BEIR names: {names}"
    raise InputError(f"data set {name!r}", kinds, "none of these", hint)


def _open_folder(folder: Path, config: DatasetConfig) -> Source:
    from nv_retriever.data.beir import BeirFolder, is_beir_folder
    from nv_retriever.data.hub import is_saved, open_hub
    from nv_retriever.data.pair_files import PairFiles, pair_files

    if is_saved(folder):
        return open_hub(str(folder), config)
    files = pair_files(folder)
    if is_beir_folder(folder) or not files:
        return BeirFolder(folder)
    return PairFiles(files, folder.resolve().name, config.columns)
