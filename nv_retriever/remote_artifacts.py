"""Artifacts on shared storage: how they are published, checked and fetched.

The files of an artifact lie in a folder of their upload, which its manifest names: two machines that finish the same one at
once, with other bits, never mix their files. Where a manifest of an older version names none, they lie beside it.
Readers change nothing there, whatever they read; who has built an artifact replaces one that is damaged.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import MANIFEST, parse_manifest
from nv_retriever.disk import place_named
from nv_retriever.errors import ArtifactError
from nv_retriever.files import read_json, write_json
from nv_retriever.fingerprint import file_digest, fingerprint
from nv_retriever.remote_store import RemoteStore, origin

Manifest = dict[str, Any]
UPLOAD = "upload"
ATTEMPTS = 2
BLOCK_BYTES = 8 * 2**20


class RemoteArtifacts(RemoteStore):
    """The artifacts of a home on shared storage, named `<kind>/<fingerprint>`; their copies are below a local folder."""

    def __init__(self, url: str, copies: Path) -> None:
        super().__init__(url)
        self._copies = copies

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of an artifact; raises ArtifactError when it is missing or unreadable."""
        path = self._path(f"{name}/{MANIFEST}")
        try:
            return parse_manifest(self.read(f"{name}/{MANIFEST}"), path)
        except FileNotFoundError:
            raise ArtifactError(f"{path} does not exist") from None

    def problem(self, name: str, manifest: Manifest) -> str | None:
        """Return None for an artifact with all its files, of their sizes; else what is wrong, or was when it was read."""
        place = self._path(_place(name, manifest))
        if self._damaged(name) == _content(manifest):
            return f"{place} differs from its digests"
        found = self.fs.find(place, detail=True)
        for file, expected in manifest["files"].items():
            if f"{place}/{file}" not in found:
                return f"{place}/{file} is missing"
            size = found[f"{place}/{file}"]["size"]
            if size != expected["bytes"]:
                return f"{place}/{file} has {size} bytes instead of {expected['bytes']}"
        return None

    def publish(self, name: str) -> None:
        """Upload the copy of an artifact, unless a sound one is there; a damaged one is replaced, at once."""
        before, sound = self._examine(name)
        if sound:
            return
        folder = self._copies / name
        manifest = parse_manifest((folder / MANIFEST).read_text(encoding="utf-8"), str(folder / MANIFEST))
        manifest[UPLOAD] = f"upload-{_content(manifest)}"
        write_json(folder / MANIFEST, manifest)
        place = _place(name, manifest)
        self.upload(folder, place, list(manifest["files"]))
        now, sound = self._examine(name)
        if sound:  # another machine was faster: what was there first stays
            if now is not None and _place(name, now) != place:
                self.remove(place)
            return
        self.upload(folder, name, [MANIFEST])
        self._note(name).unlink(missing_ok=True)
        if before is not None and _place(name, before) != place:
            self._remove_files(name, before)

    def fetch(self, name: str) -> None:
        """Copy an artifact here, its manifest last; raises ArtifactError for one that differs from its digests.

        Files that differ are fetched once more: one may have been read while it was replaced, or over a bad connection.
        """
        folder = self._copies / name
        problem = ""
        for _ in range(ATTEMPTS):
            manifest = self.manifest(name)
            files = manifest["files"]
            try:
                with place_named(folder):
                    self.download(_place(name, manifest), folder, _differing(folder, files))
            except FileNotFoundError as error:
                problem = f"{name} on shared storage is incomplete, run again: {error}"
                continue
            wrong = _differing(folder, files)
            if not wrong:
                for file, expected in files.items():
                    os.utime(folder / file, ns=(expected["mtime_ns"], expected["mtime_ns"]))
                write_json(folder / MANIFEST, manifest)
                return
            problem = self._judge(name, manifest, wrong[0])
        shutil.rmtree(folder, ignore_errors=True)
        raise ArtifactError(problem)

    def _judge(self, name: str, manifest: Manifest, file: str) -> str:
        """Return why a fetched file differs, after reading it again, past the disk; notes an artifact that is damaged."""
        path = self._path(f"{_place(name, manifest)}/{file}")
        copy, there = file_digest(self._copies / name / file), self._digest(path)
        if there == manifest["files"][file]["sha256"]:
            return f"{self._copies / name / file} differs from {path}, which is sound: is the disk, or the connection?"
        if there != copy:
            return f"{path} has other bytes each time that it is read: is the connection sound?"
        write_json(self._note(name), _content(manifest))
        return f"{path} is damaged; run again: it is built again, and replaced"

    def _examine(self, name: str) -> tuple[Manifest | None, bool]:
        """Return the manifest that is there, if it can be read, and whether the artifact is sound."""
        try:
            manifest = self.manifest(name)
        except ArtifactError:
            return None, False
        return manifest, self.problem(name, manifest) is None

    def _remove_files(self, name: str, manifest: Manifest) -> None:
        """Remove the files of an artifact that was replaced."""
        if UPLOAD in manifest:
            self.remove(_place(name, manifest))
            return
        for top in {file.split("/")[0] for file in manifest["files"]}:
            if self.fs.exists(path := self._path(f"{name}/{top}")):
                self.fs.rm(path, recursive=True)

    def _digest(self, path: str) -> str:
        digest = hashlib.sha256()
        with self.fs.open(path, "rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    def _note(self, name: str) -> Path:
        """Return where this machine notes the content of an artifact that it found damaged."""
        path = self._copies / name
        return path.with_name(f".{path.name}.damaged.json")

    def _damaged(self, name: str) -> str | None:
        try:
            return str(read_json(self._note(name)))
        except (FileNotFoundError, ValueError):
            return None


def open_remote(home: Path) -> RemoteArtifacts | None:
    """Return the shared storage that a local home is the copy of."""
    url = origin(home)
    return RemoteArtifacts(url, home / "artifacts") if url else None


def _place(name: str, manifest: Manifest) -> str:
    """Return the remote folder of an artifact's files."""
    return f"{name}/{manifest[UPLOAD]}" if UPLOAD in manifest else name


def _content(manifest: Manifest) -> str:
    """Return a short digest of the files that a manifest lists."""
    return fingerprint({name: file["sha256"] for name, file in manifest["files"].items()})[:16]


def _differing(folder: Path, files: dict[str, Any]) -> list[str]:
    """Return the files that are missing below a folder, or differ from their digests."""
    return [
        name
        for name, expected in files.items()
        if not (folder / name).exists() or file_digest(folder / name) != expected["sha256"]
    ]
