"""From specifications to the library's objects: open what a stage reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nv_retriever.artifacts import MANIFEST, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.data.config import DatasetConfig
from nv_retriever.plan.stages import (
    CandidatesSpec,
    DatasetSpec,
    EmbeddingSpec,
    EvaluationSpec,
    StudentSpec,
    TrainedSpec,
)

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.embedding.embedder import Precomputed, TextEmbedder
    from nv_retriever.search.types import Scorer


def verdict_cache(store: ArtifactStore) -> Path:
    """Return where the home keeps what judges said."""
    return store.home / "verdicts.sqlite"


def source_config(spec: DatasetSpec) -> DatasetConfig:
    """Return how a data set is read: the specification's settings, from where its source lies."""
    return spec.config.model_copy(update={"source": spec.location.source})


def open_dataset(spec: DatasetSpec, store: ArtifactStore) -> Dataset:
    """Return the reader of an ingested data set."""
    from nv_retriever.data.dataset import Dataset

    return Dataset.open(store.open(spec.ref))


def open_embedder(spec: EmbeddingSpec, store: ArtifactStore, runtime: Runtime) -> TextEmbedder | Precomputed:
    """Return what embeds the texts."""
    from nv_retriever.teachers import open as teachers

    own_model = model_folder(spec.model, store) if isinstance(spec.model, StudentSpec | TrainedSpec) else None
    return teachers.open_embedder(spec.location.source, spec.location.encoder, own_model, runtime)


@contextmanager
def shared_vectors(store: ArtifactStore, embedder: TextEmbedder | Precomputed, fetch: bool = True) -> Iterator[Path]:
    """Yield the root of the content-keyed vectors; those on shared storage come before, and new ones go there after."""
    from nv_retriever.embedding.embedder import Precomputed

    root = store.root / "vectors"
    if store.remote is None or isinstance(embedder, Precomputed):
        yield root
        return
    spaces = sorted({f"vectors/{embedder.space('fp32')}", f"vectors/{embedder.space('bf16')}"})
    for space in spaces if fetch else ():
        store.remote.pull(store.root, space)
    yield root
    for space in spaces:
        store.remote.push(store.root, space)


def open_scorer(spec: CandidatesSpec | EvaluationSpec, store: ArtifactStore, runtime: Runtime) -> Scorer:
    """Return what scores the split's queries against the documents."""
    from nv_retriever.teachers import open as teachers

    first = spec.first if isinstance(spec, CandidatesSpec) else None
    return teachers.open_scorer(
        spec.location.teacher,
        open_dataset(spec.dataset, store),
        spec.split if isinstance(spec, CandidatesSpec) else spec.evaluation.split,
        documents=store.open(spec.documents.ref) if spec.documents else None,
        queries=store.open(spec.queries.ref) if spec.queries else None,
        first=store.open(first.ref) if first else None,
        runtime=runtime,
        scores_root=store.root / "scores",
    )


def open_remembered_scorer(spec: CandidatesSpec, store: ArtifactStore, runtime: Runtime) -> Scorer:
    """Return the teacher of a candidate table; what it searches below limits is kept in the home, and read from there.

    Kept beside the content of the table too: a table that is built again on another machine may differ in its last bits.
    """
    from nv_retriever.search.candidate_table import SCORES
    from nv_retriever.search.remembered import RememberedScorer

    content = store.manifest(spec.ref)["files"][SCORES]["sha256"]
    folder = store.root / "searches" / spec.ref.fingerprint / content[:16]
    remove_stale_searches(store, folder)
    return RememberedScorer(open_scorer(spec, store, runtime), folder)


def remove_stale_searches(store: ArtifactStore, folder: Path) -> None:
    """Remove the searches of candidate tables that are gone, and those of other contents of the table of `folder`."""
    for table in (store.root / "searches").glob("*"):
        if table != folder.parent and not (store.root / CandidatesSpec.kind / table.name / MANIFEST).exists():
            shutil.rmtree(table, ignore_errors=True)
    for content in folder.parent.glob("*"):
        if content != folder:
            shutil.rmtree(content, ignore_errors=True)


def model_folder(spec: StudentSpec | TrainedSpec, store: ArtifactStore) -> str:
    """Return the plain sentence-transformers folder of a model of this workflow."""
    return str(store.open(spec.ref) / "model")
