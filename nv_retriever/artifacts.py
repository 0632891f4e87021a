"""Content-addressed outputs on disk: `artifacts/<kind>/<fingerprint>/`, whose manifest.json is written last.

A folder without a manifest is unfinished work: the next build of the same reference finds its parts and goes on.
Deleting a folder is always safe; it is built again. In the copy of a home on shared storage (`remote_store`) an artifact is
published when it is built, and fetched when it is opened.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nv_retriever.config import Frozen
from nv_retriever.disk import place_named
from nv_retriever.errors import ArtifactError
from nv_retriever.files import note_use, write_json
from nv_retriever.fingerprint import file_digest

if TYPE_CHECKING:
    from nv_retriever.remote_artifacts import RemoteArtifacts

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
CACHE_RECORD = "prefect.json"
TRACKING_RECORD = "mlflow.json"
"""Records of other tools that live in the artifact's folder and are no part of the artifact."""


class ArtifactRef(Frozen):
    """The name of an artifact: what tasks pass to each other instead of arrays, rows or models."""

    kind: str
    """What it is: dataset, embeddings, candidates, mining, checkpoint, evaluation, ..."""
    fingerprint: str
    """The sha256 prefix over everything that determines its content."""

    def __str__(self) -> str:
        return f"{self.kind}/{self.fingerprint}"


@dataclass
class Build:
    """An artifact being built: a folder to write to, and what its manifest will say."""

    ref: ArtifactRef
    folder: Path
    complete: bool
    """True when another process finished it first: there is nothing to do."""
    info: dict[str, Any] = field(default_factory=dict)
    """Goes into the manifest: counts, the stage's specification, timings."""


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left below the folder of an artifact whose lock is held."""
    for path in list(folder.rglob(".*.part")):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def parse_manifest(text: str, where: str) -> dict[str, Any]:
    """Return a manifest; raises ArtifactError, which names the place, for one that is damaged."""
    try:
        manifest: dict[str, Any] = json.loads(text)
        for file in manifest["files"].values():
            _ = file["bytes"], file["mtime_ns"], file["sha256"]  # what checks compare
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ArtifactError(f"{where} is damaged: {error}") from None
    return manifest


class ArtifactStore:
    """The artifacts below one home folder."""

    def __init__(self, home: Path | str) -> None:
        self.home = Path(home).resolve()
        self.root = self.home / "artifacts"

    @cached_property
    def remote(self) -> RemoteArtifacts | None:
        """The shared storage that the home is a copy of, if it is one."""
        from nv_retriever.remote_artifacts import open_remote

        return open_remote(self.home)

    def folder(self, ref: ArtifactRef) -> Path:
        """Return where the artifact is, or would be."""
        return self.root / ref.kind / ref.fingerprint

    def manifest(self, ref: ArtifactRef) -> dict[str, Any]:
        """Return the manifest of a complete artifact; raises ArtifactError when it is missing or unreadable."""
        path = self.folder(ref) / MANIFEST
        if self.remote is not None and not path.exists():
            return self.remote.manifest(str(ref))
        try:
            return parse_manifest(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise ArtifactError(f"{ref} does not exist in {self.root}") from None

    def check(self, ref: ArtifactRef) -> str | None:
        """Return None for a sound artifact, else what is wrong; content is hashed only where size or time moved.

        Of one that is on shared storage only the files' sizes are compared: their content is when it is fetched.
        """
        try:
            manifest = self.manifest(ref)
        except ArtifactError as error:
            return str(error)
        if self.remote is not None and not (self.folder(ref) / MANIFEST).exists():
            return self.remote.problem(str(ref), manifest)
        for name, expected in manifest["files"].items():
            path = self.folder(ref) / name
            try:
                stat = path.stat()
            except OSError:
                return f"{path} is missing"
            if stat.st_size != expected["bytes"]:
                return f"{path} has {stat.st_size} bytes instead of {expected['bytes']}"
            if stat.st_mtime_ns != expected["mtime_ns"] and file_digest(path) != expected["sha256"]:
                return f"{path} differs from its digest in {MANIFEST}"
        return None

    def exists(self, ref: ArtifactRef) -> bool:
        """Return whether there is a manifest, here or on shared storage: a sound artifact's, or a damaged one's."""
        here = (self.folder(ref) / MANIFEST).exists()
        return here or (self.remote is not None and self.remote.has(f"{ref}/{MANIFEST}"))

    def is_complete(self, ref: ArtifactRef) -> bool:
        """Return whether the artifact exists and is sound; a damaged one is said in a warning."""
        problem = self.check(ref)
        if problem and self.exists(ref):
            logger.warning("damaged artifact, it will be built again: %s", problem)
        return problem is None

    def open(self, ref: ArtifactRef) -> Path:
        """Return the folder of a sound artifact, fetched where it is missing; raises ArtifactError otherwise."""
        self._fetch(ref)
        problem = self.check(ref)
        if problem:
            raise ArtifactError(problem)
        return self.folder(ref)

    def references(self, kind: str) -> list[ArtifactRef]:
        """Return the finished artifacts of a kind, those on shared storage included, by fingerprint."""
        names = {path.parent.name for path in self.root.glob(f"{kind}/*/{MANIFEST}")}
        found = names | set(self.remote.names(kind) if self.remote else ())
        references = [ArtifactRef(kind=kind, fingerprint=name) for name in sorted(found)]
        return [ref for ref in references if self.check(ref) is None]

    def note_use(self, ref: ArtifactRef) -> None:
        """Set the time of an artifact's folder to now: by it people tell what no run has used for long, and remove it."""
        note_use(self.folder(ref))

    def discard(self, ref: ArtifactRef) -> None:
        """Remove an artifact, here and on shared storage."""
        if self.remote is not None:
            self.remote.remove(str(ref))
        shutil.rmtree(self.folder(ref), ignore_errors=True)

    @contextmanager
    def build(self, ref: ArtifactRef) -> Iterator[Build]:
        """Yield the folder to fill, under a lock that dies with the process; the manifest is written at a clean end.

        Parts that a killed build left are kept, a damaged artifact is removed first. Where another process was faster,
        `Build.complete` is True and nothing is to be done. On shared storage the first one that was uploaded stays.
        """
        folder = self.folder(ref)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_path(ref)):
            build = Build(ref=ref, folder=folder, complete=self.is_complete(ref))
            if not build.complete and (folder / MANIFEST).exists():
                shutil.rmtree(folder)
                build.complete = self.is_complete(ref)
            folder.mkdir(exist_ok=True)
            started = time.time()
            with place_named(folder):
                yield build
            if not build.complete:
                self._commit(build, seconds=time.time() - started)
            self._publish(ref)

    def _commit(self, build: Build, seconds: float) -> None:
        files = {}
        _remove_unfinished(build.folder)
        for path in sorted(build.folder.rglob("*")):
            name = str(path.relative_to(build.folder))
            if path.is_file() and name not in (MANIFEST, CACHE_RECORD, TRACKING_RECORD):
                stat = path.stat()
                files[name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file_digest(path)}
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        manifest = {"ref": str(build.ref), "created_at": created, "seconds": round(seconds, 3), **build.info, "files": files}
        write_json(build.folder / MANIFEST, manifest)

    def _publish(self, ref: ArtifactRef) -> None:
        """Copy an artifact to shared storage unless it is there: what was just built, or could not be uploaded before."""
        if self.remote is not None and (self.folder(ref) / MANIFEST).exists():
            self.remote.publish(str(ref))

    def _fetch(self, ref: ArtifactRef) -> None:
        """Copy an artifact from shared storage where it is missing."""
        manifest = self.folder(ref) / MANIFEST
        if self.remote is None or manifest.exists():
            return
        manifest.parent.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_path(ref)):
            if not manifest.exists():
                _remove_unfinished(manifest.parent)
                self.remote.fetch(str(ref))

    def _lock_path(self, ref: ArtifactRef) -> Path:
        return self.root / ref.kind / f".{ref.fingerprint}.lock"
