"""What a training reads of its sources: samples, tokens, known positives, a guide's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from nv_retriever.errors import InputError
from nv_retriever.search.types import FloatArray, IntArray
from nv_retriever.training.batches import Source
from nv_retriever.training.config import TrainingConfig
from nv_retriever.training.job import Mined, check_teachers
from nv_retriever.training.known import KnownPositives
from nv_retriever.training.samples import Samples, first_samples, judged_away, mixes_teachers, read_samples
from nv_retriever.training.tokens import Tokens, write_tokens


class SourceReader:
    """Reads sources as the student's encoder sees them; the first process writes their tokens below a folder."""

    def __init__(self, folder: Path, config: TrainingConfig, encoder: Any, rank: int) -> None:
        self.folder, self.config, self.encoder, self.rank = folder, config, encoder, rank

    def samples(self, mined: Mined) -> Samples:
        """Return the samples of a source; raises InputError for what cannot be learnt from."""
        samples = first_samples(read_samples(mined.dataset, mined.mining_folder), mined.samples)
        mixed = self.config.distillation is not None and mixes_teachers(mined.mining_folder)
        check_teachers(self.config, samples.score_kinds, mixed, mined.guide is not None or not self._in_batch(mined))
        if not len(samples):
            raise InputError(str(mined.mining_folder), "at least one mined sample", "none")
        if not samples.offsets[-1] and not (len(samples) > 1 and self._in_batch(mined)):
            found = f"{len(samples)} sample(s) without either"
            raise InputError(str(mined.mining_folder), "mined negatives, or other samples' passages as negatives", found)
        return samples

    def _in_batch(self, mined: Mined) -> bool:
        return self.config.in_batch_negatives if mined.in_batch_negatives is None else mined.in_batch_negatives

    def source(self, name: str, mined: Mined, samples: Samples) -> Source:
        """Return what batches need of a source."""
        queries, documents = self.tokens(name, mined, np.unique(samples.query_rows), samples.document_rows())
        judged_queries, judged_positives = judged_away(mined.dataset, mined.mining_folder)
        known_queries = np.concatenate([samples.query_rows, judged_queries])
        known_positives = np.concatenate([samples.positive_rows, judged_positives])
        return Source(
            samples=samples,
            known=KnownPositives(mined.dataset, known_queries, known_positives),
            queries=queries,
            documents=documents,
            in_batch=self._in_batch(mined),
            negatives=self.config.negatives,
            guide=self._guide(mined),
        )

    def _guide(self, mined: Mined) -> Any:
        wanted = self.config.guide is not None and self.config.guide.scores == "teacher" and self._in_batch(mined)
        if not wanted or mined.guide is None:
            return None
        from nv_retriever.embedding.shards import Vectors

        documents, queries = map(Vectors.open, mined.guide)
        rows = mined.dataset.query_rows(mined.split)

        def scores(query_rows: IntArray, document_rows: IntArray) -> FloatArray:
            """Return the teacher's scores of queries against documents, (b,), (m,) -> (b, m) float32."""
            return queries.take(np.asarray(np.searchsorted(rows, query_rows))) @ documents.take(document_rows).T

        return scores

    def tokens(self, name: str, mined: Mined, query_rows: IntArray, document_rows: IntArray) -> tuple[Tokens, Tokens]:
        """Return the tokens of some queries and documents of a source."""
        dataset, config, prompts = mined.dataset, self.config, self.encoder.prompts
        query = prompts.get("query") if mined.query_prompt is None else mined.query_prompt
        document = prompts.get("document") if mined.document_prompt is None else mined.document_prompt
        return (
            self._tokens(f"{name}/queries", query_rows, dataset.query_texts, query or "", "query", config.query_max_length),
            self._tokens(
                f"{name}/documents",
                document_rows,
                dataset.document_texts,
                document or "",
                "document",
                config.document_max_length,
            ),
        )

    def _prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens the model's own pooling leaves out, as sentence-transformers counts them."""
        if not prompt or all(getattr(module, "include_prompt", True) for module in self.encoder.children()):
            return 0
        return int(self.encoder[0]._get_prompt_length(prompt) or 0)

    def _tokens(self, name: str, rows: IntArray, texts: Any, prompt: str, role: str, length: int) -> Tokens:
        taken = len(self.encoder.tokenizer(prompt)["input_ids"]) if prompt else 0
        if taken >= length:
            expected = f"more than the {taken} tokens of the prompt {prompt!r}"
            raise InputError(f"training.{role}_max_length", expected, str(length))
        folder = self.folder / name
        if self.rank == 0:
            write_tokens(folder, rows, texts, self.encoder.tokenizer, prompt, length)
        PartialState().wait_for_everyone()
        return Tokens(folder, rows, self._prompt_length(prompt))
