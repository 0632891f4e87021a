"""The training stage: the untrained student, and the checkpoint that contrastive training makes of it."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.files import read_json, write_json
from nv_retriever.training.config import StudentConfig
from nv_retriever.training.job import TrainingJob

if TYPE_CHECKING:
    from nv_retriever.training.log import OnLog

logger = logging.getLogger(__name__)
DONE = "training.json"


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


def run_training_job(folder: Path, job: TrainingJob, on_log: OnLog | None = None) -> dict[str, Any]:
    """Train a job's student and fill `folder` (`model/`, `log.jsonl`, `training.json`); returns what training.json says.

    Goes on after a kill. In as many processes as the job's config says; `on_log(step, values)` sees every line of the log,
    those from before a kill included.
    """
    if job.config.processes > 1:
        from nv_retriever.training.launch import launch_training_job

        return launch_training_job(folder, job, on_log)
    return run_training_process(folder, job, on_log)


def run_training_process(folder: Path, job: TrainingJob, on_log: OnLog | None = None) -> dict[str, Any]:
    """Do what `run_training_job` does, in this process; under torchrun all processes do, and the first one writes."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / DONE
    if not done.exists():
        job.check(int(os.environ.get("WORLD_SIZE", "1")))
        from accelerate import PartialState

        from nv_retriever.training.run import Run

        started = time.monotonic()
        base = _base_model(job.model_folder)
        info = Run(folder, job, base, on_log).train()
        if int(os.environ.get("RANK", "0")) == 0:
            write_json(done, {"base_model": base, **info, "train_seconds": round(time.monotonic() - started, 3)})
        PartialState().wait_for_everyone()  # the others may still be at work in the steps
    shutil.rmtree(folder / "steps", ignore_errors=True)
    result: dict[str, Any] = read_json(done)
    return result


def _base_model(model_folder: Path) -> str:
    """Return the name of what the student was made of: earlier stages wrote it beside its folder."""
    for name in ("student.json", DONE):
        path = model_folder.parent / name
        if path.exists():
            return str(read_json(path)["base_model"])
    return model_folder.name
