"""Ingestion: documents, queries and labels, validated and in canonical order."""

from __future__ import annotations

from nv_retriever.artifacts import ArtifactRef
from nv_retriever.config import Runtime
from nv_retriever.plan.stages import DatasetSpec
from tasks.opening import source_config
from tasks.stage import build, stage_task


@stage_task("ingest")
def ingest(spec: DatasetSpec, home: str, runtime: Runtime) -> ArtifactRef:
    """Read the source into a data set artifact."""
    from nv_retriever.data.build import write_dataset

    return build(spec, home, lambda folder, store: write_dataset(folder, source_config(spec)))
