"""Cross-encoders: the model's logits, over the first teacher's candidates, whatever the batch."""

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_models import write_cross_encoder

from flows.settings import build_config
from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.mining.judge import judge_digest
from nv_retriever.pipeline import mining_spec
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Exclusions
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.cross_encoder import CrossEncoderScorer, resolve_cross_encoder
from nv_retriever.teachers.open import open_scorer
from nv_retriever.teachers.parse import teacher_digest


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_cross_encoder(tmp_path_factory.mktemp("cross") / "tiny")


@pytest.fixture(scope="module")
def world(tmp_path_factory, write_beir):
    root = tmp_path_factory.mktemp("world")
    (root / "dataset").mkdir()
    write_dataset(root / "dataset", DatasetConfig(source=str(write_beir(root / "animals"))))
    dataset = Dataset.open(root / "dataset")
    draw = np.random.default_rng(0)
    documents = np.stack([draw.permutation(40)[:12] for _ in range(20)]).astype(np.int32)
    documents[3, 5:] = -1
    scores = np.sort(draw.normal(size=(20, 12)).astype(np.float32))[:, ::-1]
    none = np.empty(0, np.float32)
    first = Candidates.from_arrays(
        documents, scores, Exclusions.none(20), none, none.astype(bool), teacher="first", score_kind="dot", n_documents=40
    )
    return dataset, first


@pytest.fixture(scope="module")
def scorer(model, world):
    return CrossEncoderScorer(str(model), EncoderConfig(), world[0], "train", world[1], Runtime())


def reference(model, queries, documents):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(queries, documents, padding=True, truncation=True, max_length=64,
                                                  return_token_type_ids=True, return_tensors="pt")  # fmt: skip
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(model).eval()(**tokens).logits[:, 0].numpy()


def test_scores_are_the_models_logits(model, world, scorer):
    dataset, _ = world
    queries, documents = np.array([0, 0, 5, 19, 7]), np.array([3, 39, 0, 11, 11])
    texts = dataset.query_texts(dataset.query_rows("train"))
    expected = reference(model, [texts[q] for q in queries], dataset.document_texts(documents))
    found = scorer.score_pairs(queries, documents)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert scorer.score_kind == "logit" and len(np.unique(found)) > 1


def test_a_pairs_score_is_its_own(model, world, scorer):
    queries, documents = np.repeat(np.arange(20), 8), np.tile(np.arange(0, 40, 5), 20)
    together = scorer.score_pairs(queries, documents)
    other = CrossEncoderScorer(str(model), EncoderConfig(), world[0], "train", world[1], Runtime(batch_tokens=64))
    order = np.random.default_rng(1).permutation(len(queries))
    alone = np.concatenate([other.score_pairs(queries[[row]], documents[[row]]) for row in order[:30]])
    assert np.array_equal(alone, together[order[:30]])


def test_search_rescores_the_pool(world, scorer):
    _, first = world
    outs = [[int(first.documents[query, 0]), 39] for query in range(20)]
    excluded = Exclusions(
        np.arange(0, 42, 2), np.array([sorted(out) for out in outs], np.int32).ravel(), np.ones(40, np.uint8)
    )
    limits = np.full(20, 0.05, np.float32)
    for limit in (None, limits):
        found = scorer.search(np.arange(20), 6, excluded, limit)
        for query in range(20):
            pool = [row for row in first.documents[query].tolist() if row >= 0 and row not in outs[query]]
            scores = scorer.score_pairs(np.full(len(pool), query), np.array(pool, int))
            kept = [
                (-score, row)
                for score, row in zip(scores.tolist(), pool, strict=True)
                if limit is None or score < limit[query]
            ]
            best = [row for _, row in sorted(kept)[:6]]
            assert found.documents[query].tolist() == best + [-1] * (6 - len(best))
            assert found.above[query] == len(pool) - len(kept)
            assert np.array_equal(
                found.scores[query, : len(best)], scorer.score_pairs(np.full(len(best), query), np.array(best, int))
            )


def test_one_changed_thing_is_another_teacher(model, tmp_path):
    other = write_cross_encoder(tmp_path / "other", seed=1)
    settings = [{}, {"document_max_length": 20}, {"query_prompt": "q"}, {"document_prompt": "d"}, {"precision": "bf16"}]
    found = {fingerprint(resolve_cross_encoder(str(model), EncoderConfig(**setting))) for setting in settings}
    found.add(teacher_digest(TeacherConfig(name=f"cross-encoder:{other}")))
    assert len(found) == len(settings) + 1


def test_other_weights_of_a_judge_are_another_mining_and_other_verdicts(tmp_path, world):
    judge = write_cross_encoder(tmp_path / "judge")
    config = build_config({"teachers": [{"name": "bm25"}], "mining": {"judge": f"cross-encoder:{judge}"}}, "test")
    found = [(judge_digest(config.mining.judge), mining_spec(config).ref)]
    shutil.copy(write_cross_encoder(tmp_path / "other", seed=1) / "model.safetensors", judge / "model.safetensors")
    found.append((judge_digest(config.mining.judge), mining_spec(config).ref))
    for prompt in ("Is it relevant? ", "Does it answer? "):  # sentence-transformers puts it before every pair
        said = {"prompts": {"any": prompt}, "default_prompt_name": "any"}
        (judge / "config_sentence_transformers.json").write_text(json.dumps(said))
        found.append((judge_digest(config.mining.judge), mining_spec(config).ref))
    assert all(len(set(column)) == len(found) for column in zip(*found, strict=True))
    assert judge_digest(None) == ""


def test_another_prompt_of_a_chat_judge_is_another_mining(monkeypatch, world):
    config = build_config({"teachers": [{"name": "bm25"}], "mining": {"judge": "chat:http://127.0.0.1:9#m"}}, "test")
    found = {mining_spec(config).ref.fingerprint}
    for name, value in (("PROMPT", "{query} {positive} {candidate}"), ("_VERDICTS", {"yes": "drop"}), ("REQUEST", {})):
        monkeypatch.setattr(f"nv_retriever.mining.chat_judge.{name}", value)
        found.add(mining_spec(config).ref.fingerprint)
    assert len(found) == 4


def test_it_needs_a_first_teacher(model, world):
    with pytest.raises(InputError, match="first teacher"):
        open_scorer(TeacherConfig(name=f"cross-encoder:{model}"), world[0], "train")


def test_other_candidates_are_refused(model, world):
    with pytest.raises(InputError, match="10 queries over 40 documents"):
        CrossEncoderScorer(str(model), EncoderConfig(), world[0], "dev", world[1], Runtime())


def test_a_classifier_with_several_outputs_is_refused(world, tmp_path):
    several = write_cross_encoder(tmp_path / "several", labels=3)
    scorer = CrossEncoderScorer(str(several), EncoderConfig(), world[0], "train", world[1], Runtime())
    with pytest.raises(InputError, match="found 3 outputs"):
        scorer.score_pairs(np.array([0]), np.array([0]))
