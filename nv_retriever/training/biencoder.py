"""The student as a torch module: encodes a packed batch in micro-batches and returns its loss."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.gather import gather
from nv_retriever.training.loss import candidate_kl, guide_mask, info_nce, margin_mse


class BiEncoder(nn.Module):
    """A sentence-transformers model, the temperature, and the loss over a batch of `training.batches`."""

    def __init__(self, encoder: Any, config: TrainingConfig, cosine: bool, bf16: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.settings, self.cosine, self.bf16 = config, cosine, bf16
        log_scale = torch.tensor([math.log(1 / config.temperature)], dtype=torch.float32)  # FSDP shards no scalars
        self.log_scale = nn.Parameter(log_scale, requires_grad=config.learn_temperature)

    def forward(self, batch: dict[str, Any], only: str | None = None) -> Tensor:
        """Return the loss of a batch (a scalar), or with only="encode" the vectors of one micro-batch, (n, d)."""
        if only == "encode":
            return self.encode(batch)
        return self.loss(torch.cat([self.encode(chunk) for chunk in self._embedded(batch["chunks"])]), batch)

    def _embedded(self, chunks: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Look up the word embeddings of all micro-batches at once: one gradient of that large matrix instead of many."""
        words = self.encoder[0].auto_model.get_input_embeddings()
        if not isinstance(words, nn.Embedding) or not words.weight.requires_grad or type(words.weight) is not nn.Parameter:
            return chunks
        states = words(torch.cat([chunk["input_ids"].flatten() for chunk in chunks]))
        parts = states.split([chunk["input_ids"].numel() for chunk in chunks])
        return [
            {**chunk, "inputs_embeds": part.view(*chunk["input_ids"].shape, -1)}
            for chunk, part in zip(chunks, parts, strict=True)
        ]

    def encode(self, chunk: dict[str, Tensor]) -> Tensor:
        """Return the vectors of a micro-batch, (n, d) float32; length 1 where the student scores by cosine."""
        transformer, *rest = list(self.encoder.children())
        features: dict[str, Any] = dict(chunk)
        ids = features.pop("input_ids") if "inputs_embeds" in features else features["input_ids"]
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.bf16):
            features = transformer(features)
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in rest:
            half = any(parameter.dtype == torch.bfloat16 for parameter in module.parameters())  # it gets float32 states
            with torch.autocast(ids.device.type, torch.bfloat16, enabled=half):
                features = module(features)
        vectors = cast(Tensor, features["sentence_embedding"]).float()
        return nn.functional.normalize(vectors, dim=-1) if self.cosine else vectors

    def loss(self, vectors: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the loss given the vectors of all micro-batches, (texts, d) in the micro-batches' order."""
        vectors = vectors[batch["order"]]
        queries = vectors[: batch["n_queries"]][batch["query_index"]]
        passages = gather(vectors[batch["n_queries"] :], batch["gathered"])
        similarities = queries @ passages.T
        scale = self.log_scale.exp() if self.settings.learn_temperature else 1 / self.settings.temperature
        distillation = self.settings.distillation
        total = torch.zeros((), device=vectors.device)
        if distillation is None or distillation.contrastive_weight > 0:
            weights = self._masked(batch, similarities)
            contrastive = info_nce(similarities, batch["positives"], weights, scale).mean()
            total = contrastive * (distillation.contrastive_weight if distillation else 1.0)
        if distillation is not None:
            own = similarities.gather(1, batch["candidates"].clamp(min=0))
            if distillation.loss == "kl":
                each = candidate_kl(own, batch["teacher_scores"], scale, 1 / distillation.temperature)
            else:
                each = margin_mse(own, batch["teacher_scores"])
            total = total + distillation.weight * each.mean()
        return cast(Tensor, total * batch["loss_scale"])

    def _masked(self, batch: dict[str, Any], similarities: Tensor) -> Tensor:
        weights = cast(Tensor, batch["log_weights"])
        guide = self.settings.guide
        if guide is None or (guide.scores == "teacher" and "guide_scores" not in batch):  # without in-batch negatives
            return weights
        scores = similarities.detach() if guide.scores == "student" else batch["guide_scores"]
        return weights.masked_fill(guide_mask(scores, batch["positives"], batch["own"], guide), -torch.inf)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by name: all that a resumed run needs of the weights."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
