"""The candidate table: exact, scored throughout, resumable, and honest about what is not finite."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from beir_folders import ingest
from vector_worlds import brute_force

from nv_retriever.config import Runtime
from nv_retriever.embedding.shards import Vectors
from nv_retriever.errors import ArtifactError, GateError, InputError
from nv_retriever.search import candidates as stage
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.exclusions import build_exclusions
from nv_retriever.search.types import Reason
from nv_retriever.search.vectors import VectorScorer

torch.set_num_threads(1)


@pytest.fixture
def world(tmp_path):
    documents = {f"d{i:03}": ("", f"document number {i % 37}") for i in range(40)}
    queries = {f"q{i:02}": f"query number {i}" for i in range(12)}
    qrels = {
        "train": [(f"q{i:02}", f"d{3 * i % 40:03}", 1 + i % 2) for i in range(10)] + [("q00", "d011", 1)],
        "test": [("q10", "d001", 1), ("q00", "d005", 2)],
    }
    dataset = ingest(tmp_path, documents, queries, qrels, on_leak="keep")
    rng = np.random.default_rng(3)
    of_documents = rng.standard_normal((40, 8)).astype(np.float32)
    of_queries = rng.standard_normal((10, 8)).astype(np.float32)
    return dataset, of_queries, of_documents, tmp_path / "out"


def scorer_of(queries, documents):
    return VectorScorer(Vectors.from_array(queries), Vectors.from_array(documents), "dot", Runtime(device="cpu"))


def test_table_equals_brute_force_and_scores_every_exclusion(world):
    dataset, queries, documents, out = world
    out.mkdir()
    info = write_candidates(out, scorer_of(queries, documents), dataset, "train", SearchConfig(depth=50), "vectors")
    table = Candidates.open(out)
    exclusions = build_exclusions(dataset, "train")
    expected = brute_force(queries, documents, 50, exclusions)
    np.testing.assert_array_equal(table.documents, expected.documents)
    np.testing.assert_array_equal(table.scores, expected.scores)
    np.testing.assert_array_equal(table.exclusions.documents, exclusions.documents)
    excluded = table.excluded
    again = scorer_of(queries, documents).score_pairs(excluded.queries, excluded.documents)
    np.testing.assert_array_equal(excluded.scores, again)
    assert table.exhausted.all() and table.n_queries == 10 and info["candidates"] == (expected.documents >= 0).sum()
    rows, scores = table.positives(0)
    assert rows.tolist() == [0, 11] and np.isfinite(scores).all()
    hidden = excluded.where((excluded.queries == 0) & (excluded.documents == 5))
    assert hidden.grades.tolist() == [2] and not hidden.in_split.any() and hidden.reasons.tolist() == [Reason.POSITIVE]
    assert sorted(path.name for path in out.iterdir()) == [
        "candidates.json",
        "documents.npy",
        "excluded.parquet",
        "scores.npy",
    ]


def test_a_killed_build_goes_on_where_it_stopped(world, monkeypatch):
    dataset, queries, documents, out = world
    out.mkdir()
    scorer = scorer_of(queries, documents)
    monkeypatch.setattr(stage, "PAIRS_PER_BLOCK", 1)
    monkeypatch.setattr(stage, "FEWEST_ROWS", 4)
    asked = []

    class KilledError(Exception):
        pass

    class Scorer:
        score_kind, n_queries, n_documents = "dot", 10, 40
        score_pairs = staticmethod(scorer.score_pairs)

        def search(self, rows, k, excluded, limits=None):
            asked.append(rows.tolist())
            if len(asked) == 3:
                raise KilledError
            return scorer.search(rows, k, excluded, limits)

    with pytest.raises(KilledError):
        write_candidates(out, Scorer(), dataset, "train", SearchConfig(depth=5), "vectors")
    with pytest.raises(ArtifactError):
        Candidates.open(out)
    write_candidates(out, Scorer(), dataset, "train", SearchConfig(depth=5), "vectors")
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [8, 9]]
    expected = brute_force(queries, documents, 5, build_exclusions(dataset, "train"))
    np.testing.assert_array_equal(Candidates.open(out).documents, expected.documents)
    np.testing.assert_array_equal(Candidates.open(out).scores, expected.scores)


def test_vectors_that_are_not_finite_fail_the_run_or_are_quarantined(world):
    dataset, queries, documents, out = world
    out.mkdir()
    documents[[4, 30]] = np.nan
    named = ", ".join(map(repr, dataset.document_ids[[4, 30]]))
    with pytest.raises(GateError, match=rf"2 of 40 documents .*\(ids {named}\)"):
        write_candidates(out, scorer_of(queries, documents), dataset, "train", SearchConfig(depth=50), "vectors")
    queries[3] = np.inf
    named = repr(dataset.query_ids[dataset.query_rows("train")[3]])
    with pytest.raises(GateError, match=rf"1 of 10 queries .*\(ids {named}\)"):
        write_candidates(
            out, scorer_of(queries, documents), dataset, "train", SearchConfig(depth=50, max_quarantined=0.05), "vectors"
        )
    queries[3] = 1
    config = SearchConfig(depth=50, max_quarantined=0.1)
    info = write_candidates(out, scorer_of(queries, documents), dataset, "train", config, "vectors")
    table = Candidates.open(out)
    assert info["quarantined_documents"] == 2 and not np.isin(table.documents, [4, 30]).any()
    assert np.isnan(table.excluded.scores[np.isin(table.excluded.documents, [4, 30])]).all()


def test_a_scorer_of_other_data_is_refused(world):
    dataset, queries, documents, out = world
    with pytest.raises(InputError, match="10 queries and 40 documents"):
        write_candidates(out, scorer_of(queries[:5], documents), dataset, "train", SearchConfig(), "vectors")


def test_table_in_memory_reads_like_one_on_disk(world):
    dataset, queries, documents, out = world
    out.mkdir()
    write_candidates(out, scorer_of(queries, documents), dataset, "train", SearchConfig(depth=7), "vectors")
    disk = Candidates.open(out)
    memory = Candidates.from_arrays(
        disk.documents,
        disk.scores,
        disk.exclusions,
        disk.excluded.scores,
        disk.excluded.in_split,
        teacher="vectors",
        score_kind="dot",
        n_documents=40,
    )
    for query in range(10):
        for a, b in zip(disk.positives(query), memory.positives(query), strict=True):
            np.testing.assert_array_equal(a, b)
    assert not memory.exhausted.any()
