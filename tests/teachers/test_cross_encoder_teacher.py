"""Cross-encoders: the model's logits, over the first teacher's candidates, whatever the batch."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_models import tiny_config, write_cross_encoder, write_tokenizer

from flows.settings import build_config
from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.mining.judge import Case, judge_digest, open_judge
from nv_retriever.mining.verdicts import VerdictCache
from nv_retriever.plan.specifications import check_unchanged, mining_spec
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Exclusions
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.cross_encoder import CrossEncoderScorer, resolve_cross_encoder
from nv_retriever.teachers.names import teacher_digest
from nv_retriever.teachers.open import open_scorer
from nv_retriever.teachers.pair_model import PairModel


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

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokens = tokenizer(queries, documents, padding=True, truncation=True, max_length=64, return_tensors="pt")
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
    from sentence_transformers import CrossEncoder

    judge = tmp_path / "judge"
    CrossEncoder(str(write_cross_encoder(tmp_path / "plain"))).save_pretrained(str(judge))
    config = build_config({"teachers": [{"name": "bm25"}], "mining": {"judge": f"cross-encoder:{judge}"}}, "test")
    found = [(judge_digest(config.mining.judge), mining_spec(config).ref)]
    shutil.copy(write_cross_encoder(tmp_path / "other", seed=1) / "model.safetensors", judge / "model.safetensors")
    found.append((judge_digest(config.mining.judge), mining_spec(config).ref))
    for prompt in ("Is it relevant? ", "Does it answer? "):  # sentence-transformers puts it before every pair
        said = {"model_type": "CrossEncoder", "prompts": {"any": prompt}, "default_prompt_name": "any"}
        (judge / "config_sentence_transformers.json").write_text(json.dumps(said))
        found.append((judge_digest(config.mining.judge), mining_spec(config).ref))
    assert all(len(set(column)) == len(found) for column in zip(*found, strict=True))
    assert judge_digest(None) == ""


def test_a_judge_that_moves_is_the_same_judge(tmp_path, monkeypatch, small_beir):
    folder = write_cross_encoder(tmp_path / "here" / "judge")
    shutil.copytree(folder, tmp_path / "there" / "judge")
    monkeypatch.chdir(tmp_path / "here")
    found, said = set(), []
    for number, place in enumerate(("judge", "./judge", str(folder), "../there/judge")):
        tree = {
            "dataset": {"source": str(small_beir)},
            "teachers": [{"name": "bm25"}],
            "mining": {"judge": f"cross-encoder:{place}"},
        }
        spec = mining_spec(build_config(tree, "test"))
        found.add(spec.ref)
        assert (spec.mining.judge, spec.configured.judge) == ("cross-encoder:judge", f"cross-encoder:{place}")
        check_unchanged(spec)
        judge = VerdictCache(open_judge(spec.configured.judge), tmp_path / "verdicts.sqlite")
        said.append(judge.judge([Case("the cat", "a cat", "a dog sleeps")]))
        assert judge.asked == (number == 0)
    assert len(found) == 1 and said == [said[0]] * 4


def test_another_prompt_of_a_chat_judge_is_another_mining(monkeypatch, world):
    config = build_config({"teachers": [{"name": "bm25"}], "mining": {"judge": "chat:http://127.0.0.1:9#m"}}, "test")
    found = {mining_spec(config).ref.fingerprint}
    for name, value in (("PROMPT", "{query} {positive} {candidate}"), ("_VERDICTS", {"yes": "drop"}), ("REQUEST", {})):
        monkeypatch.setattr(f"nv_retriever.mining.chat_judge.{name}", value)
        found.add(mining_spec(config).ref.fingerprint)
    assert len(found) == 4


PAIRS = [("the cat", "a dog sleeps"), ("night", "the old river")]


def ours(model, **settings):
    identity = resolve_cross_encoder(str(model), EncoderConfig(**settings))
    left, right = zip(*[(identity.query_prompt + query, document) for query, document in PAIRS], strict=True)
    return PairModel(model, identity, False, Runtime())(list(left), list(right))


def predicted(model):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(model)).predict(PAIRS, activation_fn=torch.nn.Identity())


def test_scores_are_those_of_sentence_transformers(model, tmp_path):
    from sentence_transformers import CrossEncoder

    saved = CrossEncoder(str(model), prompts={"any": "query the old dog : "}, default_prompt_name="any")
    saved.save_pretrained(str(tmp_path / "saved"))
    found = ours(tmp_path / "saved")
    np.testing.assert_allclose(found, predicted(tmp_path / "saved"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(tmp_path / "saved", query_prompt=""), predicted(model), rtol=1e-4, atol=1e-5)
    assert np.abs(found - predicted(model)).min() > 1e-3, "the default prompt says something"
    shutil.copytree(tmp_path / "saved", tmp_path / "dense")  # of another kind of model CrossEncoder takes no prompts
    said = tmp_path / "dense" / "config_sentence_transformers.json"
    said.write_text(said.read_text().replace("CrossEncoder", "SentenceTransformer"))
    np.testing.assert_allclose(ours(tmp_path / "dense"), predicted(tmp_path / "dense"), rtol=1e-4, atol=1e-5)


def test_segments_are_the_tokenizers(model, tmp_path):
    shutil.copytree(model, tmp_path / "typed")
    path = tmp_path / "typed" / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_input_names": names}))
    typed, plain = ours(tmp_path / "typed"), ours(model)
    np.testing.assert_allclose(typed, predicted(tmp_path / "typed"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plain, predicted(model), rtol=1e-4, atol=1e-5)
    assert np.abs(typed - plain).min() > 1e-3


def test_a_classifier_without_its_head_is_refused(tmp_path):
    from transformers import BertModel

    BertModel(tiny_config("bert", num_labels=1)).save_pretrained(str(tmp_path / "bare"))
    write_tokenizer(tmp_path / "bare")
    with pytest.raises(InputError, match="no weights for classifier"):
        ours(tmp_path / "bare")


def test_a_chat_template_is_refused_unless_the_settings_say_text(model, tmp_path):
    template, chat = "{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}", tmp_path / "chat"
    shutil.copytree(model, chat)
    (chat / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match="pairs of plain texts, found one with a chat template"):
        ours(chat)
    (chat / "sentence_bert_config.json").write_text(json.dumps({"transformer_task": "sequence-classification"}))
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    (chat / "modules.json").write_text(json.dumps([module]))
    (chat / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}))
    np.testing.assert_allclose(ours(chat), predicted(chat), rtol=1e-4, atol=1e-5)


def test_more_tokens_than_positions(model):
    with pytest.raises(InputError, match="80 positions"):
        resolve_cross_encoder(str(model), EncoderConfig(document_max_length=81))


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


QUERIES, DOCUMENTS = np.repeat(np.arange(20), 40), np.tile(np.arange(40), 20)


def scored(monkeypatch):
    """Count the pairs that a model reads."""
    seen = []
    whole = PairModel.__call__
    monkeypatch.setattr(PairModel, "__call__", lambda self, left, right: seen.extend(left) or whole(self, left, right))
    return seen


def kept(model, world, root, **settings):
    """Return a scorer that keeps its scores below a root."""
    return CrossEncoderScorer(str(model), EncoderConfig(**settings), world[0], "train", world[1], Runtime(), root)


def test_a_pair_is_scored_once_in_the_life_of_a_home(model, world, scorer, tmp_path, monkeypatch):
    expected, seen = scorer.score_pairs(QUERIES, DOCUMENTS), scored(monkeypatch)
    first = kept(model, world, tmp_path).score_pairs(QUERIES[:300], DOCUMENTS[:300])
    assert len(seen) == 300
    again = kept(model, world, tmp_path).score_pairs(QUERIES, DOCUMENTS)
    assert len(seen) == 800, "only what is new"
    assert np.array_equal(first, expected[:300]) and np.array_equal(again, expected)
    kept(model, world, tmp_path, query_prompt="q: ").score_pairs(QUERIES[:5], DOCUMENTS[:5])
    assert len(seen) == 805, "with another prompt it is another model"


def test_kept_scores_follow_the_texts_not_the_rows(model, world, tmp_path, write_beir, monkeypatch):
    kept(model, world, tmp_path).score_pairs(QUERIES, DOCUMENTS)
    folder = write_beir(tmp_path / "animals")
    documents = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    old, documents[7]["_id"], documents[7]["text"] = documents[7]["_id"], "0 first", "Rewritten."
    (folder / "corpus.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    for labels in (folder / "qrels").iterdir():
        labels.write_text(labels.read_text().replace(f"\t{old}\t", "\t0 first\t"))
    (tmp_path / "dataset").mkdir()
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(folder)))
    other = Dataset.open(tmp_path / "dataset")
    assert other.document_ids[0] == "0 first", "the rows of seven documents move"
    seen = scored(monkeypatch)
    kept(model, (other, world[1]), tmp_path).score_pairs(QUERIES, DOCUMENTS)
    assert len(seen) == 20, "every query with the one text that is new"


def test_a_damaged_file_of_scores_is_scored_again(model, world, scorer, tmp_path, caplog):
    kept(model, world, tmp_path).score_pairs(QUERIES, DOCUMENTS)
    (path,) = tmp_path.rglob("*.vectors.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 8
    path.write_bytes(content)
    found = kept(model, world, tmp_path).score_pairs(QUERIES, DOCUMENTS)
    assert np.array_equal(found, scorer.score_pairs(QUERIES, DOCUMENTS)) and "its checksums differ" in caplog.text


def test_a_kill_costs_one_window_of_pairs(model, world, scorer, tmp_path, monkeypatch):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from nv_retriever.config import Runtime\n"
        "from nv_retriever.data.dataset import Dataset\n"
        "from nv_retriever.search.candidate_table import Candidates\n"
        "from nv_retriever.search.types import Exclusions\n"
        "from nv_retriever.teachers import cross_encoder\n"
        "from nv_retriever.teachers.config import EncoderConfig\n"
        "cross_encoder.FIRST = cross_encoder.FEWEST = cross_encoder.MOST = 100\n"
        "model, dataset, root = sys.argv[1:]\n"
        "nothing, rows = np.empty(0, np.float32), np.zeros((20, 1))\n"
        "first = Candidates.from_arrays(rows.astype(np.int32), rows.astype(np.float32), Exclusions.none(20), nothing,\n"
        "    nothing.astype(bool), teacher='first', score_kind='dot', n_documents=40)\n"
        "scorer = cross_encoder.CrossEncoderScorer(\n"
        "    model, EncoderConfig(), Dataset.open(Path(dataset)), 'train', first, Runtime(), Path(root))\n"
        "whole, left = scorer._score, [3]\n"
        "def stop(texts):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0:\n"
        "        print('middle', flush=True); sys.stdin.read()\n"
        "    return whole(texts)\n"
        "scorer._score = stop\n"
        "scorer.score_pairs(np.repeat(np.arange(20), 40), np.tile(np.arange(40), 20))\n"
    )
    arguments = [sys.executable, "-c", code, str(model), str(world[0].folder), str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "middle"
        os.kill(process.pid, signal.SIGKILL)
    expected, seen = scorer.score_pairs(QUERIES, DOCUMENTS), scored(monkeypatch)
    assert np.array_equal(kept(model, world, tmp_path).score_pairs(QUERIES, DOCUMENTS), expected)
    assert len(seen) == 500, "three windows of a hundred were committed"
