import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.training.config import GuideConfig
from nv_retriever.training.loss import candidate_kl, guide_mask, info_nce, margin_mse


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9))
def test_info_nce_is_the_formula(seed: int, b: int, m: int) -> None:
    torch.manual_seed(seed)
    similarities = torch.randn(b, m, dtype=torch.float32, requires_grad=True)
    positives = torch.randint(0, m, (b,))
    counts = torch.randint(0, 3, (b, m)).float()
    counts[torch.arange(b), positives] = 1
    losses = info_nce(similarities, positives, counts.log(), 1 / 0.05)
    losses.sum().backward()
    for i in range(b):
        e = np.exp(similarities[i].detach().double().numpy() / 0.05)
        expected = -np.log(e[positives[i]] / (e * counts[i].numpy()).sum())
        np.testing.assert_allclose(losses[i].item(), expected, rtol=1e-4, atol=1e-4)
    assert similarities.grad is not None and similarities.grad.isfinite().all()
    assert (similarities.grad[counts == 0] == 0).all(), "a masked passage has no influence"


def test_info_nce_of_a_positive_alone_is_zero_and_finite() -> None:
    similarities = torch.zeros(1, 3, requires_grad=True)
    loss = info_nce(similarities, torch.tensor([1]), torch.tensor([[-torch.inf, 0.0, -torch.inf]]), 20.0)
    loss.sum().backward()
    assert loss.item() == 0.0
    assert similarities.grad is not None and (similarities.grad == 0).all()


def test_margin_mse_is_that_of_sentence_transformers() -> None:
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    expected = torch.nn.functional.mse_loss(student[:, :1] - student[:, 1:], teacher[:, :1] - teacher[:, 1:])
    torch.testing.assert_close(margin_mse(student, teacher).mean(), expected)


def test_distillation_ignores_padding_and_has_finite_gradients() -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 4, requires_grad=True)
    teacher = torch.randn(3, 4)
    teacher[0, 2:], teacher[1, 1:] = torch.nan, torch.nan
    kl = candidate_kl(student, teacher, 20.0, 20.0)
    mse = margin_mse(student, teacher)
    expected = torch.nn.functional.kl_div(
        (student[0, :2] * 20).log_softmax(0), (teacher[0, :2] * 20).log_softmax(0), reduction="sum", log_target=True
    )
    torch.testing.assert_close(kl[0], expected)
    assert kl[1] == 0 and mse[1] == 0, "a sample without negatives teaches nothing"
    (kl.sum() + mse.sum()).backward()
    assert student.grad is not None and student.grad.isfinite().all()
    assert (student.grad[0, 2:] == 0).all() and (student.grad[1] == 0).all()


def test_guide_limit_stays_below_a_negative_positive_score() -> None:
    scores = torch.tensor([[-0.5, -0.51, -0.6, 0.2]])
    own = torch.tensor([[True, False, False, False]])
    masked = guide_mask(scores, torch.tensor([0]), own, GuideConfig(rule="perc", value=0.95))
    assert masked.tolist() == [[False, True, False, True]], "limit = -0.5 - 0.05 * 0.5 = -0.525"
    masked = guide_mask(scores, torch.tensor([0]), own, GuideConfig(rule="margin", value=0.0))
    assert masked.tolist() == [[False, False, False, True]]
