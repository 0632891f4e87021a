"""Audit: how many of the mined negatives are false, by rule and margin; recommends one."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.execution import execute
from flows.home import home_of_run
from flows.summary import flow_run_id, stage_table, stages_json
from nv_retriever.artifacts import ArtifactStore
from nv_retriever.files import read_json
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import audit_spec
from tasks.checks import check_false_negatives
from tasks.tracking.finished import track_audit


@flow(name="nv-retriever-audit", flow_run_name="audit {config.dataset.source}")
def auditing(config: PipelineConfig = PipelineConfig(), home: str | None = None) -> dict[str, Any]:  # noqa: B008
    """Measure false negatives by hidden positives, for every rule of the sweep, over stored candidates.

    Args:
        config: the data set, the teachers, the sweep; `audit.max_rate` is the gate that can fail the run.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
    """
    home = home_of_run(home)
    spec = audit_spec(config)
    reports = execute([spec], home, config.runtime)
    folder = ArtifactStore(home).open(spec.ref)
    content = read_json(folder / "audit.json")
    stage_table(reports)
    keys = ("teacher", "rule", "negatives", "false_negatives", "rate", "hardness", "coverage")
    table = [{key: row[key] for key in keys} for row in content["rows"]]
    create_table_artifact(table=table, key="audit", description=f"False negatives on {config.dataset.source}")
    mlflow_run = track_audit(spec, home)
    check_false_negatives(content, config.mining.rule, config.audit.max_rate, folder / "report.html")
    return {
        "samples": content["samples"],
        "rows": content["rows"],
        "recommended": content["recommended"],
        "report": str(folder / "report.html"),
        "teachers": content["teachers"],
        "duplicates": content["duplicates"],
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": mlflow_run,
    }
