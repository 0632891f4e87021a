"""Early stopping: nDCG@10 of the student on a bounded sample of a development split, while it is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback, TrainingArguments

from nv_retriever.data.dataset import Dataset
from nv_retriever.search.types import IntArray
from nv_retriever.training.batches import micro_batches
from nv_retriever.training.biencoder import BiEncoder
from nv_retriever.training.config import EarlyStoppingConfig
from nv_retriever.training.samples import sample_keys
from nv_retriever.training.tokens import Tokens
from nv_retriever.training.trainer import save_trainable

METRIC = "nDCG@10"


class Development:
    """A sample of a development split: some of its queries, all of their positives, and other documents."""

    def __init__(self, dataset: Dataset, config: EarlyStoppingConfig) -> None:
        queries = dataset.query_rows(config.split)
        zeros = np.zeros(len(queries), np.int32)
        chosen = np.argsort(sample_keys(dataset, queries, zeros), kind="stable")[: config.queries]
        self.query_rows: IntArray = np.sort(queries[chosen])
        positives = dataset.positives(config.split)
        keep = np.isin(positives.query_rows, self.query_rows)
        self.relevant = (positives.query_rows[keep], positives.document_rows[keep], positives.grades[keep])
        others = np.setdiff1d(np.arange(dataset.n_documents, dtype=np.int32), self.relevant[1])
        draws = np.random.default_rng(0).permutation(len(others))[: config.documents]
        self.document_rows: IntArray = np.union1d(self.relevant[1], others[draws]).astype(np.int32)

    def score(self, queries: torch.Tensor, documents: torch.Tensor) -> float:
        """Return nDCG@10 (ir_measures) of vectors in the order of the rows, (q, d) and (n, d)."""
        import ir_measures
        from ir_measures import Qrel, ScoredDoc, nDCG

        top = torch.topk(queries @ documents.T, min(10, len(documents)), dim=1)
        run = [
            ScoredDoc(str(query), str(self.document_rows[place]), float(score))
            for query, places, scores in zip(
                self.query_rows.tolist(), top.indices.tolist(), top.values.tolist(), strict=True
            )
            for place, score in zip(places, scores, strict=True)
        ]
        qrels = [Qrel(str(q), str(d), int(g)) for q, d, g in zip(*self.relevant, strict=True)]
        return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])


def agreed(score: float) -> float:
    """Return the first process's score: the last bits of vectors may differ between processes, and all must stop at once."""
    return float(broadcast_object_list([score])[0])


class EarlyStopping(TrainerCallback):  # type: ignore[misc]
    """Scores the student every so many steps, keeps the best weights aside, and stops when patience ends.

    Its state is a pure function of the scores so far, which the log holds: a resumed run goes on with the same state. Each
    best has a file of its own, since a run that goes on from a checkpoint before it need not find it again.
    """

    def __init__(
        self,
        development: Development,
        tokens: tuple[Tokens, Tokens],
        config: EarlyStoppingConfig,
        folder: Path,
        write: Callable[[int, dict[str, float]], None],
        pad: int,
        budget: int,
    ) -> None:
        self.development, self.tokens, self.config = development, tokens, config
        self.folder, self.write, self.pad, self.budget = folder, write, pad, budget
        self.scores: list[tuple[int, float]] = []

    def resume(self, lines: list[dict[str, float]]) -> None:
        """Take the scores of the steps before a kill from the log's lines."""
        self.scores = [(int(line["step"]), line[METRIC]) for line in lines if METRIC in line]

    @property
    def best_step(self) -> int:
        """The first step with the highest score."""
        return max(self.scores, key=lambda item: (item[1], -item[0]))[0]

    @property
    def best(self) -> Path:
        """The weights of that step."""
        return self.folder / f"best-{self.best_step}.safetensors"

    @property
    def exhausted(self) -> bool:
        """Whether patience has ended."""
        return bool(self.scores) and sum(step > self.best_step for step, _ in self.scores) >= self.config.patience

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Score, keep the best, stop."""
        if state.global_step % self.config.every and state.global_step != state.max_steps:
            return
        model: BiEncoder = kwargs["model"]
        score = agreed(self.measure(model))
        self.scores.append((state.global_step, score))
        if state.is_world_process_zero and self.best_step == state.global_step:
            save_trainable(model, self.best)
        self.write(state.global_step, {METRIC: score})
        control.should_training_stop = control.should_training_stop or self.exhausted

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Delete the weights that no training goes back to, now that this checkpoint is complete."""
        if state.is_world_process_zero and self.scores:
            for path in self.folder.glob("best-*.safetensors"):
                if path != self.best:
                    path.unlink()

    def measure(self, model: BiEncoder) -> float:
        """Return nDCG@10 of the student as it is."""
        was = model.training
        model.eval()
        rows = (self.development.query_rows, self.development.document_rows)
        queries, documents = (self._encode(model, *pair) for pair in zip(self.tokens, rows, strict=True))
        model.train(was)
        return self.development.score(queries, documents)

    def _encode(self, model: BiEncoder, tokens: Tokens, rows: IntArray) -> torch.Tensor:
        device, texts = next(model.parameters()).device, tokens.take(rows)
        result: torch.Tensor | None = None
        with torch.inference_mode():
            for chunk, members in micro_batches(texts, self.budget, self.pad, tokens.prompt_length):
                vectors = model.encode({name: value.to(device) for name, value in chunk.items()}).cpu()
                if result is None:
                    result = torch.empty((len(texts), vectors.shape[1]))
                result[torch.from_numpy(members.copy())] = vectors
        assert result is not None
        return result
