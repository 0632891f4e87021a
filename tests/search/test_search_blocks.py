"""Blocks of queries searched elsewhere: put together they are the table, bit by bit, and what is missing is searched."""

import numpy as np
import pytest
from beir_folders import ingest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nv_retriever.config import Runtime
from nv_retriever.embedding.shards import Vectors
from nv_retriever.search import candidates as stage
from nv_retriever.search.blocks import divide, write_block
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.vectors import VectorScorer

CONFIG = SearchConfig(depth=6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    documents = {f"d{i:03}": ("", f"document number {i % 37}") for i in range(40)}
    queries = {f"q{i:02}": f"query number {i}" for i in range(12)}
    qrels = {"train": [(f"q{i:02}", f"d{3 * i % 40:03}", 1) for i in range(10)] + [("q00", "d011", 1)]}
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(3)
    vectors = [Vectors.from_array(rng.standard_normal((n, 8)).astype(np.float32)) for n in (10, 40)]
    dataset, scorer = ingest(folder, documents, queries, qrels), VectorScorer(*vectors, "dot", Runtime(device="cpu"))
    return dataset, scorer, table(folder / "whole", scorer, dataset)


def table(folder, scorer, dataset, blocks=()):
    folder.mkdir()
    write_candidates(folder, scorer, dataset, "train", CONFIG, "vectors", blocks)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Counting:
    def __init__(self, scorer):
        self.scorer, self.asked = scorer, []
        self.score_kind, self.n_queries, self.n_documents = scorer.score_kind, scorer.n_queries, scorer.n_documents
        self.score_pairs = scorer.score_pairs

    def search(self, rows, k, excluded, limits=None):
        self.asked += rows.tolist()
        return self.scorer.search(rows, k, excluded, limits)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(1, 12), lost=st.sets(st.integers(0, 11), max_size=4), rows=st.integers(1, 12))
def test_any_division_gives_the_same_table(world, tmp_path_factory, most, lost, rows):
    dataset, scorer, whole = world
    folder = tmp_path_factory.mktemp("blocks")
    there = [bounds for number, bounds in enumerate(divide(10, most)) if number not in lost]
    for start, stop in reversed(there):
        (folder / str(start)).mkdir()
        write_block(folder / str(start), scorer, dataset, "train", CONFIG, start, stop)
    counting = Counting(scorer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "PAIRS_PER_BLOCK", 1)
        patch.setattr(stage, "FEWEST_ROWS", rows)
        again = table(folder / "table", counting, dataset, [folder / str(start) for start, _ in there])
    assert again == whole
    assert bool(counting.asked) == (len(there) < len(divide(10, most)))


@given(n=st.integers(0, 200), most=st.integers(1, 50))
def test_divisions_cover_everything_evenly(n, most):
    ranges = divide(n, most)
    assert [row for start, stop in ranges for row in range(start, stop)] == list(range(n))
    sizes = {stop - start for start, stop in ranges}
    assert len(ranges) <= most and max(sizes, default=0) - min(sizes, default=0) <= 1
