"""A mining artifact as the store and the exports read it: run.json, triples.parquet, shortfall.parquet."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import MANIFEST
from nv_retriever.errors import ArtifactError
from nv_retriever.files import read_json
from nv_retriever.fingerprint import file_digest

RUN = "run.json"
TRIPLES = "triples.parquet"
SHORTFALL = "shortfall.parquet"
VERDICTS = "verdicts.parquet"


@dataclass(frozen=True)
class MiningArtifact:
    """One mining run on disk."""

    folder: Path
    run: dict[str, Any]
    """run.json."""
    manifest: dict[str, Any]
    """manifest.json, empty where the folder was not made by the artifact store."""

    @classmethod
    def open(cls, folder: Path) -> MiningArtifact:
        """Read run.json (and manifest.json); raises ArtifactError where the folder holds no finished mining run."""
        folder = Path(folder)
        run = _json(folder / RUN)
        if not isinstance(run.get("run_id"), str) or not run["run_id"]:
            raise ArtifactError(f"{folder / RUN} has no run_id")
        if not (folder / TRIPLES).is_file():
            raise ArtifactError(f"{folder / TRIPLES} is missing")
        return cls(folder, run, _json(folder / MANIFEST) if (folder / MANIFEST).exists() else {})

    @property
    def run_id(self) -> str:
        """The run's id: the first 16 hex digits of the artifact's fingerprint."""
        return str(self.run["run_id"])

    @property
    def dataset_artifact(self) -> str | None:
        """The reference (dataset/<fingerprint>) of the data set that was mined, where run.json or the manifest says it."""
        spec = self.manifest.get("spec")
        found = self.run.get("dataset_artifact") or (spec.get("dataset") if isinstance(spec, dict) else None)
        return found if isinstance(found, str) and re.fullmatch(r"[\w-]+/[\w-]+", found) else None

    @property
    def digest(self) -> str:
        """The sha256 over the files that the database is filled from."""
        names = (RUN, TRIPLES, SHORTFALL, VERDICTS)
        found = [[name, file_digest(self.folder / name)] for name in names if (self.folder / name).exists()]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    @property
    def created_at(self) -> str | None:
        """When the run was made (ISO 8601): run.json's word, else the manifest's."""
        found = self.run.get("created_at") or self.manifest.get("created_at")
        return str(found) if found else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is damaged: expected an object, found {type(value).__name__}")
    return value
