"""The paper's ablation: candidates searched once, a student a cell, one table a question, in one report."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow

from flows.execution import execute
from flows.home import home_of_run
from flows.summary import flow_run_id, stage_table, stages_json
from nv_retriever.plan.ablation import AblationConfig, meaningful, plan_ablation, plan_audit, plan_references
from tasks.ablation_report import write_ablation_report
from tasks.checks import check_leakage, check_splits, check_trainings
from tasks.mine import add_to_database
from tasks.tracking.study import nest_runs, track_cell

logger = logging.getLogger("nv_retriever.stages")


@flow(name="nv-retriever-ablate", flow_run_name="ablate {config.pipeline.dataset.source}")
def ablation(config: AblationConfig = AblationConfig(), home: str | None = None) -> dict[str, Any]:  # noqa: B008
    """Train a student for every method, teacher, ensemble and seed, and compare them with intervals and paired tests.

    Args:
        config: the questions, the seeds, the data sets; finished cells come from the cache.
        home: folder or URL of artifacts, database and tracking; by default NVR_HOME, on the command line else .nvr.
    """
    home, config = home_of_run(home), meaningful(config)
    cells, audit, references = plan_ablation(config), plan_audit(config), plan_references(config)
    pipeline = config.pipeline
    measured = cells[0].evaluations
    check_trainings([cell.checkpoint for cell in cells], home, pipeline.runtime)
    reports = execute([one.dataset for one in measured], home, pipeline.runtime)
    check_splits(measured[0].dataset, [cell.checkpoint.mining for cell in cells], home)
    for one in measured:
        check_leakage(cells[0].checkpoint.dataset, pipeline.split, one, home, pipeline.leakage)
    reports = execute([*([audit] if audit else []), *references], home, pipeline.runtime, done=reports)
    runs = []
    for number, cell in enumerate(cells, 1):
        logger.info("cell %d of %d: %s, seed %d", number, len(cells), cell.name, cell.seed)
        reports = execute([cell.checkpoint, *cell.evaluations], home, pipeline.runtime, done=reports)
        add_to_database(cell.checkpoint.mining, home)
        runs.append((track_cell(cell.checkpoint, cell.evaluations, home), f"{cell.question} {cell.name}, seed {cell.seed}"))
    written = write_ablation_report(config, cells, audit, references, home)
    parent = nest_runs(f"ablation {pipeline.dataset.source}", runs, written, home)
    stage_table(reports)
    return {
        "cells": len(cells),
        "tables": written["tables"],
        "report": written["html"],
        "markdown": written["markdown"],
        "stages": stages_json(reports),
        "flow_run_id": flow_run_id(),
        "mlflow_run_id": parent,
    }
