"""A small world with all scores known, and what a miner sees of it: tables, exclusions; for the audit's oracles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nv_retriever.audit.samples import Labelled


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
            for d in sorted(self.excluded(q), reverse=True)
            if self.groups[d] in {self.groups[p] for p in self.positives[q]}
        ]
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return Labelled.of(
            self.n_queries,
            np.array(columns[0], np.int32),
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
