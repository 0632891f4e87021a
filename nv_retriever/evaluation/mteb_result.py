"""Results in the shape that mteb reads and writes: `results/<model>/<revision>/<Task>.json` beside a model_meta.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import mteb_task_name
from nv_retriever.evaluation.results import EvaluationResult
from nv_retriever.files import write_json

_NAMES = {"nDCG": "ndcg", "R": "recall", "RR": "mrr", "AP": "map", "P": "precision", "Success": "hit_rate"}
MAIN = "ndcg_at_10"


def mteb_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics under mteb's names, to 6 decimals as mteb writes them; those it does not know are left out.

    >>> mteb_scores({"nDCG@10": 0.6450812, "RR@10": 0.5, "ERR@10": 0.1})
    {'ndcg_at_10': 0.645081, 'mrr_at_10': 0.5}
    """
    result = {}
    for name, value in metrics.items():
        found = re.fullmatch(r"(\w+)@(\d+)", name)
        if found and found[1] in _NAMES:
            result[f"{_NAMES[found[1]]}_at_{found[2]}"] = round(value, 6)
    return result


def mteb_result(task: str, split: str, metrics: Mapping[str, float], revision: str) -> dict[str, Any]:
    """Return the content of one task's file; `revision` names the data. Raises InputError without nDCG@10.

    `mteb_version` is null: the numbers are measured by the same pytrec_eval, but not by mteb.
    """
    scores = mteb_scores(metrics)
    if MAIN not in scores:
        raise InputError(f"mteb result of {task}", "the metric nDCG@10, mteb's main score", ", ".join(metrics) or "none")
    entry = {**scores, "main_score": scores[MAIN], "hf_subset": "default", "languages": ["eng-Latn"]}
    return {
        "dataset_revision": revision,
        "task_name": task,
        "mteb_version": None,
        "scores": {split: [entry]},
        "evaluation_time": None,
        "kg_co2_emissions": None,
    }


def write_mteb_result(root: Path, result: Mapping[str, Any], model: str, model_revision: str) -> Path:
    """Write a task's file into a folder that `mteb.ResultCache(root)` loads; returns its path.

    `model` is the name that the leaderboard shows, `model_revision` a commit, or the checkpoint's fingerprint.
    """
    folder = root / "results" / _path_name(model) / _path_name(model_revision)
    write_json(folder / "model_meta.json", {"name": model, "revision": model_revision})
    path = folder / f"{_path_name(result['task_name'])}.json"
    write_json(path, dict(result))
    return path


def export_evaluation(root: Path, evaluation: EvaluationResult, model_revision: str) -> Path:
    """Write an evaluation artifact as an mteb result, whose revision is the digest of the data read; returns the path."""
    info = evaluation.info
    revision = str(info.get("dataset_digest") or "unknown")
    result = mteb_result(mteb_task_name(info["dataset"]), info["split"], evaluation.metrics, revision)
    return write_mteb_result(root, result, evaluation.model, model_revision)


def _path_name(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name.strip("/").replace("/", "__"))
