"""A home on shared storage: an fsspec URL to which finished folders go, and from which they come when they are missing.

Work is always done in a local folder, the copy; a file in it names the URL. A folder is copied file by file, the one that
commits it (`manifest.json` of an artifact, `NAME.keys.npy` of a vector shard) after what it commits: nobody sees half of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path

from nv_retriever.artifacts import MANIFEST
from nv_retriever.errors import InputError
from nv_retriever.files import aside_of, read_json, write_json

ORIGIN = "origin.json"
COMMITS = (MANIFEST, ".keys.npy")


def named_home(home: str | None) -> str:
    """Return a home as it was named: as given, else NVR_HOME, else `.nvr` below the working directory."""
    return home or os.environ.get("NVR_HOME") or ".nvr"


def resolve_home(home: str | None = None) -> str:
    """Return the absolute local folder of a home; of a URL its copy on this machine.

    Without a home it is that of `named_home`. Copies are below NVR_CACHE, else ~/.cache/nv-retriever.
    """
    home = named_home(home)
    if "?" in home:  # all that is mined and trained would be, and nothing of it noted
        raise InputError(f"home {home}", "a path without '?', where names of databases end", "one with")
    if "://" not in home:
        folder = Path(home).expanduser().resolve()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"home {home}", "a folder", "a file")
        return str(folder)
    url = home.rstrip("/")
    cache = Path(os.environ.get("NVR_CACHE") or Path.home() / ".cache" / "nv-retriever")
    folder = cache / f"{re.sub('[^A-Za-z0-9]+', '-', url)}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    if not (folder / ORIGIN).exists():
        write_json(folder / ORIGIN, {"url": url})
    return str(folder.resolve())


def origin(home: str | Path) -> str | None:
    """Return the URL that a local home is the copy of; None for an ordinary home."""
    try:
        return str(read_json(Path(home) / ORIGIN)["url"])
    except FileNotFoundError:
        return None


class RemoteStore:
    """Folders below an fsspec URL."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            hint = "pip install 'nv-retriever[s3]' or 'nv-retriever[gcs]'"
            raise InputError(f"home {url}", "an installed fsspec file system", str(error), hint) from None
        except ValueError as error:
            raise InputError(f"home {url}", "a URL that fsspec knows: file, s3, gs", str(error)) from None
        self.root = str(root).rstrip("/")
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def read(self, name: str) -> str:
        """Return the text of a file; raises FileNotFoundError where there is none."""
        content: bytes = self.fs.cat_file(self._path(name))
        return content.decode()

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        return bool(self.fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the names directly below a folder, sorted; none where it does not exist."""
        try:
            found: list[str] = self.fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def upload(self, folder: Path, name: str, files: list[str]) -> None:
        """Copy files (relative names) of a local folder to the remote one, those that commit last."""
        first, last = _by_commit(files)
        if first:
            targets = [self._path(f"{name}/{file}") for file in first]
            self._make_folders(targets)
            self.fs.put([str(folder / file) for file in first], targets)
        for file in last:
            self._commit(folder / file, self._path(f"{name}/{file}"))

    def download(self, name: str, folder: Path, files: list[str]) -> None:
        """Copy files (relative names) of a remote folder to the local one by renaming, those that commit last.

        Another process that fetches the same never writes to a file that this one has mapped.
        """
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
        for some in filter(None, _by_commit(files)):
            asides = [aside_of(folder / file) for file in some]
            try:
                self.fs.get([self._path(f"{name}/{file}") for file in some], [str(aside) for aside in asides])
                for aside, file in zip(asides, some, strict=True):
                    aside.replace(folder / file)
            finally:
                for aside in asides:
                    aside.unlink(missing_ok=True)

    def pull(self, root: Path, name: str) -> None:
        """Fetch the committed files of a folder of shards that the local one below `root` does not have."""
        there = self.names(name)
        new = [file for file in there if file.endswith(COMMITS) and not (root / name / file).exists()]
        self.download(name, root / name, [file for commit in new for file in _committed(commit, there)])

    def push(self, root: Path, name: str) -> None:
        """Publish the committed files of a folder of shards below `root` that the remote one does not have."""
        here = sorted(path.name for path in (root / name).glob("*")) if (root / name).exists() else []
        there = set(self.names(name))
        new = [file for file in here if file.endswith(COMMITS) and file not in there]
        self.upload(root / name, name, [file for commit in new for file in _committed(commit, here)])

    def remove(self, name: str) -> None:
        """Remove a folder, the files that commit it first."""
        for file in self.names(name):
            if file.endswith(COMMITS):
                self.fs.rm_file(self._path(f"{name}/{file}"))
        if self.fs.exists(self._path(name)):
            self.fs.rm(self._path(name), recursive=True)

    def _commit(self, source: Path, target: str) -> None:
        """Copy one file so that it appears at once: object stores do it so, in a file system it is renamed."""
        self._make_folders([target])
        aside = f"{target}.{uuid.uuid4().hex}.part" if self.is_local else target
        self.fs.put_file(str(source), aside)
        if self.is_local:
            Path(aside).replace(target)

    def _make_folders(self, targets: list[str]) -> None:
        if self.is_local:
            for parent in {target.rsplit("/", 1)[0] for target in targets}:
                self.fs.makedirs(parent, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/artifacts/{name}"


def _by_commit(files: list[str]) -> tuple[list[str], list[str]]:
    last = [file for file in files if file.endswith(COMMITS)]
    return [file for file in files if file not in set(last)], last


def _committed(commit: str, files: list[str]) -> list[str]:
    """Return the files of the shard that a file commits, itself included."""
    stem = commit.removesuffix(".keys.npy")
    return [file for file in files if file.startswith(f"{stem}.")]
