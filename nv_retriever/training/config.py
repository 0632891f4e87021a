"""How the student is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from nv_retriever.config import Frozen
from nv_retriever.teachers.config import EncoderConfig


class StudentConfig(Frozen):
    """The model that is trained."""

    encoder: EncoderConfig = EncoderConfig()
    """Where it starts from."""
    layers: int | None = Field(default=None, ge=1)
    """Keep only the first layers (a small student from a larger model); by default 2 where both model and data set are the
    default ones, which shows a whole run in minutes, else all."""
    bidirectional: bool = False
    """Let every token of a decoder attend to every other one; written to the model's own configuration."""
    pool_prompt: bool = True
    """Whether the prompt's tokens take part in the pooling; they are attended to in any case."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the stored weights; bfloat16 halves a large frozen base under LoRA."""


class LoraConfig(Frozen):
    """Low-rank adapters (peft) instead of all weights; merged into the weights on export."""

    rank: int = Field(default=16, ge=1)
    """Rank of the update."""
    alpha: float = Field(default=32, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the adapters."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the adapted linear layers."""


class DistillationConfig(Frozen):
    """Learn the teacher's scores of the mined triples."""

    loss: Literal["kl", "margin-mse"] = "kl"
    """KL divergence over the sample's own candidates, or the squared error of the margins (positive minus negative)."""
    weight: float = Field(default=1.0, gt=0)
    """Factor of the distillation loss."""
    contrastive_weight: float = Field(default=1.0, ge=0)
    """Factor of InfoNCE; 0 distils alone."""
    temperature: float = Field(default=0.05, gt=0)
    """Divides the teacher's scores in KL."""

    @model_validator(mode="after")
    def _temperature(self) -> Self:
        if self.loss != "kl" and self.differs("temperature"):
            raise ValueError("distillation.temperature divides scores in kl only: leave it out for margin-mse")
        return self


class GuideConfig(Frozen):
    """Mask in-batch passages that look like false negatives to a guide (as GISTEmbed does), by the positive-aware limit.

    The limit is s+ - value for `margin` and s+ - (1 - value) * abs(s+) for `perc`, where s+ is the positive's score; a
    passage at or above it is masked. Explicit hard negatives have passed the miner's rule and are left alone.
    """

    scores: Literal["student", "teacher"] = "student"
    """Who scores: the student as it is at that step, or the first teacher's stored vectors."""
    rule: Literal["margin", "perc"] = "margin"
    """Absolute or relative distance to the positive's score."""
    value: float = 0.0
    """The margin, or the share (above 0)."""

    @model_validator(mode="after")
    def _share(self) -> Self:
        if self.rule == "perc" and self.value <= 0:
            raise ValueError("guide.value is a share of the positive's score for perc: above 0, for example 0.95")
        return self


class EarlyStoppingConfig(Frozen):
    """Keep the weights that score best (nDCG@10) on a bounded sample of a development split."""

    split: str = "dev"
    """The qrels split."""
    every: int = Field(default=50, ge=1)
    """Steps between two evaluations."""
    patience: int = Field(default=3, ge=1)
    """Stop after so many evaluations without a better score."""
    queries: int = Field(default=200, ge=1)
    """At most so many queries, chosen by a hash of their ids."""
    documents: int = Field(default=2000, ge=1)
    """At most so many other documents beside the queries' positives, the same random ones each time."""


class TrainingConfig(Frozen):
    """Contrastive training over (query, positive, hard negatives)."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the samples."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after so many optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Samples in one forward pass on one device: the scope of in-batch negatives."""
    accumulation: int = Field(default=1, ge=1)
    """Batches in one optimizer step."""
    negatives: int | None = Field(default=None, ge=0)
    """Hard negatives used per sample and epoch; where more were mined they take turns over the epochs. Default: all."""
    in_batch_negatives: bool = True
    """Whether the other samples' passages are negatives too (known positives and duplicates are masked)."""
    temperature: float = Field(default=0.05, gt=0)
    """Divides the similarities."""
    learn_temperature: bool = False
    """Train the temperature along with the weights."""
    guide: GuideConfig | None = None
    """Mask in-batch passages that look like false negatives; by default only known positives and duplicates are."""
    distillation: DistillationConfig | None = None
    """Learn from the teacher's scores as well, or instead."""
    learning_rate: float = Field(default=5e-5, gt=0)
    """Peak learning rate of AdamW."""
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Number of steps in which the learning rate rises; then warmup_ratio must stay at its default."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them as they are."""
    dropout: float | None = Field(default=0.0, ge=0, lt=1)
    """Dropout of the student while it is trained; none keeps the model's own. 0 is also the fastest."""
    lora: LoraConfig | None = None
    """Train low-rank adapters instead of all weights."""
    query_max_length: int = Field(default=64, ge=2)
    """Tokens of a query in training."""
    document_max_length: int = Field(default=128, ge=2)
    """Tokens of a document in training."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is autocast over fp32 weights; auto takes it where the hardware has it."""
    micro_batch_tokens: int | None = Field(default=None, ge=16)
    """Tokens (padding included) that go through the model at once; by default 2048 on a CPU, 65536 on a GPU."""
    gradient_caching: bool = False
    """Hold the activations of one micro-batch only (GradCache): batches of any size, at a second forward pass."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass."""
    compile: bool = False
    """torch.compile the student: pays on GPUs and long runs."""
    processes: int = Field(default=1, ge=1)
    """Training processes on this machine, one a GPU, through torchrun: a step's batch is so many times `batch_size`."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """Of several processes: ddp holds the whole model in each; fsdp shards weights, gradients and optimizer states."""
    early_stopping: EarlyStoppingConfig | None = None
    """Keep the best weights on a development split; by default the last ones are kept."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints from which a killed run goes on."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of the log."""

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> Self:
        alone = self.distillation is not None and self.distillation.contrastive_weight == 0
        if self.negatives == 0 and not self.in_batch_negatives:
            raise ValueError("negatives is 0 and in_batch_negatives is off: there is nothing to learn from")
        if self.guide and not self.in_batch_negatives:
            raise ValueError("guide masks in-batch negatives, but in_batch_negatives is off")
        if alone and (self.guide or (self.learn_temperature and self.distillation and self.distillation.loss != "kl")):
            raise ValueError("distillation alone (contrastive_weight 0) leaves guide and learn_temperature without effect")
        if alone and self.distillation and self.distillation.loss != "kl" and self.differs("temperature"):
            raise ValueError("margin-mse alone (contrastive_weight 0) divides by no temperature: leave temperature out")
        if self.distillation and self.negatives == 0:
            raise ValueError("distillation needs hard negatives with teacher scores, but negatives is 0")
        if self.warmup_steps is not None and self.warmup_ratio != TrainingConfig.model_fields["warmup_ratio"].default:
            raise ValueError("warmup_steps replaces warmup_ratio: set one of them")
        if self.gradient_caching and self.gradient_checkpointing:
            raise ValueError("gradient_caching already bounds the activations: leave gradient_checkpointing off")
        if self.strategy == "fsdp" and self.early_stopping:
            raise ValueError("early_stopping needs ddp, which has the whole model in every process")
        if self.strategy == "fsdp" and self.learn_temperature:
            raise ValueError("learn_temperature needs ddp: fsdp would shard one number")
        return self


class NodesConfig(Frozen):
    """Several machines that train together, each with `TrainingConfig.processes` processes."""

    nodes: int = Field(default=1, ge=1)
    """Machines; the same command is started on each, over a shared home."""
    node_rank: int = Field(default=0, ge=0)
    """Number of this machine."""
    rendezvous: str | None = None
    """HOST:PORT of machine 0; needed where there are several."""

    @model_validator(mode="after")
    def _rendezvous(self) -> Self:
        if (self.nodes > 1) != (self.rendezvous is not None):
            raise ValueError("rendezvous (HOST:PORT of machine 0) belongs to several nodes: set both or none")
        if self.node_rank >= self.nodes:
            raise ValueError(f"node_rank counts from 0 and must be below nodes ({self.nodes})")
        return self
