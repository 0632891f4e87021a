"""Mining: which candidates become negatives, and why."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.errors import ArtifactError
from nv_retriever.plan.stages import LabelledSpec, MiningSpec
from tasks.opening import open_dataset, open_remembered_scorer, verdict_cache
from tasks.stage import build, stage_task

logger = logging.getLogger("nv_retriever.stages")
RUN_ID_DIGITS = 16


def run_id(ref: ArtifactRef) -> str:
    """Return the mining run's id in the database, which follows from the artifact."""
    return ref.fingerprint[:RUN_ID_DIGITS]


@stage_task("mine")
def mine(spec: MiningSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Mine the triples."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.mining.build import write_mining
        from nv_retriever.search.candidate_table import Candidates

        return write_mining(
            folder,
            open_dataset(spec.dataset, store),
            spec.split,
            [Candidates.open(store.open(candidates.ref)) for candidates in spec.candidates],
            lambda teacher: open_remembered_scorer(spec.candidates[teacher], store, runtime),
            spec.configured,
            spec.seed,
            run_id(spec.ref),
            verdicts=verdict_cache(store),
        )

    return build(spec, home, write)


@stage_task("mine")
def draw(spec: LabelledSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Draw samples from the labels of a classification, clustering or similarity set."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.training.labelled import write_labelled
        from nv_retriever.training.labelled_source import labelled_samples

        samples = labelled_samples(spec.location.source, spec.negatives, spec.seed)
        return dict(write_labelled(folder, samples, run_id(spec.ref)))

    return build(spec, home, write)


def database_path(home: str) -> Path:
    """Return where the home's DuckDB file is."""
    return Path(home) / "triples.duckdb"


def sound_minings(store: ArtifactStore) -> Iterator[Path]:
    """Yield the folders of all mining artifacts; one that is damaged on shared storage is another run's affair."""
    for ref in store.references(MiningSpec.kind):
        try:
            yield store.open(ref)
        except ArtifactError as error:
            logger.warning("left out of the database: %s", error)


def add_to_database(spec: MiningSpec, home: str) -> None:
    """Fill the database from the artifact; nothing changes where the run is there.

    A damaged file is built anew, and so is a missing one in the copy of a home on shared storage: from all artifacts. In a
    home that is read-only, from which a finished run may be exported, the database stays as it is.
    """
    if not os.access(home, os.W_OK):
        logger.warning("%s is read-only: its database stays as it is", home)
        return
    from nv_retriever.store.connection import StoreDamagedError
    from nv_retriever.store.database import TripleStore

    store = ArtifactStore(home)
    database = TripleStore(database_path(home))
    if store.remote is not None and not database.path.exists():
        database.rebuild(list(sound_minings(store)))
    try:
        database.add(store.open(spec.ref))
    except StoreDamagedError as error:
        logger.warning("%s; it is built anew from the artifacts", error)
        shutil.copyfile(database.path, database.path.with_suffix(".damaged"))  # stays until the new file takes its place
        database.rebuild(database.mining_folders())
