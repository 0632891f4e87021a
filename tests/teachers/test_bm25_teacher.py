"""BM25: Lucene's formula written out, exclusions and limits exactly, the same number from search and from pairs."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.search.types import Exclusions
from nv_retriever.teachers.bm25 import BM25Scorer
from nv_retriever.teachers.config import BM25Config

WORDS = ["otter", "heron", "river", "night", "stones", "running", "runs", "the", "fish", "den"]
PLAIN = BM25Config(stemmer=None, stopwords=None)


def write_set(folder, documents, queries):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        rows = [{"_id": f"{name[0]}{number:03}", "title": "", "text": text} for number, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = "".join(f"q{number:03}\tc{number % len(documents):03}\t1\n" for number in range(len(queries)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + labels)
    (folder / "out").mkdir()
    write_dataset(folder / "out", DatasetConfig(source=str(folder)))
    return Dataset.open(folder / "out")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    draw = np.random.default_rng(1)
    documents = [" ".join(draw.choice(WORDS, draw.integers(1, 9))) for _ in range(60)]
    documents[7] = documents[3]
    queries = [" ".join(draw.choice(WORDS, draw.integers(1, 5))) for _ in range(15)] + ["unknown", "night night", "x"]
    dataset = write_set(tmp_path_factory.mktemp("bm25"), documents, queries)
    return dataset, BM25Scorer(dataset, "test", PLAIN), BM25Scorer(dataset, "test")


def formula(documents, query, k1=0.9, b=0.4):
    words = [re.findall(r"\b\w\w+\b", text.lower()) for text in documents]
    counts, mean = [Counter(found) for found in words], sum(map(len, words)) / len(words)
    scores = np.zeros(len(documents))
    for word in re.findall(r"\b\w\w+\b", query.lower()):
        having = sum(word in count for count in counts)
        idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for number, count in enumerate(counts):
            scores[number] += idf * count[word] / (count[word] + k1 * (1 - b + b * len(words[number]) / mean))
    return scores


def test_scores_are_the_formula(world):
    dataset, scorer, _ = world
    documents = dataset.document_texts()
    for number, query in enumerate(dataset.query_texts(dataset.query_rows("test"))):
        np.testing.assert_allclose(scorer.scores(number), formula(documents, query), rtol=1e-5, atol=1e-6)


def test_parameters_matter_and_are_used(world):
    dataset, *_ = world
    other = BM25Scorer(dataset, "test", BM25Config(stemmer=None, stopwords=None, k1=2.0, b=0.9))
    query = dataset.query_texts(dataset.query_rows("test"))[0]
    np.testing.assert_allclose(other.scores(0), formula(dataset.document_texts(), query, 2.0, 0.9), rtol=1e-5, atol=1e-6)


def test_stemming_and_stop_words(tmp_path):
    dataset = write_set(tmp_path / "x", ["running water", "he runs", "the end", "walk"], ["run", "the", "walks"])
    scorer = BM25Scorer(dataset, "test")
    assert (scorer.scores(0) > 0).tolist() == [True, True, False, False]
    assert not scorer.scores(1).any()
    assert (scorer.scores(2) > 0).tolist() == [False, False, False, True]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_search_is_sorting_all_allowed_documents(world, data):
    _, _, scorer = world
    k = data.draw(st.integers(0, 70))
    rows = np.array(data.draw(st.lists(st.integers(0, scorer.n_queries - 1), max_size=6)), np.int64)
    outs = [sorted(data.draw(st.sets(st.integers(0, 59), max_size=60))) for _ in rows]
    offsets = np.cumsum([0, *map(len, outs)]).astype(np.int64)
    flat = np.array([row for out in outs for row in out], np.int32)
    excluded = Exclusions(offsets, flat, np.ones(len(flat), np.uint8))
    limits = None
    if data.draw(st.booleans()):
        pick = [float(scorer.scores(int(row))[data.draw(st.integers(0, 59))]) for row in rows]
        limits = np.array(pick, np.float32)
    found = scorer.search(rows, k, excluded, limits)
    assert found.documents.shape == found.scores.shape == (len(rows), k)
    for number, row in enumerate(rows.tolist()):
        scores = scorer.scores(row)
        allowed = [document for document in range(60) if document not in set(outs[number])]
        below = [document for document in allowed if limits is None or scores[document] < limits[number]]
        best = sorted(below, key=lambda document: (-scores[document], document))[:k]
        assert found.documents[number].tolist() == best + [-1] * (k - len(best))
        assert found.above[number] == len(allowed) - len(below)
        assert np.isnan(found.scores[number, len(best) :]).all()


def test_pairs_have_the_numbers_of_the_search(world):
    _, _, scorer = world
    found = scorer.search(np.arange(scorer.n_queries), 60, Exclusions.none(scorer.n_queries))
    queries = np.repeat(np.arange(scorer.n_queries), 60)
    order = np.random.default_rng(0).permutation(len(queries))
    pairs = scorer.score_pairs(queries[order], found.documents.ravel()[order])
    assert np.array_equal(pairs, found.scores.ravel()[order])
    assert scorer.score_pairs(np.empty(0, int), np.empty(0, int)).shape == (0,)


def test_unknown_stemmer_and_stop_words(world):
    with pytest.raises(InputError, match="stemmer"):
        BM25Scorer(world[0], "test", BM25Config(stemmer="klingon"))
    with pytest.raises(InputError, match="stopwords"):
        BM25Scorer(world[0], "test", BM25Config(stopwords="klingon"))
