"""One training from its sources to the exported model: tokens, batches, Trainer, resume, export."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from nv_retriever.errors import InputError
from nv_retriever.files import read_json
from nv_retriever.progress import progress
from nv_retriever.training.batches import Batches, BatchOrder
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.card import model_card
from nv_retriever.training.development import Development, EarlyStopping
from nv_retriever.training.job import TrainingJob, development_source
from nv_retriever.training.log import LogWriter, OnLog, StepProgress
from nv_retriever.training.samples import Samples
from nv_retriever.training.sharded import shard
from nv_retriever.training.source_reader import SourceReader
from nv_retriever.training.student import cosine_student, open_model, restore_types, save_model, set_dropout, stored_types
from nv_retriever.training.trainer import (
    CheckpointMarker,
    RetrieverTrainer,
    last_checkpoint,
    load_trainable,
    training_arguments,
)

logger = logging.getLogger(__name__)


class Run:
    """The state that the parts of one training share."""

    def __init__(self, folder: Path, job: TrainingJob, base_model: str, on_log: OnLog | None) -> None:
        self.folder, self.base_model, self.on_log, self.steps_folder = folder, base_model, on_log, folder / "steps"
        self.mined, self.model_folder, self.config, self.seed = job.sources, job.model_folder, job.config, job.seed
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.cpu, self.bf16 = job.cpu, job.bf16
        if job.runtime.workers is not None:
            torch.set_num_threads(job.runtime.workers)
        set_seed(job.seed)
        self.encoder = self._open()
        self.reader = SourceReader(self.steps_folder, self.config, self.encoder, self.rank)
        pad = self.encoder.tokenizer.pad_token_id
        self.pad = int(pad) if pad is not None else 0

    def train(self) -> dict[str, Any]:
        """Train, export, and return what the manifest says."""
        self.steps_folder.mkdir(parents=True, exist_ok=True)
        samples = [self.reader.samples(mined) for mined in self.mined]
        batch_size = self.config.batch_size * self.world
        order = BatchOrder([s.keys for s in samples], batch_size, self.seed, smallest=self.world)
        steps = self._steps(order.per_epoch)
        model = self._model()
        arguments = training_arguments(self.steps_folder, self.config, steps, self.seed, self.cpu)
        if self.world > 1 and self.config.strategy == "fsdp":
            shard(arguments, self.encoder)
        pairs = enumerate(zip(self.mined, samples, strict=True))
        sources = [self.reader.source(f"tokens-{i}", mined, own) for i, (mined, own) in pairs]
        tokens = self._budget()
        batches = Batches(sources, order, tokens, self.pad, self.rank, self.world, steps * self.config.accumulation)
        resume = last_checkpoint(self.steps_folder, clean=self.rank == 0)
        resumed = int(resume.name.split("-")[1]) if resume else 0
        per_epoch = order.per_epoch / self.config.accumulation
        log = LogWriter(self.folder / "log.jsonl", self.config.log_every, per_epoch, resumed, self.on_log, self.rank == 0)
        callbacks: list[Any] = [log, CheckpointMarker()]  # a checkpoint is marked before the others hear of it
        stopping = self._early_stopping(log)
        if stopping:
            callbacks.append(stopping)
        trainer = RetrieverTrainer(model, arguments, batches, callbacks)
        if stopping and stopping.exhausted:  # killed after its last step: the best weights are there
            return self._export(trainer, stopping, samples, resumed)
        with progress("train", steps, "steps", before=resumed) as shown:
            trainer.add_callback(StepProgress(shown))
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return self._export(trainer, stopping, samples, trainer.state.global_step)

    def _open(self) -> Any:
        """Return the untrained encoder, in float32 unless its weights stay as they are and bf16 is multiplied."""
        encoder = open_model(self.model_folder)
        self.stored = stored_types(encoder)
        return encoder if self.bf16 and self.config.lora else encoder.float()

    def _steps(self, per_epoch: int) -> int:
        if not per_epoch:
            raise InputError("training", "at least one batch", "fewer samples than processes")
        config, batches = self.config, math.ceil(per_epoch * self.config.epochs)
        if config.accumulation > batches:
            expected = f"at most {batches:,}, the batches of {config.epochs:g} epochs"
            raise InputError("training.accumulation", expected, str(config.accumulation))
        steps = max(1, round(per_epoch * config.epochs / config.accumulation))
        steps = min(steps, config.max_steps) if config.max_steps else steps
        if config.warmup_steps is not None and config.warmup_steps > steps:
            hint = "the learning rate would not reach its peak; warmup_ratio is a share of the steps"
            raise InputError("training.warmup_steps", f"at most {steps:,}, the steps", str(config.warmup_steps), hint)
        return steps

    def _model(self) -> BiEncoder:
        config = self.config
        if config.dropout is not None:
            set_dropout(self.encoder, config.dropout)
        if config.lora is not None:
            from nv_retriever.training.adapters import add_adapters

            add_adapters(self.encoder, config.lora)
        if config.gradient_checkpointing:
            transformer = self.encoder[0].auto_model
            newer = getattr(transformer, "activation_checkpointing_enable", None)  # transformers from 5.2x on
            (newer or transformer.gradient_checkpointing_enable)({"use_reentrant": False})
        model = BiEncoder(self.encoder, config, cosine_student(self.encoder), self.bf16)
        if config.compile:
            self.encoder[0].auto_model.compile(dynamic=True)
        return model

    def _budget(self) -> int:
        return self.config.micro_batch_tokens or (2048 if self.cpu else 65536)

    def _early_stopping(self, log: LogWriter) -> EarlyStopping | None:
        config = self.config.early_stopping
        if config is None:
            return None
        mined = development_source(self.mined, config.split)
        development = Development(mined.dataset, config)
        tokens = self.reader.tokens("development", mined, development.query_rows, development.document_rows)
        folder, budget = self.steps_folder, self._budget()
        stopping = EarlyStopping(development, tokens, config, folder, log.write, self.pad, budget)
        stopping.resume(log.lines)
        return stopping

    def _export(
        self, trainer: RetrieverTrainer, stopping: EarlyStopping | None, samples: list[Samples], steps: int
    ) -> dict[str, Any]:
        model = self._whole(trainer)
        info: dict[str, Any] = {
            "samples": sum(map(len, samples)),
            "steps": steps,
            "precision": "bf16" if model.bf16 else "fp32",
            "processes": self.world,
        }
        if stopping:
            load_trainable(model, stopping.best)
            info |= {"best_step": stopping.best_step, "development": dict(stopping.scores)[stopping.best_step]}
        if self.config.learn_temperature:
            info["temperature"] = float(torch.exp(-model.log_scale.detach()))
        losses = (
            [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()] if self.rank == 0 else []
        )
        info["loss"] = next((line["loss"] for line in reversed(losses) if "loss" in line), None)
        if self.rank == 0:
            self._save(info)
        return info

    def _whole(self, trainer: RetrieverTrainer) -> BiEncoder:
        """Return the trained model; under FSDP its shards are gathered into a fresh one."""
        if not trainer.is_fsdp_enabled:
            model: BiEncoder = trainer.accelerator.unwrap_model(trainer.model)
            return model
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        self.encoder = self._open()
        model = self._model()
        if self.rank == 0:
            with torch.no_grad():
                for name, parameter in model.trainable().items():
                    parameter.copy_(state[name])
        return model

    def _save(self, info: dict[str, Any]) -> None:
        encoder = self.encoder.cpu()
        if self.config.lora is not None:
            from nv_retriever.training.adapters import merge_adapters

            merge_adapters(encoder)
        restore_types(encoder, self.stored)
        mining = []
        for mined in self.mined:
            run = mined.mining_folder / "run.json"
            said = read_json(run) if run.exists() else {"folder": mined.mining_folder.name}
            mining.append(said | ({} if mined.query_prompt is None else {"query_prompt": mined.query_prompt}))
        student = {"layers": encoder[0].auto_model.config.num_hidden_layers, "prompts": encoder.prompts}
        recipe = {"student": student, "training": self.config.model_dump(mode="json"), "seed": self.seed, "mining": mining}
        facts = info | {"layers": student["layers"]}
        save_model(encoder, self.folder / "model", model_card("Trained retriever", self.base_model, facts, recipe))
