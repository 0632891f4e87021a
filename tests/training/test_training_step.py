"""One step against independent implementations: plain torch, and sentence-transformers' losses where the semantics agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_data import make_mining

from nv_retriever.data.dataset import Dataset
from nv_retriever.training.batches import Batches, BatchOrder, Source
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.config import DistillationConfig, GuideConfig, TrainingConfig
from nv_retriever.training.known import KnownPositives
from nv_retriever.training.samples import Samples, read_samples
from nv_retriever.training.student import open_model, set_dropout
from nv_retriever.training.tokens import Tokens, write_tokens
from nv_retriever.training.trainer import RetrieverTrainer, training_arguments


def make_batches(
    dataset: Dataset, samples: Samples, encoder: Any, folder: Path, size: int, budget: int = 256, **more: Any
) -> Batches:
    tokenizer = encoder.tokenizer
    queries, documents = np.unique(samples.query_rows), samples.document_rows()
    write_tokens(folder / "q", queries, dataset.query_texts, tokenizer, "", 64)
    write_tokens(folder / "d", documents, dataset.document_texts, tokenizer, "", 64)
    tokens = Tokens(folder / "q", queries), Tokens(folder / "d", documents)
    source = Source(samples, KnownPositives(dataset), *tokens, **more)
    return Batches([source], BatchOrder([samples.keys], size, 0), budget, encoder.tokenizer.pad_token_id)


def distinct(samples: Samples, wanted: int, negatives: int) -> Samples:
    """Return samples of which no two share a passage: there our loss and sentence-transformers' mean the same."""
    chosen: list[tuple[int, np.ndarray]] = []
    used: set[int] = set()
    for i in range(len(samples)):
        passages = [int(samples.positive_rows[i]), *samples.negative_rows[samples.negatives(i, None, 0)].tolist()]
        if not used & set(passages) and len(chosen) < wanted:
            used |= set(passages)
            chosen.append((i, samples.negatives(i, None, 0)))
    assert len(chosen) == wanted
    rows, flat = np.array([i for i, _ in chosen]), np.concatenate([n for _, n in chosen])
    offsets = np.arange(wanted + 1, dtype=np.int64) * negatives
    scores = (samples.positive_scores[flat], samples.negative_scores[flat])
    return Samples(
        samples.query_rows[rows],
        samples.positive_rows[rows],
        offsets,
        samples.negative_rows[flat],
        *scores,
        ("cosine",),
        samples.keys[rows],
    )


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return {name.removeprefix("encoder."): grad for name, grad in found.items()}


@pytest.fixture
def few(animals: Dataset, tmp_path: Path) -> Samples:
    return distinct(read_samples(animals, make_mining(tmp_path / "m", animals, negatives=2)), 4, 2)


@pytest.mark.peer
@pytest.mark.parametrize("cached", [False, True])
def test_a_step_equals_multiple_negatives_ranking_loss(
    animals: Dataset, few: Samples, bert: Path, tmp_path: Path, cached: bool
) -> None:
    from sentence_transformers.sentence_transformer import losses

    encoder = open_model(bert)
    set_dropout(encoder, 0.0)
    settings = TrainingConfig(temperature=0.05, precision="fp32", gradient_caching=cached)
    ours = BiEncoder(encoder, settings, cosine=True, bf16=False)
    batches = make_batches(animals, few, encoder, tmp_path, 4)
    trainer = RetrieverTrainer(ours, training_arguments(tmp_path / "steps", settings, 1, 0, cpu=True), batches, [])
    trainer.current_gradient_accumulation_steps = 1
    trainer.create_optimizer()
    loss = trainer.training_step(ours, batches[0], None)
    found = gradients(ours)

    order = BatchOrder([few.keys], 4, 0)[0][2]
    negatives = [few.negative_rows[few.offsets[:-1][order] + j] for j in range(2)]
    columns = [animals.query_texts(few.query_rows[order]), animals.document_texts(few.positive_rows[order])]
    columns += [animals.document_texts(rows) for rows in negatives]
    features = [dict(encoder.preprocess(texts).items()) for texts in columns]
    kind = losses.CachedMultipleNegativesRankingLoss if cached else losses.MultipleNegativesRankingLoss
    theirs = kind(encoder, scale=20.0, **({"mini_batch_size": 3} if cached else {}))
    reference = theirs([{k: v for k, v in f.items() if torch.is_tensor(v)} for f in features], None)
    reference.backward()
    expected = gradients(encoder)
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-5, atol=1e-5)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5)


def test_a_step_equals_plain_torch(animals: Dataset, mined: Path, bert: Path, tmp_path: Path) -> None:
    """Ragged negatives, shared passages, known positives in the batch: against a loop over texts and pairs."""
    samples = read_samples(animals, make_mining(tmp_path / "ragged", animals, ragged=True))
    encoder = open_model(bert).eval()
    ours = BiEncoder(encoder, TrainingConfig(temperature=0.1, precision="fp32"), cosine=True, bf16=False).eval()
    loss = ours(make_batches(animals, samples, encoder, tmp_path, 7)[0])
    picked = BatchOrder([samples.keys], 7, 0)[0][2].tolist()
    own = {i: samples.negative_rows[samples.negatives(i, None, 0)].tolist() for i in picked}
    passages = sorted({int(samples.positive_rows[i]) for i in picked} | {n for group in own.values() for n in group})
    known = animals.positives()
    vectors = dict(
        zip(passages, encoder.encode(animals.document_texts(np.array(passages)), convert_to_tensor=True), strict=True)
    )
    terms = []
    for i in picked:
        query = encoder.encode(animals.query_texts(np.array([samples.query_rows[i]])), convert_to_tensor=True)[0]
        positive = int(samples.positive_rows[i])
        positives = set(known.document_rows[known.query_rows == samples.query_rows[i]].tolist())
        candidates = [p for p in passages if p == positive or p not in positives]
        scores = torch.stack([query @ vectors[p] / 0.1 for p in candidates])
        terms.append(-torch.log_softmax(scores, 0)[candidates.index(positive)])
    torch.testing.assert_close(loss.detach(), torch.stack(terms).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_caching_gives_the_same_gradients(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, dropout: float
) -> None:
    samples = read_samples(animals, mined)
    results = []
    for cached in (False, True):
        encoder = open_model(bert)
        set_dropout(encoder, dropout)
        settings = TrainingConfig(precision="fp32", gradient_caching=cached, learn_temperature=True)
        model = BiEncoder(encoder, settings, cosine=True, bf16=False)
        batches = make_batches(animals, samples, encoder, tmp_path, 8, budget=100)
        assert len(batches[0]["chunks"]) > 2
        trainer = RetrieverTrainer(model, training_arguments(tmp_path / "steps", settings, 1, 0, cpu=True), batches, [])
        trainer.current_gradient_accumulation_steps = 1
        trainer.create_optimizer()
        torch.manual_seed(3)
        loss = trainer.training_step(model, batches[0], None)
        results.append((loss, gradients(model), torch.rand(1)))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert results[0][2] == results[1][2], "the random state goes on as if nothing had been computed twice"
    assert results[0][1].keys() == results[1][1].keys() and "log_scale" in results[0][1]
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(gradient, results[1][1][name], rtol=1e-3, atol=1e-5)


def test_distillation_and_guide_reach_the_loss(animals: Dataset, few: Samples, bert: Path, tmp_path: Path) -> None:
    encoder = open_model(bert).eval()

    def loss(**settings: Any) -> float:
        model = BiEncoder(encoder, TrainingConfig(precision="fp32", **settings), cosine=True, bf16=False).eval()
        batch = make_batches(animals, few, encoder, tmp_path, 4)[0]
        return float(model(batch).detach())

    plain = loss()
    kl = loss(distillation=DistillationConfig(contrastive_weight=0))
    both = loss(distillation=DistillationConfig(weight=2.0))
    assert both == pytest.approx(plain + 2 * kl, rel=1e-4)
    assert loss(distillation=DistillationConfig(loss="margin-mse", contrastive_weight=0)) > 0
    assert loss(guide=GuideConfig(value=2.0)) < plain, "with a limit below every score only the mined negatives remain"
    guided, alone = loss(guide=GuideConfig(value=2.0)), make_batches(animals, few, encoder, tmp_path, 4, in_batch=False)[0]
    model = BiEncoder(encoder, TrainingConfig(precision="fp32"), cosine=True, bf16=False).eval()
    assert guided == pytest.approx(float(model(alone).detach()), rel=1e-4)


def test_settings_without_effect_are_refused() -> None:
    for settings in (
        {"negatives": 0, "in_batch_negatives": False},
        {"guide": {}, "in_batch_negatives": False},
        {"distillation": {"contrastive_weight": 0}, "guide": {}},
        {"distillation": {}, "negatives": 0},
        {"distillation": {"loss": "margin-mse", "contrastive_weight": 0}, "learn_temperature": True},
        {"distillation": {"loss": "margin-mse", "contrastive_weight": 0}, "temperature": 0.1},
        {"gradient_caching": True, "gradient_checkpointing": True},
        {"warmup_ratio": 0.2, "warmup_steps": 10},
        {"guide": {"rule": "perc"}},
        {"distillation": {"loss": "margin-mse", "temperature": 0.1}},
        {"strategy": "fsdp", "processes": 2, "learn_temperature": True},
    ):
        with pytest.raises(ValueError):
            TrainingConfig.model_validate(settings)
