"""What a training says of itself: log.jsonl, written by the first process, and its steps as progress."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from nv_retriever.errors import InputError
from nv_retriever.files import write_aside
from nv_retriever.progress import Progress

LOGGED = ("loss", "learning_rate")
OnLog = Callable[[int, dict[str, float]], None]


class LogWriter(TrainerCallback):  # type: ignore[misc]
    """Asks for a line every `every` steps; the first process writes log.jsonl and calls `on_log`.

    After a kill the log is cut back to the step that the run goes on from, and `on_log` sees the lines that stay.
    """

    def __init__(self, path: Path, every: int, per_epoch: float, resumed: int, on_log: OnLog | None, first: bool) -> None:
        self.path, self.every, self.per_epoch, self.on_line, self.first = path, every, per_epoch, on_log, first
        known = path.read_text().splitlines() if path.exists() else []
        lines = [json.loads(line) for line in known if line.endswith("}")]
        self.lines: list[dict[str, float]] = [line for line in lines if line["step"] <= resumed]
        if first:
            with write_aside(path) as aside:  # other processes may be reading it
                aside.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
            for line in self.lines:
                self._tell(line)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append a line."""
        line = {"step": step, "epoch": round(step / self.per_epoch, 4), **values}
        self.lines.append(line)
        if self.first:
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._tell(line)

    def _tell(self, line: dict[str, float]) -> None:
        if self.on_line:
            self.on_line(int(line["step"]), {name: value for name, value in line.items() if name != "step"})

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask the Trainer for a line."""
        saved = state.global_step % args.save_steps == 0  # a resumed run averages the loss from there on
        if saved or state.global_step % self.every == 0 or state.global_step in (1, state.max_steps):
            control.should_log = True

    def on_log(
        self, args: TrainingArguments, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Write the Trainer's line."""
        if logs and "loss" in logs:
            model = kwargs["model"]
            values = {name: float(logs[name]) for name in (*LOGGED, "grad_norm") if name in logs}
            if not math.isfinite(values["loss"]):  # before a checkpoint of it is saved
                hint = "lower training.learning_rate, or leave training.max_grad_norm above 0"
                raise InputError("training", "a finite loss", f"{values['loss']} up to step {state.global_step}", hint)
            if model.settings.learn_temperature:
                values["temperature"] = float(torch.exp(-model.log_scale.detach()))
            self.write(state.global_step, values)


class StepProgress(TrainerCallback):  # type: ignore[misc]
    """Counts the steps of a training in this process."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Count a step."""
        self.shown.advance()
