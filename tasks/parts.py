"""Parts of stages, for the workers of a cluster: texts to embed, queries to search. Each may be killed and repeated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from nv_retriever.artifacts import ArtifactRef, ArtifactStore
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import CandidatesBlockSpec, CandidatesSpec, EmbeddingSpec
from nv_retriever.remote_store import resolve_home
from nv_retriever.teachers.identity import Precision
from tasks.opening import open_dataset, open_embedder, open_scorer, shared_vectors
from tasks.stage import build

if TYPE_CHECKING:
    from nv_retriever.embedding.parts import EmbeddingParts

RETRIES = 2
"""What a worker that goes on meets: storage or a server that does not answer. A worker that dies is the cluster's affair."""


def divide_embedding(spec: EmbeddingSpec, home: str, runtime: Runtime) -> EmbeddingParts | None:
    """Return the parts with texts to embed; None for vectors that are given."""
    from nv_retriever.embedding.embedder import Precomputed
    from nv_retriever.embedding.parts import plan_parts

    store = ArtifactStore(home)
    embedder = open_embedder(spec, store, runtime)
    if isinstance(embedder, Precomputed):
        return None
    with shared_vectors(store, embedder) as vectors:
        return plan_parts(open_dataset(spec.dataset, store), spec.part, embedder, vectors, runtime.parts)


@task(name="embed part", task_run_name="embed {spec.part} {start}-{stop}", cache_policy=NO_CACHE, retries=RETRIES)
def embed_part(
    spec: EmbeddingSpec, home: str, runtime: Runtime, precision: Precision, fetch: bool, start: int, stop: int
) -> int:
    """Embed the texts of some rows into the shared store; returns how many were not there.

    `fetch`: vectors on shared storage may be some of these texts'.
    """
    from nv_retriever.embedding.embedder import Precomputed
    from nv_retriever.embedding.parts import embed_rows

    store = ArtifactStore(resolve_home(home))
    embedder = open_embedder(spec, store, runtime)
    if isinstance(embedder, Precomputed):
        return 0
    with shared_vectors(store, embedder, fetch) as vectors:
        return embed_rows(open_dataset(spec.dataset, store), spec.part, embedder, vectors, precision, start, stop)


def divide_search(spec: CandidatesSpec, home: str, runtime: Runtime) -> list[CandidatesBlockSpec]:
    """Return the blocks of queries; none for an approximate index, which one process builds and searches."""
    from nv_retriever.search.blocks import divide

    if spec.search.index.strip() != "exact":
        return []
    n_queries = len(open_dataset(spec.dataset, ArtifactStore(home)).query_rows(spec.split))
    return [CandidatesBlockSpec(table=spec, start=start, stop=stop) for start, stop in divide(n_queries, runtime.parts)]


@task(name="search part", task_run_name="search {spec.start}-{spec.stop}", cache_policy=NO_CACHE, retries=RETRIES)
def search_part(spec: CandidatesBlockSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Search the candidates of some queries."""

    def write(folder: Path, store: ArtifactStore) -> dict[str, Any]:
        from nv_retriever.search.blocks import write_block

        table = spec.table
        scorer, dataset = open_scorer(table, store, runtime), open_dataset(table.dataset, store)
        return write_block(folder, scorer, dataset, table.split, table.search, spec.start, spec.stop)

    return build(spec, resolve_home(home), write)
