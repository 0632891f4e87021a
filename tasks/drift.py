"""How far the negatives of two mining runs agree."""

from __future__ import annotations

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.stages import MiningSpec


def negatives_by_sample(spec: MiningSpec, store: ArtifactStore) -> dict[str, set[str]]:
    """Return {query and positive: ids of the mined negatives}."""
    import pyarrow.parquet as pq

    table = pq.read_table(store.open(spec.ref) / "triples.parquet", columns=["query_id", "positive_id", "negative_id"])
    found: dict[str, set[str]] = {}
    for query, positive, negative in zip(*(table.column(i).to_pylist() for i in range(3)), strict=True):
        found.setdefault(f"{query}\t{positive}", set()).add(negative)
    return found


def negatives_drift(before: MiningSpec, after: MiningSpec, home: str) -> float | None:
    """Return the mean Jaccard overlap of the negatives of two mining runs, over the samples of both; None without any."""
    from nv_retriever.evaluation.ablation import jaccard

    store = ArtifactStore(home)
    values = jaccard(negatives_by_sample(before, store), negatives_by_sample(after, store))
    return float(values.mean()) if values.size else None
