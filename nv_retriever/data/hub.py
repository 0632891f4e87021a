"""Data sets of the Hugging Face hub through the `datasets` library: BEIR layouts (corpus, queries, qrels) and pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.pair_columns import detect_columns
from nv_retriever.data.pairs import PairSource, Row
from nv_retriever.data.records import Document, Label, Place, Problems, Query, parse_grade, split_name
from nv_retriever.errors import InputError, first_line
from nv_retriever.fingerprint import folder_digest

_QRELS_CONFIGS = ("qrels", "default")


def open_beir(name: str, config: DatasetConfig) -> HubBeir:
    """Return the source of a BEIR data set by its name: BeIR/NAME and BeIR/NAME-qrels (CQADupStack's forums: mteb/NAME)."""
    if name.startswith("cqadupstack-"):
        return HubBeir(f"mteb/{name}", f"mteb/{name}", name, config.revision)
    return HubBeir(f"BeIR/{name}", f"BeIR/{name}-qrels", name, config.revision)


def open_hub(name: str, config: DatasetConfig) -> HubBeir | HubPairs:
    """Return the source behind `ORG/NAME[:CONFIG]`: BEIR's layout where it has a corpus and queries, else pairs."""
    repository, _, subset = name.partition(":")
    short = repository.rstrip("/").rsplit("/", 1)[-1]
    if not subset and not is_saved(Path(repository)) and {"corpus", "queries"} <= set(_subsets(repository, config.revision)):
        return HubBeir(repository, repository, short, config.revision)
    return HubPairs(repository, subset or None, short, config)


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by `save_to_disk` of the `datasets` library."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _unreachable(repository: str, what: str, error: Exception) -> InputError:
    """Return the one-line error for whatever the `datasets` library says about a repository."""
    found = f"{type(error).__name__}: {first_line(error)}"
    hint = "check the name and the network (HF_HUB_OFFLINE, HF_ENDPOINT), or give a local folder"
    return InputError(f"hub data set {repository}", what, found[:200], hint)


def _subsets(repository: str, revision: str | None) -> list[str]:
    from datasets import get_dataset_config_names

    hub_digest(repository, revision)  # one request: `datasets` would try an unreachable hub for 20 s, and say so each time
    try:
        return list(get_dataset_config_names(repository, revision=revision))
    except Exception as error:
        raise _unreachable(repository, "a data set that can be reached", error) from None


def _load(repository: str, subset: str | None, revision: str | None) -> Mapping[str, Any]:
    """Return the splits of a data set, memory-mapped by `datasets`."""
    from datasets import load_dataset, load_from_disk

    try:
        if is_saved(Path(repository)):
            saved = load_from_disk(repository)
            return saved if isinstance(saved, dict) else {"train": saved}
        loaded: Mapping[str, Any] = load_dataset(repository, subset, revision=revision)
        return loaded
    except Exception as error:
        raise _unreachable(f"{repository}{':' + subset if subset else ''}", "a data set that can be loaded", error) from None


def _rows(splits: Mapping[str, Any], name: str) -> Iterator[tuple[str, Place, dict[str, Any]]]:
    for split, table in splits.items():
        for number, record in enumerate(table, start=1):
            yield split, Place(f"{name}[{split}]", number, "row"), record


def hub_digest(repository: str, revision: str | None) -> str:
    """Return what identifies a repository's content: a local folder's digest, or the commit that `revision` means."""
    if Path(repository).is_dir():
        return folder_digest(Path(repository))
    from huggingface_hub import HfApi, constants

    reference = revision or "main"
    if len(reference) == 40 and set(reference) <= set("0123456789abcdef"):
        return reference
    if not constants.HF_HUB_OFFLINE:
        try:
            return str(HfApi().dataset_info(repository, revision=reference).sha)
        except Exception as error:
            problem = error
    else:
        problem = OSError("the hub is switched off (HF_HUB_OFFLINE)")
    cached = Path(constants.HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}" / "refs" / reference
    if cached.is_file():
        return cached.read_text(encoding="utf-8").strip()
    raise _unreachable(repository, "a data set on the hub or in the local cache", problem)


class HubBeir:
    """BEIR's layout on the hub: subsets `corpus` and `queries`, labels in a repository or subset of their own."""

    repeats = False

    def __init__(self, repository: str, qrels: str, name: str, revision: str | None = None) -> None:
        self.repository, self.qrels, self.name, self.revision = repository, qrels, name, revision

    def digest(self) -> str:
        """Return the commits of the repositories."""
        names = sorted({self.repository, self.qrels})
        return " ".join(hub_digest(name, self.revision if name == self.repository else None) for name in names)

    def documents(self, problems: Problems) -> Iterator[Document]:
        """Yield the rows of the subset `corpus`."""
        for _, place, row in _rows(_load(self.repository, "corpus", self.revision), f"{self.repository}:corpus"):
            yield Document(_id(row), row.get("title"), row.get("text"), place)

    def queries(self, problems: Problems) -> Iterator[Query]:
        """Yield the rows of the subset `queries`."""
        for _, place, row in _rows(_load(self.repository, "queries", self.revision), f"{self.repository}:queries"):
            yield Query(_id(row), row.get("text"), place)

    def labels(self, problems: Problems) -> Iterator[Label]:
        """Yield the labels; without a score column (NanoBEIR) every label has grade 1."""
        subset = None
        if self.qrels == self.repository:
            names = _subsets(self.repository, self.revision)
            subset = next((name for name in _QRELS_CONFIGS if name in names), None)
            if subset is None:
                raise InputError(f"hub data set {self.repository}", "a subset qrels or default", ", ".join(names))
        splits = _load(self.qrels, subset, self.revision if self.qrels == self.repository else None)
        for split, place, row in _rows(splits, self.qrels):
            if "query-id" not in row or "corpus-id" not in row:
                raise InputError(str(place), "the columns query-id, corpus-id and score", ", ".join(row))
            grade = parse_grade(row.get("score", 1), place, problems)
            if grade is not None:
                yield Label(split_name(split), row["query-id"], row["corpus-id"], grade, place)


def _id(row: Mapping[str, Any]) -> Any:
    return row["_id"] if "_id" in row else row.get("id")


class HubPairs(PairSource):
    """A data set of pairs or triples on the hub."""

    def __init__(self, repository: str, subset: str | None, name: str, config: DatasetConfig) -> None:
        self.repository, self.subset, self.name, self._config = repository, subset, name, config

    def digest(self) -> str:
        """Return the commit of the repository."""
        return hub_digest(self.repository, self._config.revision)

    def rows(self, problems: Problems) -> Iterator[Row]:
        """Yield the rows of all splits; where there is only one split, queries are split by their hashes."""
        splits = _load(self.repository, self.subset, self._config.revision)
        for split, place, cells in _rows(splits, self.repository):
            columns = detect_columns(str(place), list(cells), self._config.columns)
            yield Row(place, cells, columns, split_name(split) if len(splits) > 1 else "")
