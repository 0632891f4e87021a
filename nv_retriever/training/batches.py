"""Id-aware batches: a deterministic order of samples, and the tensors of one step with everything masked that must be.

A batch is one packed set of texts: the different queries and the different passages of its samples, each once, sorted by
length into micro-batches without padding waste. The loss sees them through a matrix of log weights (samples x passages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nv_retriever.search.types import FloatArray, IntArray
from nv_retriever.splitmix import GOLDEN, U64Array, scramble
from nv_retriever.training.known import KnownPositives
from nv_retriever.training.samples import Samples
from nv_retriever.training.tokens import Tokens

IndexArray = npt.NDArray[np.int64]


def mix(keys: U64Array, salt: int) -> U64Array:
    """Return a hash of each key and the salt, (n,) uint64: random numbers that depend on ids only."""
    return scramble(keys + np.uint64((salt + 1) * int(GOLDEN) % 2**64))


@dataclass(frozen=True)
class Source:
    """One data set's samples with what batches need of it."""

    samples: Samples
    known: KnownPositives
    queries: Tokens
    documents: Tokens
    in_batch: bool = True
    """Whether the other samples' passages are negatives."""
    negatives: int | None = None
    """Hard negatives per sample and epoch; None takes all."""
    guide: Callable[[IntArray, IntArray], FloatArray] | None = None
    """A teacher's scores of queries against documents, (b,), (m,) -> (b, m) float32."""


class BatchOrder:
    """Which samples each step sees: batches of one data set each, in an order drawn from the seed and the samples' ids."""

    def __init__(self, keys: Sequence[U64Array], batch_size: int, seed: int, smallest: int = 1) -> None:
        self._keys, self._batch_size, self._seed = keys, batch_size, seed
        counts = [(len(k) // batch_size) + (len(k) % batch_size >= smallest) for k in keys]
        self.per_epoch = sum(counts)
        self._counts = counts
        self._epoch = -1
        self._batches: list[tuple[int, IndexArray]] = []

    def __getitem__(self, step: int) -> tuple[int, int, IndexArray]:
        """Return (epoch, data set, sample indices) of a step, counted over all epochs."""
        epoch, inside = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._batches, self._epoch = self._draw(epoch), epoch
        source, indices = self._batches[inside]
        return epoch, source, indices

    def _draw(self, epoch: int) -> list[tuple[int, IndexArray]]:
        batches: list[tuple[int, IndexArray]] = []
        for source, keys in enumerate(self._keys):
            order = np.lexsort((keys, mix(keys, (self._seed << 20) + epoch)))
            size = self._batch_size
            batches += [(source, order[i * size : (i + 1) * size]) for i in range(self._counts[source])]
        draws = mix(np.arange(len(batches), dtype=np.uint64), (self._seed << 20) + epoch + 1)
        return [batches[i] for i in np.argsort(draws, kind="stable")] if len(self._keys) > 1 else batches


@dataclass(frozen=True)
class Layout:
    """Where the passages of all ranks' samples stand when they are gathered, one rank after the other."""

    shares: list[IndexArray]
    """Per rank: its sample indices."""
    documents: list[IntArray]
    """Per rank: its different passages, ascending."""
    unique: IntArray
    """(u,) all different passages, ascending."""

    def columns(self, rank: int) -> IndexArray:
        """Return the gathered column of each different passage, (u,): the rank's own copy if it has one, else the first."""
        result = np.full(len(self.unique), -1, dtype=np.int64)
        starts = np.cumsum([0, *map(len, self.documents)])
        for other in [rank, *range(len(self.documents))]:
            places = np.searchsorted(self.unique, self.documents[other])
            free = result[places] < 0
            result[places[free]] = starts[other] + np.flatnonzero(free)
        return result


class Batches(torch.utils.data.Dataset[dict[str, Any]]):
    """The steps of a training as a map-style data set of dictionaries of tensors; every rank sees its share."""

    def __init__(
        self,
        sources: Sequence[Source],
        order: BatchOrder,
        tokens: int,
        pad: int,
        rank: int = 0,
        world: int = 1,
        steps: int = 0,
    ) -> None:
        self._sources, self._order, self._steps = sources, order, steps or order.per_epoch
        self._tokens, self._pad, self._rank, self._world = tokens, pad, rank, world

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        epoch, place, indices = self._order[step]
        source = self._sources[place]
        negatives = [source.samples.negatives(i, source.negatives, epoch) for i in indices.tolist()]
        layout = self._layout(source.samples, indices, negatives)
        share = layout.shares[self._rank]
        start = int(sum(len(s) for s in layout.shares[: self._rank]))
        mine = negatives[start : start + len(share)]
        batch = self._texts(source, share, layout.documents[self._rank])
        batch |= self._candidates(source, share, mine, layout)
        batch["gathered"] = [len(documents) for documents in layout.documents]
        batch["loss_scale"] = len(share) * self._world / len(indices)
        return batch

    def _layout(self, samples: Samples, indices: IndexArray, negatives: list[IntArray]) -> Layout:
        shares = np.array_split(indices, self._world)
        documents, start = [], 0
        for share in shares:
            own = [samples.negative_rows[n] for n in negatives[start : start + len(share)]]
            documents.append(np.unique(np.concatenate([samples.positive_rows[share], *own])))
            start += len(share)
        return Layout(shares, documents, np.unique(np.concatenate(documents)))

    def _texts(self, source: Source, share: IndexArray, documents: IntArray) -> dict[str, Any]:
        queries, query_index = np.unique(source.samples.query_rows[share], return_inverse=True)
        query_texts, query_prompt = source.queries.take(queries), source.queries.prompt_length
        document_texts, document_prompt = source.documents.take(documents), source.documents.prompt_length
        if query_prompt == document_prompt:
            parts = [(query_texts + document_texts, query_prompt, 0)]
        else:  # a micro-batch has one prompt
            parts = [(query_texts, query_prompt, 0), (document_texts, document_prompt, len(queries))]
        chunks, places = [], []
        for texts, prompt_length, offset in parts:
            for chunk, members in micro_batches(texts, self._tokens, self._pad, prompt_length):
                chunks.append(chunk)
                places.append(members + offset)
        order = np.argsort(np.concatenate(places))
        return {
            "chunks": chunks,
            "order": torch.from_numpy(order),
            "n_queries": len(queries),
            "query_index": torch.from_numpy(query_index),
        }

    def _candidates(self, source: Source, share: IndexArray, negatives: list[IntArray], layout: Layout) -> dict[str, Any]:
        samples, unique = source.samples, layout.unique
        query_rows, positive_rows = samples.query_rows[share], samples.positive_rows[share]
        sample = np.repeat(np.arange(len(share)), [len(n) for n in negatives])
        flat = np.concatenate([*negatives, np.empty(0, np.int32)]).astype(np.int64)
        place = np.searchsorted(unique, samples.negative_rows[flat])
        positive = np.searchsorted(unique, positive_rows)
        counts = np.zeros((len(share), len(unique)), dtype=np.float32)
        np.add.at(counts, (sample, place), 1.0)
        own = counts > 0
        if source.in_batch:
            counts = np.maximum(counts, 1.0)
        counts[source.known.mask(query_rows, positive_rows, unique)] = 0.0
        counts[np.arange(len(share)), positive] = 1.0
        own[np.arange(len(share)), positive] = True
        columns = layout.columns(self._rank)
        width = sum(map(len, layout.documents))
        with np.errstate(divide="ignore"):
            weights = _scatter(np.log(counts), columns, width, -np.inf)
        batch: dict[str, Any] = {
            "log_weights": torch.from_numpy(weights),
            "own": torch.from_numpy(_scatter(own, columns, width, False)),
            "positives": torch.from_numpy(columns[positive]),
        }
        if source.guide is not None:
            scores = source.guide(query_rows, unique).astype(np.float32)
            batch["guide_scores"] = torch.from_numpy(_scatter(scores, columns, width, -np.inf))
        return batch | _teacher(samples, negatives, columns[positive], columns[place], sample, counts[sample, place] > 0)


def _teacher(
    samples: Samples, negatives: list[IntArray], positive: IndexArray, place: IndexArray, sample: IndexArray, allowed: Any
) -> dict[str, Any]:
    """Return each sample's own candidates, the positive first, with the teacher's scores; -1 and NaN padded, (b, 1 + n)."""
    width = 1 + max((len(n) for n in negatives), default=0)
    candidates = np.full((len(negatives), width), -1, dtype=np.int64)
    scores = np.full((len(negatives), width), np.nan, dtype=np.float32)
    candidates[:, 0] = positive
    flat = np.concatenate([*negatives, np.empty(0, np.int32)]).astype(np.int64)
    starts = np.cumsum([0, *[len(n) for n in negatives]])[:-1]
    inside = 1 + np.arange(len(flat)) - starts[sample]
    candidates[sample[allowed], inside[allowed]] = place[allowed]
    scores[sample[allowed], inside[allowed]] = samples.negative_scores[flat][allowed]
    has = np.array([len(n) > 0 for n in negatives])
    first = np.array([n[0] for n in negatives if len(n)], dtype=np.int64)
    scores[has, 0] = samples.positive_scores[first]
    return {"candidates": torch.from_numpy(candidates), "teacher_scores": torch.from_numpy(scores)}


def _scatter(values: npt.NDArray[Any], columns: IndexArray, width: int, fill: Any) -> npt.NDArray[Any]:
    """Return `values` (b, u) at their gathered columns, (b, width); columns of second copies hold `fill`."""
    result = np.full((len(values), width), fill, dtype=values.dtype)
    result[:, columns] = values
    return result


def micro_batches(
    texts: Sequence[npt.NDArray[np.uint32]], tokens: int, pad: int, prompt_length: int = 0
) -> list[tuple[dict[str, Any], IndexArray]]:
    """Return the texts in micro-batches of similar length and at most `tokens` tokens, padded on the right.

    Each is ({input_ids, attention_mask}: (n, length) int64, the texts' positions), and says the `prompt_length` that
    sentence-transformers' pooling leaves out, if any.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")[::-1]
    result, start = [], 0
    while start < len(order):
        longest = int(lengths[order[start]])
        members = order[start : start + max(1, tokens // max(longest, 1))]
        ids = np.full((len(members), longest), pad, dtype=np.int64)
        mask = np.zeros((len(members), longest), dtype=np.int64)
        for row, member in enumerate(members.tolist()):
            ids[row, : lengths[member]] = texts[member]
            mask[row, : lengths[member]] = 1
        chunk = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        result.append((chunk | ({"prompt_length": torch.tensor([prompt_length])} if prompt_length else {}), members))
        start += len(members)
    return result
