"""MinHash against exact Jaccard similarities over Python sets."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.data import minhash
from nv_retriever.data.minhash import band_width, jaccard, near_duplicate_pairs, shingle, signature_similarity, signatures
from nv_retriever.data.text import normalise

TEXTS = st.lists(st.text("abcd \n", max_size=24), max_size=12)


def shingle_set(text, words=3):
    tokens = re.findall(r"\w+", normalise(text))
    return {tuple(tokens[i : i + words]) for i in range(max(len(tokens) - words + 1, 1))} if tokens else set()


def exact(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


def varied(n, seed=0):
    rng = np.random.default_rng(seed)
    base = [rng.integers(0, 400, 40) for _ in range(n // 4)]
    texts = []
    for row in range(n):
        words = base[row % len(base)].copy()
        change = rng.random(40) < rng.choice([0.0, 0.01, 0.05, 0.3])
        words[change] = rng.integers(0, 400, change.sum())
        texts.append(" ".join(f"w{word}" for word in words))
    return texts


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_jaccard_is_exact(texts, words):
    sets = [shingle_set(text, words) for text in texts]
    a, b = (part.ravel() for part in np.meshgrid(np.arange(len(texts)), np.arange(len(texts))))
    expected = [exact(sets[i], sets[j]) for i, j in zip(a, b, strict=True)]
    assert np.allclose(jaccard(shingle(texts, words), a, b), expected)


@pytest.mark.parametrize(
    ("text", "near"), [("今天天气很好我们去公园玩", "今天天气很好我们去公园吧"), ("ที่นี่อากาศดีมาก", "ที่นี่อากาศดีจัง")]
)
def test_scripts_without_spaces_have_near_duplicates(text, near):
    found = shingle([text, near, "Words " + text])
    assert len(found.take(np.array([0]))[1]) == len(text) - 2
    assert 0.5 < jaccard(found, np.array([0]), np.array([1]))[0] < 1
    assert jaccard(found, np.array([0]), np.array([2]))[0] > 0.7


def test_estimates_are_near_and_equal_texts_are_equal():
    texts = varied(200)
    a, b = np.arange(0, 150), np.arange(50, 200)
    found = signatures(texts)
    estimate = signature_similarity(found, found, a, b)
    truth = jaccard(shingle(texts), a, b)
    assert np.abs(estimate - truth).max() < 0.2 and abs((estimate - truth).mean()) < 0.02
    same = signatures(["One  two three four", "", "..."]), signatures(["one two THREE four", "", "a"])
    assert signature_similarity(*same, np.arange(3), np.arange(3)).tolist() == [1, 0, 0]


def test_signatures_are_the_same_in_any_block_and_in_every_process(monkeypatch):
    texts = [*varied(60), "", "short"]
    whole = signatures(texts)
    monkeypatch.setattr(minhash, "_BLOCK_TEXTS", 7)
    assert np.array_equal(signatures(texts), whole)
    assert np.array_equal(signatures(texts[::-1])[::-1], whole)
    assert signatures(["the quick brown fox jumps"])[0, :3].tolist() == GOLDEN


GOLDEN = [529950569, 1452612026, 1548777842]


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8, 1.0])
def test_pairs_against_brute_force(threshold):
    texts = [*varied(240), "", " ", "same text here", "Same TEXT here"]
    sets = [shingle_set(text) for text in texts]
    expected = {
        (i, j): exact(sets[i], sets[j])
        for i in range(len(sets))
        for j in range(i + 1, len(sets))
        if exact(sets[i], sets[j]) >= threshold
    }
    found = near_duplicate_pairs(texts, threshold)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == sorted(pairs) and set(pairs) <= set(expected)
    assert np.allclose(found.similarity, [expected[pair] for pair in pairs])
    assert len(pairs) >= 0.97 * len(expected) and (242, 243) in pairs


def test_boilerplate_stays_linear():
    found = near_duplicate_pairs(["exactly the same few words"] * 3000, 0.9, most=5)
    assert len(found.first) <= 5 * 3000 and set(found.first.tolist()) == set(range(2999))


@pytest.mark.parametrize("texts", [[], [""], ["one"], ["", ""]])
def test_tiny(texts):
    assert len(near_duplicate_pairs(texts).first) == 0


def test_band_width_finds_what_it_promises():
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0):
        width = band_width(threshold)
        assert 1 - (1 - threshold**width) ** (128 // width) >= 0.99
    with pytest.raises(ValueError, match="above 0"):
        near_duplicate_pairs(["a"], 0)
