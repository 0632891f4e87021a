"""Content-addressed outputs on disk: `artifacts/<kind>/<fingerprint>/`, whose manifest.json is written last.

A folder without a manifest is unfinished work: the next build of the same reference finds its parts and goes on.
Deleting a folder is always safe; it is built again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from nv_retriever.config import Frozen
from nv_retriever.errors import ArtifactError
from nv_retriever.fingerprint import file_digest

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


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it (fsync, rename) when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write strict JSON (no NaN or Infinity) so that readers see all of it or nothing."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


class ArtifactStore:
    """The artifacts below one home folder."""

    def __init__(self, home: Path | str) -> None:
        self.home = Path(home).resolve()
        self.root = self.home / "artifacts"

    def folder(self, ref: ArtifactRef) -> Path:
        """Return where the artifact is, or would be."""
        return self.root / ref.kind / ref.fingerprint

    def manifest(self, ref: ArtifactRef) -> dict[str, Any]:
        """Return the manifest of a complete artifact; raises ArtifactError when it is missing or unreadable."""
        path = self.folder(ref) / MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            manifest["files"].items()
        except FileNotFoundError:
            raise ArtifactError(f"{ref} does not exist in {self.root}") from None
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ArtifactError(f"{path} is damaged: {error}") from None
        return manifest

    def check(self, ref: ArtifactRef) -> str | None:
        """Return None for a sound artifact, else what is wrong; content is hashed only where size or time moved."""
        try:
            manifest = self.manifest(ref)
        except ArtifactError as error:
            return str(error)
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

    def is_complete(self, ref: ArtifactRef) -> bool:
        """Return whether the artifact exists and is sound; a damaged one is said in a warning."""
        problem = self.check(ref)
        if problem and (self.folder(ref) / MANIFEST).exists():
            logger.warning("damaged artifact, it will be built again: %s", problem)
        return problem is None

    def open(self, ref: ArtifactRef) -> Path:
        """Return the folder of a sound artifact; raises ArtifactError otherwise."""
        problem = self.check(ref)
        if problem:
            raise ArtifactError(problem)
        return self.folder(ref)

    @contextmanager
    def build(self, ref: ArtifactRef) -> Iterator[Build]:
        """Yield the folder to fill, under a lock that dies with the process; the manifest is written at a clean end.

        Parts that a killed build left are kept, a damaged artifact is removed first. Where another process was faster,
        `Build.complete` is True and nothing is to be done.
        """
        folder = self.folder(ref)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            build = Build(ref=ref, folder=folder, complete=self.is_complete(ref))
            if not build.complete and (folder / MANIFEST).exists():
                shutil.rmtree(folder)
            folder.mkdir(exist_ok=True)
            started = time.time()
            yield build
            if not build.complete:
                self._commit(build, seconds=time.time() - started)

    def _commit(self, build: Build, seconds: float) -> None:
        files = {}
        for path in sorted(build.folder.rglob("*")):
            name = str(path.relative_to(build.folder))
            if path.name.endswith(".part"):
                path.unlink()
            elif path.is_file() and name not in (MANIFEST, CACHE_RECORD, TRACKING_RECORD):
                stat = path.stat()
                files[name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file_digest(path)}
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        manifest = {"ref": str(build.ref), "created_at": created, "seconds": round(seconds, 3), **build.info, "files": files}
        write_json(build.folder / MANIFEST, manifest)
