"""The miner: from candidate tables and positive scores to negatives, block by block, without a model or a file.

Search once, decide often: rules, selections, ensembles and shortfall policies are functions over stored candidates. Only
samples that a table leaves short are searched again, below their limits. The result depends neither on the block nor on
the order of the samples nor on the depth of the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nv_retriever.mining.deepening import deepen
from nv_retriever.mining.ensemble import choose, empty_choice, serving_teachers
from nv_retriever.mining.pool import empty_pool, read_pool
from nv_retriever.mining.randomness import IdKeys, mix
from nv_retriever.mining.shortfall import Shortage, fill_randomly, relax
from nv_retriever.mining.types import BoolArray, Choice, MiningPlan, Pool, Rows, Samples, ShortReason, Teacher, Veto, Wanted
from nv_retriever.search.types import IntArray, OffsetArray

_PLACES = 1 << 21
"""Survivors of all teachers that one block holds: about 40 MB."""


@dataclass(frozen=True)
class Miner:
    """Chooses negatives for samples."""

    samples: Samples
    teachers: Sequence[Teacher]
    plan: MiningPlan
    keys: IdKeys
    """Of the tables' queries and of the documents; computed only where something is drawn."""
    pool_vetoes: Sequence[Veto] = ()
    """Cheap second looks, taken at every survivor before the choice (near-duplicates)."""
    choice_vetoes: Sequence[Veto] = ()
    """Expensive ones, taken at the chosen negatives only (judges)."""
    block_size: int | None = None
    """Samples in one block; by default what a fixed memory holds."""

    def blocks(self) -> Iterator[tuple[int, Choice]]:
        """Yield (first sample, choice of the samples from there on); a query's samples are never torn apart."""
        size = self.block_size or max(_PLACES // (self.plan.selection.depth * len(self.teachers)), 1)
        start = 0
        while start < len(self.samples):
            stop = min(start + size, len(self.samples))
            last = self.samples.queries[stop - 1]
            stop = int(np.searchsorted(self.samples.queries, last, side="right"))
            yield start, self.mine(np.arange(start, stop))
            start = stop

    def mine(self, samples: Rows) -> Choice:
        """Return the negatives of some samples, (s,) ascending: all samples of their queries.

        Vetoes are taken until nothing changes: what is vetoed for one sample is vetoed for all samples of its query.
        """
        queries = self.samples.queries[samples]
        served = self.serving(samples)
        pools = [empty_pool(len(samples), self.plan.selection.depth) for _ in self.teachers]
        choice = empty_choice(len(samples), self.plan.selection.count)
        vetoed = np.empty(0, np.int64)
        unread = unchosen = np.ones(len(samples), bool)
        while True:
            self._read(pools, served, samples, unread, vetoed)
            new = self._veto_pools(pools, samples, np.flatnonzero(unread))
            if not len(new):
                rows = np.flatnonzero(unchosen)
                choice.put(rows, self._choose(pools, served, samples, rows, vetoed))
                new = self._veto_choice(choice, samples, rows)
                unchosen = np.zeros(len(samples), bool)
            if not len(new):
                return choice
            vetoed = np.union1d(vetoed, new)
            unread = np.isin(queries, new // self._n_documents)
            unchosen = unchosen | unread

    @property
    def _n_documents(self) -> int:
        return self.teachers[0].n_documents

    def serving(self, samples: Rows) -> BoolArray:
        """Return which teachers serve which samples, (T, s)."""
        usable = np.stack([teacher.usable[samples] for teacher in self.teachers])
        queries = positives = None
        if self.plan.ensemble == "cross-sample":
            queries = self.keys.queries[self.samples.queries[samples]]
            positives = self.keys.documents[self.samples.positives[samples]]
        return serving_teachers(usable, self.plan.ensemble, self.plan.seed, queries, positives)

    def _read(self, pools: list[Pool], served: BoolArray, samples: Rows, unread: BoolArray, vetoed: OffsetArray) -> None:
        """Read the pools of some samples from the tables, and search again where a table is too short."""
        plan = self.plan
        wanted = Wanted(plan.selection.depth, self._n_documents, plan.rule.min_rank, plan.floor, vetoed)
        for teacher, pool, serves in zip(self.teachers, pools, served, strict=True):
            rows = np.flatnonzero(serves & unread)
            queries, limits = self.samples.queries[samples[rows]], teacher.limits[samples[rows]]
            read = read_pool(teacher.documents, teacher.scores, queries, limits, wanted)
            read.exhausted |= (read.documents[:, -1] < 0) & teacher.exhausted[queries]
            short = np.flatnonzero((read.documents[:, -1] < 0) & ~read.exhausted)
            if len(short) and teacher.scorer is not None:
                depth = teacher.documents.shape[1]
                read.put(short, deepen(teacher.scorer(), teacher.exclusions(), queries[short], limits[short], wanted, depth))
            read.exhausted &= teacher.sees_corpus
            pool.put(rows, read)

    def _choose(self, pools: list[Pool], served: BoolArray, samples: Rows, rows: Rows, vetoed: OffsetArray) -> Choice:
        """Return the choice of some rows of the pools, what is short filled as the plan says."""
        served = served[:, rows]
        queries = self.samples.queries[samples[rows]]
        choice = choose([self._prefer(pool.take(rows), queries) for pool in pools], served, self.plan)
        short = np.flatnonzero((choice.short != ShortReason.NONE) & (choice.short != ShortReason.POSITIVE_NOT_SCORED))
        if self.plan.shortfall == "drop":
            choice.documents[short] = -1
        elif self.plan.shortfall != "fewer":
            first = served.argmax(axis=0)
            for number, teacher in enumerate(self.teachers):
                at = short[first[short] == number]
                if not len(at):
                    continue
                shortage = Shortage(choice, at, samples[rows[at]], queries[at], number, teacher, self.plan, vetoed)
                if self.plan.shortfall == "relax":
                    relax(shortage)
                else:
                    fill_randomly(shortage, self.keys)
        return choice

    def _prefer(self, pool: Pool, queries: IntArray) -> Pool:
        """Return the pool with its survivors in the selection's order of preference."""
        order = self.plan.selection.order(
            pool.scores,
            lambda: mix(self.plan.seed, self.keys.queries[queries][:, None], self.keys.documents[pool.documents]),
        )
        if order is None:
            return pool
        names = ("documents", "scores", "ranks")
        return replace(pool, **{name: np.take_along_axis(getattr(pool, name), order, 1) for name in names})

    def _veto_pools(self, pools: list[Pool], samples: Rows, rows: Rows) -> OffsetArray:
        if not self.pool_vetoes or not len(rows):
            return np.empty(0, np.int64)
        return self._veto(self.pool_vetoes, samples, rows, np.concatenate([pool.documents for pool in pools], axis=1))

    def _veto_choice(self, choice: Choice, samples: Rows, rows: Rows) -> OffsetArray:
        filled = self.plan.shortfall in ("relax", "random")  # what fills a place was in no pool
        vetoes = [*(self.pool_vetoes if filled else ()), *self.choice_vetoes]
        return self._veto(vetoes, samples, rows, choice.documents)

    def _veto(self, vetoes: Sequence[Veto], samples: Rows, rows: Rows, documents: IntArray) -> OffsetArray:
        """Return the sorted keys query * n_documents + document of the pairs that are no negatives after all."""
        row, column = np.nonzero(documents[rows] >= 0)
        at = samples[rows[row]]
        queries, found = self.samples.queries[at], documents[rows[row], column]
        bad = np.zeros(len(at), bool)
        for veto in vetoes:
            bad[~bad] = veto(at[~bad], queries[~bad], found[~bad])
        return np.unique(queries[bad].astype(np.int64) * self._n_documents + found[bad])
