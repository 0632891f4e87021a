"""What would run, and why: the plan's specifications against the artifacts that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nv_retriever.artifacts import MANIFEST, ArtifactStore
from nv_retriever.data.head import check_head
from nv_retriever.files import read_json
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.pipeline import plan_run
from nv_retriever.plan.stages import DatasetSpec, Spec
from nv_retriever.plan.titles import title
from tasks.checks import check_splits
from tasks.opening import source_config


def explain_plan(config: PipelineConfig, home: str) -> dict[str, Any]:
    """Return for every artifact of the plan whether it is cached, and otherwise why it would be built.

    Raises InputError where a data set that was ingested lacks a split that a stage reads, and where the first records of one
    that was not are wrong.
    """
    store = ArtifactStore(home)
    stages, planned = [], plan_run(config).specs()
    for spec in planned:
        cached = store.is_complete(spec.ref)
        why = "" if cached else why_stale(spec, store)
        stages.append({"stage": spec.stage, "what": title(spec), "artifact": str(spec.ref), "cached": cached, "why": why})
        if isinstance(spec, DatasetSpec):
            if cached:
                check_splits(spec, planned, home)
            else:
                check_head(source_config(spec))
    return {"home": home, "stages": stages}


def why_stale(spec: Spec, store: ArtifactStore) -> str:
    """Return the reason: damaged, unfinished, never built, or what differs from the closest artifact of its kind."""
    folder = store.folder(spec.ref)
    if store.exists(spec.ref):
        return f"damaged: {store.check(spec.ref)}"
    if folder.exists():
        return "unfinished: a run was stopped here and will go on"
    differences = [compare_specs(spec.describe(), other) for other in known_specs(folder.parent)]
    if not differences:
        return "never built"
    closest = min(differences, key=len)
    return "changed: " + "; ".join(closest[:3]) + (f"; and {len(closest) - 3} more" if len(closest) > 3 else "")


def known_specs(folder: Path) -> list[dict[str, Any]]:
    """Return the specifications of the finished artifacts below a folder."""
    specs = []
    for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
        try:
            specs.append(read_json(manifest)["spec"])
        except (ValueError, KeyError, OSError):
            continue
    return specs


def compare_specs(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """Return what differs between two artifacts: who made them, then their settings.

    >>> compare_specs({"version": 4, "seed": 1}, {"version": 3, "seed": 0})
    ['made by another version of nvr (3 → 4)', 'seed: 0 → 1']
    """
    lines = compare({**new, "version": None}, {**old, "version": None})
    versions = old.get("version"), new.get("version")
    made = [f"made by another version of nvr ({versions[0]} → {versions[1]})"] if versions[0] != versions[1] else []
    return [*made, *lines]


def compare(new: Any, old: Any, path: str = "") -> list[str]:
    """Return the settings that differ, as `path: old → new`.

    >>> compare({"mining": {"rule": "topk"}}, {"mining": {"rule": "topk-abs(0.7)"}})
    ['mining.rule: topk-abs(0.7) → topk']
    """
    if isinstance(new, dict) and isinstance(old, dict):
        keys = [*new, *(key for key in old if key not in new)]
        return [line for key in keys for line in compare(new.get(key), old.get(key), f"{path}.{key}" if path else key)]
    return [] if new == old else [f"{path}: {old} → {new}"]
