"""Under torchrun: the gradients of one batch, with and without gradient caching; the first process saves them."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from test_training_step import make_batches

from nv_retriever.data.dataset import Dataset
from nv_retriever.training.batches import Batches
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.samples import read_samples
from nv_retriever.training.student import open_model, set_dropout
from nv_retriever.training.trainer import RetrieverTrainer, training_arguments


def step(
    dataset: Dataset, mining: Path, model: Path, folder: Path, cached: bool, rank: int, world: int
) -> dict[str, torch.Tensor]:
    """Return the gradients of one step over 7 samples."""
    encoder = open_model(model)
    set_dropout(encoder, 0.0)
    settings = TrainingConfig(precision="fp32", gradient_caching=cached, learn_temperature=True)
    whole = make_batches(dataset, read_samples(dataset, mining), encoder, folder / f"tokens-{rank}", 7, budget=100)
    batches = Batches(whole._sources, whole._order, 100, whole._pad, rank, world)
    bi = BiEncoder(encoder, settings, cosine=True, bf16=False)
    trainer = RetrieverTrainer(bi, training_arguments(folder / "steps", settings, 1, 0, cpu=True), batches, [])
    wrapped = trainer.accelerator.prepare(bi) if world > 1 else bi
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    trainer.training_step(wrapped, batches[0], None)
    return {name: p.grad for name, p in bi.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    import os

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dataset, mining, model, folder = Dataset.open(sys.argv[1]), *map(Path, sys.argv[2:5])
    for cached in (False, True):
        found = step(dataset, mining, model, folder, cached, rank, world)
        if rank == 0:
            save_file({name: grad.contiguous() for name, grad in found.items()}, folder / f"cached-{cached}.safetensors")
