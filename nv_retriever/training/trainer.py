"""The transformers Trainer over our batches: steps for epochs, small checkpoints, gradient caching, an exact resume."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from nv_retriever.training.batches import Batches
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.gather import evened
from nv_retriever.training.sharded import load_optimizer

WEIGHTS = "trainable.safetensors"
COMPLETE = "complete"
"""A checkpoint that holds this file was written to its end."""
PATIENCE_SECONDS = 24 * 3600
"""The other processes wait while the first one tokenises; torchrun sees one that died by itself."""


def training_arguments(steps_folder: Path, config: TrainingConfig, steps: int, seed: int, cpu: bool) -> TrainingArguments:
    """Return the Trainer's arguments; `steps` counts optimizer steps."""
    warmup = config.warmup_steps if config.warmup_steps is not None else int(config.warmup_ratio * steps)
    arguments = TrainingArguments(
        output_dir=str(steps_folder),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=warmup,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch_fused",
        logging_strategy="no",
        save_steps=config.save_every,
        save_total_limit=2,
        seed=seed,
        report_to=[],
        disable_tqdm=True,
        use_cpu=cpu,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_timeout=PATIENCE_SECONDS,
        logging_nan_inf_filter=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one device: several GPUs are several processes (launch.py)
    return arguments


class RetrieverTrainer(Trainer):  # type: ignore[misc]
    """Runs `BiEncoder` over `Batches`."""

    def __init__(
        self, model: BiEncoder, arguments: TrainingArguments, batches: Batches, callbacks: list[TrainerCallback]
    ) -> None:
        super().__init__(model=model, args=arguments, callbacks=callbacks)
        self.batches, self.settings = batches, model.settings
        self.model_accepts_loss_kwargs = False
        for printer in [c for c in self.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"]:
            self.remove_callback(printer)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the steps in order; every process sees its own share of each step."""
        return DataLoader(self.batches, batch_size=1, shuffle=False, collate_fn=_only)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the parameters under weight decay: the Trainer's, without the temperature."""
        return [name for name in super().get_decay_parameter_names(model) if not name.endswith("log_scale")]

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the loss of one batch."""
        loss: torch.Tensor = model(inputs)
        return loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Run forward and backward of one batch, in chunks with cached gradients where configured."""
        if self.is_fsdp_enabled:
            inputs = {**inputs, "chunks": evened(inputs["chunks"], self.args.device)}
        if not self.settings.gradient_caching:
            loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
            return loss
        model.train()
        return self._cached_step(model, self._prepare_inputs(inputs))

    def _cached_step(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Back-propagate through one micro-batch at a time (Gao et al. 2021): equal gradients, activations of one chunk."""
        module: BiEncoder = self.accelerator.unwrap_model(model)
        chunk_model = model if self.is_fsdp_enabled else module  # DDP: local sums, then one average
        states, parts = [], []
        with torch.no_grad():
            for chunk in batch["chunks"]:
                states.append(_random_state())
                parts.append(chunk_model(chunk, only="encode"))
        vectors = torch.cat(parts).requires_grad_()
        loss: torch.Tensor = module.loss(vectors, batch) / self.current_gradient_accumulation_steps
        loss.backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        gradients = torch.split(vectors.grad, [len(part) for part in parts])
        after = _random_state()
        for chunk, state, gradient in zip(batch["chunks"], states, gradients, strict=True):
            _set_random_state(state)
            chunk_model(chunk, only="encode").backward(gradient)
        _set_random_state(after)
        if dist.is_initialized() and not self.is_fsdp_enabled and self.accelerator.sync_gradients:
            for parameter in module.trainable().values():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= dist.get_world_size()
        return loss.detach()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the trained parameters only: under LoRA these are the adapters."""
        assert output_dir is not None
        if self.args.should_save:
            folder = Path(output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_trainable(self.accelerator.unwrap_model(self.model), folder / WEIGHTS, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_trainable(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint) / WEIGHTS)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
        else:
            load_optimizer(self.model, self.optimizer, Path(checkpoint))
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / "scheduler.pt", weights_only=True))


def save_trainable(model: BiEncoder, path: Path, state_dict: dict[str, Any] | None = None) -> None:
    """Write the trained parameters as safetensors."""
    names = model.trainable()
    values = state_dict if state_dict is not None else dict(names)
    save_file({name: values[name].detach().contiguous().cpu() for name in names if name in values}, str(path))


def load_trainable(model: BiEncoder, path: Path) -> None:
    """Read what `save_trainable` wrote into the model."""
    values = load_file(str(path))
    with torch.no_grad():
        for name, parameter in model.trainable().items():
            parameter.copy_(values[name])


class CheckpointMarker(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints that were written to their end: a kill in the middle of one must not break the resume."""

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the mark, after every process has written its part (each its own random state)."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
            for path in folder.rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
            (folder / COMPLETE).touch()


def last_checkpoint(steps_folder: Path, clean: bool = True) -> Path | None:
    """Return the newest checkpoint that was written to its end; incomplete ones are removed."""
    best: tuple[int, Path] | None = None
    for path in steps_folder.glob("checkpoint-*"):
        if not (path / COMPLETE).exists():
            if clean:
                shutil.rmtree(path, ignore_errors=True)
        elif best is None or int(path.name.split("-")[1]) > best[0]:
            best = (int(path.name.split("-")[1]), path)
    return best[1] if best else None


def _only(items: list[Any]) -> Any:
    return items[0]


def _random_state() -> tuple[Any, Any]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[Any, Any]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
