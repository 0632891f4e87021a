"""Which second looks a configuration asks for: the near-duplicate guard, the judge, an oracle's hidden labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import InputError
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.hidden_labels import HiddenLabels
from nv_retriever.mining.judge import judge_digest, open_judge
from nv_retriever.mining.near_duplicates import DocumentVectors, NearDuplicates, Similarity, cosine_similarity
from nv_retriever.mining.relabelled import Relabelled, relabel
from nv_retriever.mining.types import Choice, Samples, Teacher, Veto
from nv_retriever.mining.verdicts import JudgedNegatives, VerdictCache
from nv_retriever.search.types import FloatArray, Scorer

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.mining.triples import Ids


@dataclass(frozen=True)
class Vetoes:
    """The guards of one run."""

    near_duplicates: NearDuplicates | None = None
    judged: JudgedNegatives | None = None
    hidden: HiddenLabels | None = None

    @property
    def of_pools(self) -> list[Veto]:
        """Guards that look at every survivor."""
        return [guard for guard in (self.hidden, self.near_duplicates) if guard is not None]

    @property
    def of_choices(self) -> list[JudgedNegatives]:
        """Guards that look at chosen negatives only."""
        return [self.judged] if self.judged is not None else []

    def relabelled(self, start: int, choice: Choice, samples: Samples, teachers: Sequence[Teacher]) -> Relabelled:
        """Return the samples that the judge added to those of the choice."""
        return relabel(self.judged.positives if self.judged is not None else {}, start, choice, samples, teachers)

    def counts(self) -> dict[str, Any]:
        """Return how many pairs the guards vetoed or judged: near-duplicates, and verdicts of each kind."""
        counts: dict[str, Any] = {}
        if self.near_duplicates is not None:
            counts["near_duplicates"] = self.near_duplicates.found
        if self.judged is not None:
            counts["verdicts"] = self.judged.counts()
        return counts

    def write(self, folder: Path, queries: Ids, documents: Ids) -> dict[str, Any]:
        """Write verdicts.parquet where a judge spoke; return the counts."""
        if self.judged is not None:
            self.judged.write(folder / "verdicts.parquet", queries, documents)
        return self.counts()


def open_vetoes(
    config: MiningConfig,
    dataset: Dataset,
    split: str,
    samples: Samples,
    teachers: Sequence[Teacher],
    cache: Path,
    similarity: Similarity | None = None,
) -> Vetoes:
    """Return the guards that `config` names; models are loaded only where they are named.

    `similarity` compares documents; by default the first teacher's vectors do, else their texts.
    """
    hidden = near = judged = None
    if config.oracle:
        check_hidden(dataset)
        hidden = HiddenLabels(dataset, split)
    if config.near_duplicates is not None:
        similarity = similarity or vector_similarity(teachers) or _text_similarity(dataset)
        near = NearDuplicates(similarity, config.near_duplicates, teachers[0].exclusions())
    if config.judge is not None:
        rows = dataset.query_rows(split)

        def texts(what: str, of: list[int]) -> list[str]:
            """Return the texts that a judge reads."""
            return dataset.query_texts(rows[of]) if what == "queries" else dataset.document_texts(of)

        settings = f"margin={config.judge_margin} weights={judge_digest(config.judge)}"
        kept = VerdictCache(open_judge(config.judge, config.judge_margin), cache, settings)
        judged = JudgedNegatives(kept, samples, texts)
    return Vetoes(near, judged, hidden)


def check_hidden(dataset: Dataset) -> None:
    """Raise InputError where a data set hides no label, which an oracle would know."""
    if not len(dataset.hidden()):
        hint = "set dataset.known_positives to fewer positives than its training queries have"
        raise InputError("oracle", "a data set that hides labels", dataset.name, hint)


def vector_similarity(teachers: Sequence[Teacher]) -> Similarity | None:
    """Return the cosines of the first teacher that has document vectors."""
    for teacher in teachers:
        similarity = scorer_similarity(teacher.scorer()) if teacher.scorer is not None else None
        if similarity is not None:
            return similarity
    return None


def scorer_similarity(scorer: Scorer) -> Similarity | None:
    """Return the cosines of a scorer's document vectors, where it has some."""
    documents = getattr(scorer, "documents", None)
    return cosine_similarity(documents) if isinstance(documents, DocumentVectors) else None


def _text_similarity(dataset: Dataset) -> Similarity:
    """Return estimated Jaccard similarities of word shingles, for teachers without vectors."""
    from nv_retriever.data.minhash import signature_similarity, signatures

    def similarity(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> FloatArray:
        """Return the similarities of pairs of documents, (n,) and (n,) -> (n,) float32."""
        rows, back = np.unique(np.concatenate([left, right]), return_inverse=True)
        found = signatures(dataset.document_texts(rows))
        return signature_similarity(found, found, back[: len(left)], back[len(left) :])

    return similarity
