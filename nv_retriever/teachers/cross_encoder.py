"""Cross-encoders as teachers: they read query and document together, and rescore what a first teacher retrieved.

Candidates and positives get scores from the same model (raw logits). The pool of a query is what the first teacher's table
holds; what lies deeper there was never retrieved, so a deeper table gives a deeper pool.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nv_retriever.config import Frozen, Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.hardware import device_kind, warn_of_emulation
from nv_retriever.progress import progress
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Exclusions, FloatArray, ScoreKind, TopK
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.model_folder import content_digest, locate_model, read_model_folder
from nv_retriever.teachers.selection import empty_top_k, fill_row

logger = logging.getLogger(__name__)
WINDOW_PAIRS = 4096
DEFAULT_LENGTH = 512
ROWS, STEP = 16, 32
"""Every batch has ROWS rows and a length that is a multiple of STEP: its shape follows from the pair alone, and products
of one shape round alike, so a pair's score does not depend on its companions. The last row is idle and nearly empty, so that
no batch goes without a mask."""


class CrossEncoderIdentity(Frozen):
    """Everything that determines the score of a pair besides the texts."""

    digest: str
    max_length: int
    precision: Literal["fp32", "bf16"]
    query_prompt: str = ""
    document_prompt: str = ""
    numerics: int = 1


def resolve_cross_encoder(model: str, config: EncoderConfig) -> CrossEncoderIdentity:
    """Return what determines a cross-encoder's scores, from its files alone; raises InputError where it is missing."""
    path = locate_model(model, config.revision, config.trust_remote_code)
    files = read_model_folder(path)
    return CrossEncoderIdentity(
        digest=content_digest(files, code=config.trust_remote_code),
        max_length=config.document_max_length or files.max_length or DEFAULT_LENGTH,
        precision="bf16" if config.precision == "bf16" else "fp32",
        query_prompt=config.query_prompt or "",
        document_prompt=config.document_prompt or "",
    )


class CrossEncoderScorer:
    """A cross-encoder over the candidates of a first teacher; scores are logits."""

    score_kind: ScoreKind = "logit"

    def __init__(
        self, model: str, config: EncoderConfig, dataset: Dataset, split: str, first: Candidates, runtime: Runtime
    ) -> None:
        self.identity = resolve_cross_encoder(model, config)
        self.dataset, self.first, self.runtime = dataset, first, runtime
        self.queries = dataset.query_texts(dataset.query_rows(split))
        self.n_queries, self.n_documents = len(self.queries), dataset.n_documents
        if (first.n_queries, first.n_documents) != (self.n_queries, self.n_documents):
            expected = f"a table of {self.n_queries} queries over {self.n_documents} documents"
            raise InputError("the first teacher's candidates", expected, f"{first.n_queries} over {first.n_documents}")
        self.path = locate_model(model, config.revision, config.trust_remote_code)
        self.trust_remote_code = config.trust_remote_code
        self._model: _PairModel | None = None
        self._known_keys = np.empty(0, np.int64)
        self._known_scores = np.empty(0, np.float32)

    def search(
        self, query_rows: npt.NDArray[np.integer], k: int, excluded: Exclusions, limits: FloatArray | None = None
    ) -> TopK:
        """Return the k best of each query's pool, strictly below its limit where limits are given."""
        pools = [self._pool(int(query), excluded, row) for row, query in enumerate(query_rows)]
        sizes = np.array([len(pool) for pool in pools], np.int64)
        documents = np.concatenate([*pools, np.empty(0, np.int64)]).astype(np.int64)
        scores = self.score_pairs(np.repeat(np.asarray(query_rows), sizes), documents)
        result = empty_top_k(len(pools), k)
        ends = np.cumsum(sizes)
        for row, (pool, stop) in enumerate(zip(pools, ends.tolist(), strict=True)):
            limit = None if limits is None else float(limits[row])
            fill_row(result, row, pool, scores[stop - len(pool) : stop], limit)
        return result

    def score_pairs(self, query_rows: npt.NDArray[np.integer], document_rows: npt.NDArray[np.integer]) -> FloatArray:
        """Return the logits of pairs (n,) float32; a pair is scored once in this object's life."""
        keys = np.asarray(query_rows, np.int64) * self.n_documents + np.asarray(document_rows, np.int64)
        new = np.setdiff1d(keys, self._known_keys)
        with progress("score pairs", len(new), "pairs") as bar:
            for start in range(0, len(new), WINDOW_PAIRS):
                window = new[start : start + WINDOW_PAIRS]
                self._learn(window, self._score(window // self.n_documents, window % self.n_documents))
                bar.advance(len(window))
        found: FloatArray = self._known_scores[np.searchsorted(self._known_keys, keys)]
        return found

    def _pool(self, query: int, excluded: Exclusions, row: int) -> npt.NDArray[np.int64]:
        candidates = np.asarray(self.first.documents[query], np.int64)
        out = excluded.documents[excluded.offsets[row] : excluded.offsets[row + 1]]
        return np.setdiff1d(candidates[candidates >= 0], out)

    def _learn(self, keys: npt.NDArray[np.int64], scores: FloatArray) -> None:
        merged = np.concatenate([self._known_keys, keys])
        order = np.argsort(merged, kind="stable")
        self._known_keys = merged[order]
        self._known_scores = np.concatenate([self._known_scores, scores])[order]

    def _score(self, queries: npt.NDArray[np.int64], documents: npt.NDArray[np.int64]) -> FloatArray:
        if self._model is None:
            self._model = _PairModel(self.path, self.identity, self.trust_remote_code, self.runtime)
        rows, inverse = np.unique(documents, return_inverse=True)
        texts = self.dataset.document_texts(rows)
        left = [self.identity.query_prompt + self.queries[query] for query in queries.tolist()]
        right = [self.identity.document_prompt + texts[place] for place in inverse.tolist()]
        return self._model(left, right)


class _PairModel:
    """The model, in batches of a few fixed shapes."""

    def __init__(self, path: Path, identity: CrossEncoderIdentity, trust_remote_code: bool, runtime: Runtime) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        self.identity, self.runtime, self.device = identity, runtime, torch.device(device_kind(runtime))
        warn_of_emulation(f"cross-encoder {path.name}", identity.precision, runtime)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
            model = AutoModelForSequenceClassification.from_pretrained(
                str(path), dtype=torch.float32, use_safetensors=True, **options
            )
        except (OSError, ValueError, ImportError, RuntimeError, KeyError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"cross-encoder {path}", "a sequence classifier", type(error).__name__, reason) from error
        if model.config.num_labels != 1:
            raise InputError(f"cross-encoder {path}", "one output, the relevance", f"{model.config.num_labels} outputs")
        self.model = model.eval().to(self.device)
        self.takes_types = "token_type_ids" in inspect.signature(model.forward).parameters

    def __call__(self, queries: list[str], documents: list[str]) -> FloatArray:
        import torch

        encoded = self.tokenizer(
            queries,
            documents,
            truncation="longest_first",
            max_length=self.identity.max_length,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        own = np.fromiter(map(len, ids), np.int64, len(ids))
        lengths = np.minimum(-(-own // STEP) * STEP, self.identity.max_length)
        order = np.argsort(-lengths, kind="stable")
        result = np.empty(len(ids), np.float32)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.identity.precision == "bf16"),
        ):
            for length in np.unique(lengths)[::-1].tolist():
                group = order[lengths[order] == length]
                for start in range(0, len(group), ROWS - 1):
                    some = group[start : start + ROWS - 1].tolist()
                    result[some] = self._batch([ids[i] for i in some], [types[i] for i in some], length)
        return result

    def _batch(self, ids: list[list[int]], types: list[list[int]], length: int) -> Any:
        """Return the logits of at most ROWS - 1 pairs of at most `length` tokens."""
        import torch

        tensors = {name: np.zeros((ROWS, length), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        tensors["input_ids"][:] = int(self.model.config.pad_token_id or 0)
        tensors["attention_mask"][:, 0] = 1
        for row, (tokens, kinds) in enumerate(zip(ids, types, strict=True)):
            tensors["input_ids"][row, : len(tokens)] = tokens
            tensors["attention_mask"][row, : len(tokens)] = 1
            tensors["token_type_ids"][row, : len(kinds)] = kinds
        if not self.takes_types:
            del tensors["token_type_ids"]
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in tensors.items()}
        return self.model(**inputs).logits[: len(ids), 0].float().cpu().numpy()
