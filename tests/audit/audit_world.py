"""A small world with all scores known, and what a miner sees of it: tables, exclusions; for the audit's oracles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nv_retriever.audit.samples import Labelled
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.search.candidate_table import offsets_of
from nv_retriever.search.types import Exclusions, TopK


@dataclass
class World:
    scores: np.ndarray  # (n_queries, n_documents) float32, NaN = quarantined
    positives: list[set[int]]
    groups: np.ndarray  # (n_documents,)
    depth: int

    @property
    def n_queries(self) -> int:
        return self.scores.shape[0]

    def excluded(self, query: int) -> set[int]:
        groups = {self.groups[d] for d in self.positives[query]}
        return {d for d in range(self.scores.shape[1]) if self.groups[d] in groups or np.isnan(self.scores[query, d])}

    def ranking(self, query: int, excluded: set[int]) -> list[int]:
        rest = [d for d in range(self.scores.shape[1]) if d not in excluded]
        return sorted(rest, key=lambda d: (-self.scores[query, d], d))

    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        documents = np.full((self.n_queries, self.depth), -1, np.int32)
        scores = np.full((self.n_queries, self.depth), np.nan, np.float32)
        exhausted = np.zeros(self.n_queries, bool)
        for query in range(self.n_queries):
            ranking = self.ranking(query, self.excluded(query))
            best = ranking[: self.depth]
            documents[query, : len(best)] = best
            scores[query, : len(best)] = self.scores[query, best]
            exhausted[query] = len(ranking) <= self.depth
        return documents, scores, exhausted

    def labelled(self) -> Labelled:
        rows = [
            (q, d, self.scores[q, d], self.groups[d], d in self.positives[q])
            for q in range(self.n_queries)
            for d in sorted(self.excluded(q))
            if self.groups[d] in {self.groups[p] for p in self.positives[q]}
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return Labelled(
            offsets_of(np.array(columns[0], np.int32), self.n_queries),
            np.array(columns[1], np.int32),
            np.array(columns[2], np.float32),
            np.array(columns[3], np.int32),
            np.array(columns[4], bool),
        )

    def sample_ranking(self, query: int, visible: int) -> list[int]:
        """What is ranked when only `visible` is known to be relevant."""
        known = {d for d in range(self.scores.shape[1]) if self.groups[d] == self.groups[visible]}
        return self.ranking(query, known | {d for d in range(self.scores.shape[1]) if np.isnan(self.scores[query, d])})


def random_world(seed: int, n_queries: int, n_documents: int, depth: int, ties: bool = True) -> World:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(n_queries, n_documents))
    if ties:
        scores = np.round(scores, 1)
    scores[generator.random(scores.shape) < 0.03] = np.nan
    positives = [
        set(generator.choice(n_documents, size=min(n_documents, int(generator.integers(1, 5))), replace=False).tolist())
        for _ in range(n_queries)
    ]
    groups = generator.integers(0, max(1, int(n_documents * 0.8)), size=n_documents).astype(np.int32)
    return World(scores.astype(np.float32), positives, groups, depth)


class WorldScorer:
    """Exact search over the world's scores, one query after the other."""

    score_kind = "cosine"

    def __init__(self, world: World) -> None:
        self.world = world
        self.n_queries, self.n_documents = world.scores.shape
        self.searched = 0

    def search(self, query_rows, k, excluded, limits=None) -> TopK:
        documents = np.full((len(query_rows), k), -1, np.int32)
        scores = np.full((len(query_rows), k), np.nan, np.float32)
        above = np.zeros(len(query_rows), np.int64)
        self.searched += len(query_rows)
        for i, query in enumerate(query_rows):
            out = set(excluded.documents[excluded.offsets[i] : excluded.offsets[i + 1]].tolist())
            ranking = self.world.ranking(int(query), out)
            if limits is not None:
                above[i] = sum(self.world.scores[query, d] >= limits[i] for d in ranking)
                ranking = [d for d in ranking if self.world.scores[query, d] < limits[i]]
            best = ranking[:k]
            documents[i, : len(best)] = best
            scores[i, : len(best)] = self.world.scores[query, best]
        return TopK(documents, scores, above)

    def score_pairs(self, query_rows, document_rows):
        return self.world.scores[query_rows, document_rows]


def exclusions(world: World) -> Exclusions:
    lists = [sorted(world.excluded(q)) for q in range(world.n_queries)]
    offsets = np.concatenate([[0], np.cumsum([len(x) for x in lists])]).astype(np.int64)
    documents = np.array([d for x in lists for d in x], np.int32)
    return Exclusions(offsets, documents, np.ones(len(documents), np.uint8))


def id_keys_of(n_queries: int, n_documents: int) -> IdKeys:
    return IdKeys(lambda: [f"q{i:04d}" for i in range(n_queries)], lambda: [f"d{i:04d}" for i in range(n_documents)])
