"""What a flow says at its end: the JSON object of the contract, and tables in Prefect's UI."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows.console import difference_cells
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json
from nv_retriever.plan.stages import EvaluationSpec, MiningSpec
from tasks.mine import database_path, run_id
from tasks.stage import StageReport
from tasks.tracking.record import tracking_uri

Json = dict[str, Any]


def stages_json(reports: list[StageReport]) -> list[Json]:
    """Return the stages as the contract's JSON."""
    return [report.model_dump() for report in reports]


def mining_json(spec: MiningSpec, home: str) -> Json:
    """Return the counts of a mining run: run_id, triples, samples, queries, short, empty, database, and others."""
    store = ArtifactStore(home)
    counts = store.manifest(spec.ref)["counts"]
    empty = samples_without_negatives(store.open(spec.ref)) if counts["short"] else 0
    return {"run_id": run_id(spec.ref), **counts, "empty": empty, "database": str(database_path(home))}


def samples_without_negatives(mining: Path) -> int:
    """Return how many of the short samples of a mining artifact have no negative at all."""
    import pyarrow.parquet as pq

    return int(pq.read_table(mining / "shortfall.parquet", columns=["written"]).column("written").to_pylist().count(0))


def minings_json(specs: list[MiningSpec], home: str) -> Json:
    """Return the counts of the mining, or of a blend's minings: their sums, with each of them under `runs`."""
    runs = [mining_json(spec, home) for spec in specs]
    if len(runs) == 1:
        return runs[0]
    sums: Json = {name: sum(run[name] for run in runs) for name in ("triples", "samples", "queries", "short", "empty")}
    sums |= {name: dict(sum((Counter(run[name]) for run in runs), Counter())) for name in ("reasons", "short_reasons")}
    named = [{"dataset": spec.dataset.config.source, **run} for spec, run in zip(specs, runs, strict=True)]
    return {"run_id": runs[-1]["run_id"], **sums, "database": str(database_path(home)), "runs": named}


def metrics_json(spec: EvaluationSpec, home: str) -> dict[str, float]:
    """Return the mean of every metric."""
    metrics: dict[str, float] = read_json(ArtifactStore(home).open(spec.ref) / "metrics.json")
    return metrics


def stage_table(reports: list[StageReport]) -> None:
    """Show in the Prefect UI what ran and what came from the cache."""
    rows = [
        {
            "stage": r.stage,
            "what": r.what,
            "artifact": r.artifact,
            "cached": "yes" if r.cached else "no",
            "seconds": r.seconds,
        }
        for r in reports
    ]
    create_table_artifact(table=rows, key="stages", description="Stages of the run and their artifacts")


def mining_table(spec: MiningSpec, home: str) -> None:
    """Show the mining statistics in the Prefect UI."""
    rows = [{"what": name, "value": readable(value)} for name, value in mining_json(spec, home).items()]
    rows.insert(0, {"what": "rule", "value": spec.mining.rule})
    rows.insert(1, {"what": "selection", "value": spec.mining.selection})
    create_table_artifact(table=rows, key="mining", description=f"Mined negatives of {spec.dataset.config.source}")


def readable(value: Any) -> str:
    """Return a count with its thousands apart, counts by name as `name 1,234`, anything else as it is."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {readable(count)}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def score_table(systems: dict[str, dict[str, float]], dataset: str, difference: Json | None = None) -> None:
    """Show the scores of all systems side by side in the Prefect UI, and the difference of `trained` to `base`."""
    rows = [{"system": name} | {m: f"{v:.4f}" for m, v in metrics.items()} for name, metrics in systems.items()]
    if difference is not None:
        metric = next(iter(systems["trained"]))
        columns = difference_cells(metric, difference)
        rows = [row | (columns if row["system"] == "trained" else dict.fromkeys(columns, "")) for row in rows]
    create_table_artifact(table=rows, key="scores", description=f"Scores on {dataset}")


def mlflow_link(mlflow_run: str, home: str) -> None:
    """Link the MLflow run from the Prefect UI; a local store is named with the command that opens it."""
    uri = tracking_uri(home)
    if uri.startswith("http"):
        create_link_artifact(link=f"{uri}/#/runs/{mlflow_run}", key="mlflow-run", description=f"MLflow run {mlflow_run}")
        return
    link = f"http://127.0.0.1:5000/#/runs/{mlflow_run}"
    command = f"mlflow ui --backend-store-uri {uri} --host 127.0.0.1 --workers 1"
    create_link_artifact(link=link, key="mlflow-run", description=f"MLflow run {mlflow_run}; the page needs `{command}`")


def flow_run_id() -> str | None:
    """Return the id of the running flow."""
    return str(flow_run.id) if flow_run.id else None
