"""What runs, models, parameters and metrics are called in MLflow."""

from __future__ import annotations

import json
import re
from typing import Any

from nv_retriever.plan.stages import BlendedCheckpointSpec, MiningSpec, TrainedSpec

MAX_METRIC_LENGTH = 200
"""MLflow takes 250 characters; a few are left for what follows the name."""


def describe_training(spec: TrainedSpec) -> tuple[str, dict[str, str]]:
    """Return the name and the tags of a training's run."""
    runs = " ".join(source.ref.fingerprint[:16] for source in spec.sources if isinstance(source, MiningSpec))
    if isinstance(spec, BlendedCheckpointSpec):
        title = spec.title
        tags = {"nvr.blend": title.blend, "nvr.blend_stage": title.stage, "nvr.dataset": " ".join(title.sources)}
        return f"train {title.blend} {title.stage}", {"nvr.mining_run": runs, **tags}
    source = spec.dataset.config.source
    return f"train {source} {spec.mining.mining.rule}", {"nvr.mining_run": runs, "nvr.dataset": source}


def registered_name(spec: TrainedSpec) -> str:
    """Return the name of the registered model, one a data set, or a blend: without what MLflow's filters end a name at."""
    name = spec.title.blend if isinstance(spec, BlendedCheckpointSpec) else spec.dataset.config.source
    return re.sub(r"[/:'\"`]", "-", f"nv-retriever-{name}")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings as `a.b` -> text.

    >>> flatten({"training": {"epochs": 1.0}, "seed": 0})
    {'training.epochs': '1.0', 'seed': '0'}
    """
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        elif value is not None and value != "":
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def metric_name(text: str) -> str:
    """Return the text in the characters that MLflow takes in names, of long ones the end; names have to read as paths.

    >>> metric_name("minilm/topk-percpos(0.95)")
    'minilm/topk-percpos 0.95'
    >>> metric_name("endpoint:http://host/v1#m/topk")
    'endpoint:http:/host/v1 m/topk'
    >>> metric_name("animals/nDCG@10")
    'animals/nDCG_10'
    """
    name = re.sub(r"/+", "/", re.sub(r"[^\w\-. :/]+", " ", text.replace("@", "_")))
    return name[-MAX_METRIC_LENGTH:].strip(" /")
