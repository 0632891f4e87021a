"""The training stage: the untrained student, and the checkpoint that contrastive training makes of it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.artifacts import write_json
from nv_retriever.config import Runtime
from nv_retriever.training.config import StudentConfig, TrainingConfig

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.training.trainer import OnLog

logger = logging.getLogger(__name__)
DONE = "training.json"


@dataclass(frozen=True)
class Mined:
    """A data set with its mined triples: one of the sources that a training blends."""

    dataset: Dataset
    split: str
    mining_folder: Path
    query_prompt: str | None = None
    """Task instruction put before the queries; by default the model's own query prompt."""
    document_prompt: str | None = None
    in_batch_negatives: bool | None = None
    """Overrides the training's switch: classes and clusters have siblings in every batch."""
    samples: int | None = None
    """At most so many samples, chosen by their hashes."""
    guide: tuple[Path, Path] | None = None
    """Embeddings of the teacher (documents, queries of the split) for a guide that is the teacher."""


def write_student(folder: Path, config: StudentConfig) -> dict[str, Any]:
    """Write the untrained student as `model/`, a plain sentence-transformers folder."""
    from nv_retriever.training.card import model_card
    from nv_retriever.training.student import open_student, save_model

    encoder = open_student(config)
    info = {
        "base_model": config.encoder.model,
        "layers": encoder[0].auto_model.config.num_hidden_layers,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "dimension": encoder.get_embedding_dimension(),
    }
    card = model_card("Untrained student", config.encoder.model, info, {"student": config.model_dump(mode="json")})
    save_model(encoder, folder / "model", card)
    write_json(folder / "student.json", info)
    return info


def write_checkpoint(
    folder: Path,
    dataset: Dataset,
    split: str,
    mining_folder: Path,
    model_folder: Path,
    config: TrainingConfig,
    seed: int,
    runtime: Runtime,
    on_log: OnLog | None = None,
    guide: tuple[Path, Path] | None = None,
) -> dict[str, Any]:
    """Train the student of `model_folder` and write `model/`, `log.jsonl`, `training.json`; goes on after a kill.

    `on_log(step, values)` sees every line of the log, those from before a kill included. `guide` are the embeddings of
    the first teacher (documents, queries), for `config.guide.scores == "teacher"`.
    """
    return write_blended_checkpoint(
        folder, [Mined(dataset, split, mining_folder, guide=guide)], model_folder, config, seed, runtime, on_log
    )


def write_blended_checkpoint(
    folder: Path,
    sources: Sequence[Mined],
    model_folder: Path,
    config: TrainingConfig,
    seed: int,
    runtime: Runtime,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Do what `write_checkpoint` does over several sources, every batch of one of them, in `config.processes`."""
    if config.processes > 1:
        from nv_retriever.training.launch import launch_checkpoint

        return launch_checkpoint(folder, sources, model_folder, config, seed, runtime, on_log)
    return train_checkpoint(folder, sources, model_folder, config, seed, runtime, on_log)


def train_checkpoint(
    folder: Path,
    sources: Sequence[Mined],
    model_folder: Path,
    config: TrainingConfig,
    seed: int,
    runtime: Runtime,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Do what `write_blended_checkpoint` does in this process; under torchrun all do, and the first one writes."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / DONE
    if not done.exists():
        from accelerate import PartialState

        from nv_retriever.training.run import Run

        started = time.monotonic()
        base = _base_model(model_folder)
        info = Run(folder, sources, model_folder, base, config, seed, runtime, on_log).train()
        if int(os.environ.get("RANK", "0")) == 0:
            write_json(done, {"base_model": base, **info, "train_seconds": round(time.monotonic() - started, 3)})
        PartialState().wait_for_everyone()  # the others may still be at work in the steps
    shutil.rmtree(folder / "steps", ignore_errors=True)
    result: dict[str, Any] = json.loads(done.read_text())
    return result


def _base_model(model_folder: Path) -> str:
    """Return the name of what the student was made of: earlier stages wrote it beside its folder."""
    for name in ("student.json", DONE):
        path = model_folder.parent / name
        if path.exists():
            return str(json.loads(path.read_text())["base_model"])
    return model_folder.name
