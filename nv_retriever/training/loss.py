"""The losses: masked InfoNCE, and distillation of a teacher's scores (KL over candidates, MarginMSE).

All take similarities (b, m) of a batch's samples with its passages. Minus infinity masks; since a sample's own positive is
never masked no row is without a finite entry, and neither losses nor gradients can become NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nv_retriever.training.config import GuideConfig


def info_nce(similarities: Tensor, positives: Tensor, log_weights: Tensor, scale: Tensor | float) -> Tensor:
    """Return -log(exp(s+ / t) / sum of w exp(s / t)) of each sample, (b,) float32 (van den Oord et al. 2018).

    `similarities` and `log_weights` are (b, m), `positives` (b,) columns, `scale` is 1 / t. A log weight is -inf for a
    masked passage, 0 for a passage that counts once, log 2 for one that counts twice.
    """
    logits = similarities.float() * scale + log_weights
    return torch.logsumexp(logits, dim=1) - logits.gather(1, positives[:, None])[:, 0]


def guide_mask(scores: Tensor, positives: Tensor, own: Tensor, guide: GuideConfig) -> Tensor:
    """Return which in-batch passages a guide scores at or above the positive-aware limit, (b, m) bool.

    `scores` (b, m) are the guide's (Solatorio 2024, GISTEmbed), `own` (b, m) tells the sample's positive and mined
    negatives, which are never masked here. The limit is s+ - value, or s+ - (1 - value) * abs(s+) (NV-Retriever).
    """
    anchor = scores.gather(1, positives[:, None])
    limit = anchor - (guide.value if guide.rule == "margin" else (1 - guide.value) * anchor.abs())
    return (scores >= limit) & ~own


def candidate_kl(similarities: Tensor, teacher: Tensor, scale: Tensor | float, teacher_scale: float) -> Tensor:
    """Return KL(teacher || student) over each sample's own candidates, (b,) float32; both arguments (b, c).

    NaN teacher scores mark padding. A sample without negatives has a loss of 0.
    """
    padding = teacher.isnan()
    padding = padding | (~padding).sum(1, keepdim=True).le(1)
    keep = (~padding).float()
    student = (similarities.float() * scale).masked_fill(padding, torch.finfo(torch.float32).min / 4).log_softmax(1)
    target = (teacher * teacher_scale).masked_fill(padding, torch.finfo(torch.float32).min / 4).log_softmax(1)
    return (target.exp() * (target - student) * keep).sum(1)


def margin_mse(similarities: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of (s+ - s-) against the teacher's, over a sample's negatives (Hofstätter et al. 2020).

    Both (b, c) with the positive in column 0; NaN teacher scores mark padding; (b,) float32.
    """
    student = similarities.float()
    error = (student[:, :1] - student[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    present = ~error.isnan()
    return error.masked_fill(~present, 0.0).square().sum(1) / present.sum(1).clamp(min=1)
