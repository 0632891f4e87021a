"""Cross-encoders as teachers: they read query and document together, and rescore what a first teacher retrieved.

Candidates and positives get scores from the same model (raw logits). The pool of a query is what the first teacher's table
holds; what lies deeper there was never retrieved, so a deeper table gives a deeper pool.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.vector_store import Keys
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.progress import progress
from nv_retriever.ragged import Index
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Exclusions, FloatArray, ScoreKind, TopK
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.model_folder import DEFAULT_LENGTH, ModelFolder, content_digest, locate_model, read_model_folder
from nv_retriever.teachers.pair_model import CrossEncoderIdentity, PairModel
from nv_retriever.teachers.pair_scores import PairScores, pair_keys
from nv_retriever.teachers.selection import fill_row
from nv_retriever.window import WindowSize

FIRST, FEWEST, MOST = 1 << 10, 1 << 10, 1 << 16
"""Pairs that are scored and committed at once: of the first window, and of any. Of fewer, too many batches are not full."""


def resolve_cross_encoder(model: str, config: EncoderConfig) -> CrossEncoderIdentity:
    """Return what determines a cross-encoder's scores, from its files alone; raises InputError where it is missing.

    Without a `query_prompt` the folder's default prompt stands before every query, as in CrossEncoder.predict.
    """
    path = locate_model(model, config.revision, config.trust_remote_code)
    files = read_model_folder(path)
    if files.reads_messages:
        raise InputError(f"cross-encoder {path}", "a model that reads pairs of plain texts", "one with a chat template")
    length = config.document_max_length or files.document_max_length or DEFAULT_LENGTH
    if files.position_limit is not None and length > files.position_limit:
        raise InputError("document_max_length", f"at most the model's {files.position_limit} positions", str(length))
    return CrossEncoderIdentity(
        digest=content_digest(files, code=config.trust_remote_code),
        max_length=length,
        precision="bf16" if config.precision == "bf16" else "fp32",
        query_prompt=config.query_prompt if config.query_prompt is not None else _default_prompt(files),
        document_prompt=config.document_prompt or "",
    )


def _default_prompt(files: ModelFolder) -> str:
    return files.prompts.get(files.default_prompt or "", "") if files.saved_as == "CrossEncoder" else ""


class CrossEncoderScorer:
    """A cross-encoder over the candidates of a first teacher; scores are logits."""

    score_kind: ScoreKind = "logit"

    def __init__(
        self,
        model: str,
        config: EncoderConfig,
        dataset: Dataset,
        split: str,
        first: Candidates,
        runtime: Runtime,
        scores_root: Path | None = None,
    ) -> None:
        """Take the model and what it scores; below `scores_root` scores are kept by content, of every model its own."""
        self.identity = resolve_cross_encoder(model, config)
        self._kept = PairScores(scores_root / fingerprint(self.identity)) if scores_root is not None else None
        self.dataset, self.first, self.runtime = dataset, first, runtime
        self.queries = dataset.query_texts(dataset.query_rows(split))
        self.n_queries, self.n_documents = len(self.queries), dataset.n_documents
        if (first.n_queries, first.n_documents) != (self.n_queries, self.n_documents):
            expected = f"a table of {self.n_queries} queries over {self.n_documents} documents"
            raise InputError("the first teacher's candidates", expected, f"{first.n_queries} over {first.n_documents}")
        self.path = locate_model(model, config.revision, config.trust_remote_code)
        self.trust_remote_code = config.trust_remote_code
        self._known_pairs = np.empty(0, np.int64)
        self._known_scores = np.empty(0, np.float32)

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return the k best of each query's pool, strictly below its limit where limits are given."""
        pools = [self._pool(int(query), excluded, row) for row, query in enumerate(query_rows)]
        sizes = np.array([len(pool) for pool in pools], np.int64)
        documents = np.concatenate([*pools, np.empty(0, np.int64)]).astype(np.int64)
        scores = self.score_pairs(np.repeat(np.asarray(query_rows), sizes), documents)
        result = TopK.empty(len(pools), k)
        ends = np.cumsum(sizes)
        for row, (pool, stop) in enumerate(zip(pools, ends.tolist(), strict=True)):
            limit = None if limits is None else float(limits[row])
            fill_row(result, row, pool, scores[stop - len(pool) : stop], limit)
        return result

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the logits of pairs (n,) float32; a pair is scored once, in this object's life or in the home's."""
        pairs = np.asarray(query_rows, np.int64) * self.n_documents + np.asarray(document_rows, np.int64)
        new = self._unkept(np.setdiff1d(pairs, self._known_pairs))
        size, start = WindowSize(FIRST, FEWEST, MOST), 0
        with progress("score pairs", len(new), "pairs") as bar:
            while start < len(new):
                window = new[start : start + size.units]
                texts = self._texts(window)
                scores = self._score(texts)
                if self._kept is not None:
                    self._kept.commit(texts.keys(), scores)
                self._learn(window, scores)
                bar.advance(len(window))
                size.measure(len(window))
                start += len(window)
        found: FloatArray = self._known_scores[np.searchsorted(self._known_pairs, pairs)]
        return found

    def _unkept(self, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Learn what is kept of some pairs, and return the others."""
        if self._kept is None or not len(self._kept):
            return pairs
        unkept = [np.empty(0, np.int64)]
        for start in range(0, len(pairs), MOST):
            window = pairs[start : start + MOST]
            scores = self._kept.read(self._texts(window).keys())
            known = np.isfinite(scores)
            self._learn(window[known], scores[known])
            unkept.append(window[~known])
        return np.concatenate(unkept)

    def _pool(self, query: int, excluded: Exclusions, row: int) -> npt.NDArray[np.int64]:
        candidates = np.asarray(self.first.documents[query], np.int64)
        out = excluded.documents[excluded.offsets[row] : excluded.offsets[row + 1]]
        return np.setdiff1d(candidates[candidates >= 0], out)

    def _learn(self, pairs: npt.NDArray[np.int64], scores: FloatArray) -> None:
        merged = np.concatenate([self._known_pairs, pairs])
        order = np.argsort(merged, kind="stable")
        self._known_pairs = merged[order]
        self._known_scores = np.concatenate([self._known_scores, scores])[order]

    def _texts(self, pairs: npt.NDArray[np.int64]) -> _PairTexts:
        (queries, query_of), (documents, document_of) = (
            np.unique(rows, return_inverse=True) for rows in (pairs // self.n_documents, pairs % self.n_documents)
        )
        left = [self.queries[query] for query in queries.tolist()]
        return _PairTexts(left, query_of, self.dataset.document_texts(documents), document_of)

    def _score(self, texts: _PairTexts) -> FloatArray:
        left = [self.identity.query_prompt + texts.queries[query] for query in texts.query_of.tolist()]
        right = [self.identity.document_prompt + texts.documents[document] for document in texts.document_of.tolist()]
        return self._model(left, right)

    @cached_property
    def _model(self) -> PairModel:
        return PairModel(self.path, self.identity, self.trust_remote_code, self.runtime)


class _PairTexts(NamedTuple):
    """Pairs of texts, as numbers of different ones."""

    queries: list[str]
    query_of: Index
    documents: list[str]
    document_of: Index

    def keys(self) -> Keys:
        """Return the pairs' keys by content, (n,)."""
        return pair_keys(*self)
