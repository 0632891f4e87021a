"""Mining alone: ingest, embed, index, mine, and optionally write the negatives for another trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run, output_of_run
from flows.summary import flow_run_id, mining_json, mining_table, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import mining_spec
from nv_retriever.store.exports.export import check_request
from tasks.mine import add_to_database
from tasks.opening import open_dataset


@flow(name="nv-retriever-mine", flow_run_name="mine {config.dataset.source} {config.mining.rule}")
def mining(
    config: PipelineConfig = PipelineConfig(),  # noqa: B008
    home: str | None = None,
    export_format: str | None = None,
    out: str | None = None,
) -> dict[str, Any]:
    """Mine hard negatives.

    Args:
        config: what to do; training and evaluation settings are not used.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
        export_format: also write the negatives in this format: triplet, n-tuple, labeled-pair, labeled-list,
            flagembedding, tevatron, nemo, parquet or trec.
        out: where to write them; an absolute path, except on the command line.
    """
    out = output_of_run("out", out)
    check_request(export_format, out)
    home = home_of_run(home)
    spec = mining_spec(config)
    reports = execute([spec], home, config.runtime)
    add_to_database(spec, home)
    stage_table(reports)
    mining_table(spec, home)
    exported: dict[str, Any] | None = None
    if export_format is not None and out is not None:
        from nv_retriever.store.exports.export import export

        store = ArtifactStore(home)
        result = export(export_format, store.open(spec.ref), open_dataset(spec.dataset, store), Path(out))
        exported = {"format": export_format, "path": str(result.path), "rows": result.rows, "skipped": result.skipped}
        exported["why"] = result.why
    summary = mining_json(spec, home)
    return {**summary, "export": exported, "stages": stages_json(reports), "flow_run_id": flow_run_id()}
