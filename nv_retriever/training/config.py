"""How the student is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nv_retriever.config import Frozen
from nv_retriever.teachers.config import EncoderConfig


class StudentConfig(Frozen):
    """The model that is trained."""

    encoder: EncoderConfig = EncoderConfig()
    """Where it starts from."""
    layers: int | None = Field(default=None, ge=1)
    """Keep only the first layers (a small student from a larger model)."""


class TrainingConfig(Frozen):
    """Contrastive training over (query, positive, hard negatives)."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the samples."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Samples in one optimizer step on one device."""
    negatives: int | None = Field(default=None, ge=0)
    """Hard negatives used per sample; by default all that were mined."""
    in_batch_negatives: bool = True
    """Whether the other samples' passages are negatives too (known positives and duplicates are masked)."""
    temperature: float = Field(default=0.05, gt=0)
    """Divides the similarities."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW."""
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    query_max_length: int = Field(default=64, ge=2)
    """Tokens of a query in training."""
    document_max_length: int = Field(default=256, ge=2)
    """Tokens of a document in training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast over fp32 weights; auto takes it where the hardware has it."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints from which a killed run goes on."""
