"""Mining as a library: vectors and labels in, negatives out; no files, no workflow.

>>> import numpy as np
>>> vectors = np.array([[1, 0], [0.9, 0.4], [0.6, 0.8], [0, 1]], np.float32)
>>> vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
>>> found = mine(vectors[:1], vectors[1:], {0: 0}, rule="topk-percpos(0.95)", negatives=2)
>>> found.negative.tolist(), found.rank.tolist()
([1, 2], [1, 2])
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from nv_retriever.errors import InputError
from nv_retriever.mining.arrays import ArrayVectors, Positives, Side, read_positives, read_vectors
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.memory import MemoryDataset, search_in_memory
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.selection import parse_selection, with_count
from nv_retriever.mining.statistics import Statistics
from nv_retriever.mining.teachers import plan_of, samples_of, teachers_of
from nv_retriever.mining.triples import SHORTFALL, TRIPLES, shortfall_table, triples_table
from nv_retriever.mining.types import Choice, Samples
from nv_retriever.mining.vetoes import open_vetoes, scorer_similarity
from nv_retriever.ragged import Index
from nv_retriever.search.types import ScoreKind, Scorer

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


@dataclass(frozen=True)
class MiningResult:
    """Mined triples, ordered by query, positive, position; rows are those of the arrays that were given.

    Samples that a judge adds stand behind those of their block.
    """

    query: Index
    """(n,) int64 rows of `queries`."""
    positive: Index
    """(n,) int64 rows of `documents`."""
    negative: Index
    """(n,) int64 rows of `documents`."""
    table: pa.Table
    """The same with ids, scores, limits, ranks and reasons: the columns of the `triples` table."""
    short: pa.Table
    """Samples with fewer rule-abiding negatives than wanted: the columns of the `shortfalls` table."""
    statistics: dict[str, Any]
    """Counts, mean rank, drop rate and mean gap to the positive, positives that are outliers."""

    def __len__(self) -> int:
        return len(self.negative)

    def __repr__(self) -> str:
        counts = self.statistics
        of = f"{counts['samples']:,} samples of {counts['queries']:,} queries"
        return f"<MiningResult: {len(self):,} negatives for {of}, {len(self.short):,} of them short>"

    @property
    def position(self) -> npt.NDArray[np.int32]:
        """(n,) 0 for a sample's first negative."""
        column: npt.NDArray[np.int32] = self.table.column("position").to_numpy()
        return column

    @property
    def rank(self) -> Index:
        """(n,) rank over all allowed documents, from 1; 0 for random negatives."""
        ranks: Index = self.table.column("rank").fill_null(0).to_numpy()
        return ranks

    @property
    def positive_score(self) -> npt.NDArray[np.float32]:
        """(n,) float32."""
        column: npt.NDArray[np.float32] = self.table.column("positive_score").to_numpy()
        return column

    @property
    def negative_score(self) -> npt.NDArray[np.float32]:
        """(n,) float32."""
        column: npt.NDArray[np.float32] = self.table.column("negative_score").to_numpy()
        return column

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas data frame."""
        return self.table.to_pandas()


def mine(
    queries: npt.ArrayLike,
    documents: npt.ArrayLike,
    positives: Positives,
    *,
    query_ids: Sequence[Hashable] | None = None,
    document_ids: Sequence[Hashable] | None = None,
    query_texts: Sequence[str] | None = None,
    document_texts: Sequence[str] | None = None,
    negatives: int | None = None,
    depth: int = 100,
    seed: int = 0,
    deepen: bool = True,
    exclude_same_id: bool = True,
    config: MiningConfig | None = None,
    **settings: Any,
) -> MiningResult:
    """Mine hard negatives from vectors, with the same code as `nvr mine`.

    `queries` (n_q, d) and `documents` (n_d, d) are numbers that are finite in float32; scores are their dot products, of
    kind cosine where all rows have length 1. Texts let equal ones be excluded under other ids, and let a judge read.
    `settings` are the fields of `MiningConfig` (rule, selection, anchor, min_score, shortfall, near_duplicates, judge, …)
    and override `config`; `negatives` overrides the selection's number. `depth` candidates are looked at first, more only
    where the rule leaves too few; with `deepen=False` nothing beyond them is. A document with the query's id is never mined,
    unless `exclude_same_id` is False (say so where queries and documents are numbered alike). Raises InputError.
    """
    config = _config(config, settings, negatives)
    check_count("depth", depth)
    check_count("seed", seed, least=0)
    if config.judge is not None and (query_texts is None or document_texts is None):
        raise InputError("judge", "query_texts and document_texts, which it reads", "vectors alone")
    asked, stored = read_vectors(queries, "queries"), read_vectors(documents, "documents")
    if asked.shape[1] != stored.shape[1]:
        raise InputError("documents", f"vectors of dimension {asked.shape[1]}", str(stored.shape[1]))
    left = Side.of(len(asked), query_ids, query_texts, "query")
    right = Side.of(len(stored), document_ids, document_texts, "document")
    dataset = MemoryDataset(left.ids, right.ids, read_positives(positives, left, right), left.texts, right.texts)
    scorer = _scorer(asked[left.order][dataset.query_rows("train")], stored[right.order])
    same_id = exclude_same_id and query_ids is not None and document_ids is not None
    return _mine(dataset, scorer, config, depth, seed, deepen, same_id, (left.order, right.order))


def _mine(
    dataset: MemoryDataset,
    scorer: Scorer,
    config: MiningConfig,
    depth: int,
    seed: int,
    deepen: bool,
    exclude_same_id: bool,
    orders: tuple[Index, Index],
) -> MiningResult:
    """Mine one data set in memory with one teacher; `orders` give the input's row of every canonical row."""
    plan = plan_of(config, seed)
    table = search_in_memory(scorer, dataset, depth, exclude_same_id)
    samples = samples_of([table])
    teachers = teachers_of([table], plan, config.anchor, (lambda _: scorer) if deepen else None)
    rows = dataset.query_rows("train")
    ids = dataset.query_ids[rows], dataset.document_ids
    keys = IdKeys(lambda: ids[0], lambda: ids[1])
    statistics, parts, shorts, places = Statistics(), [TRIPLES.empty_table()], [SHORTFALL.empty_table()], []
    with tempfile.TemporaryDirectory() as folder:
        cache, similarity = Path(folder) / "verdicts.sqlite", scorer_similarity(scorer)
        vetoes = open_vetoes(config, dataset.as_dataset(), "train", samples, teachers, cache, similarity)
        for start, choice in Miner(samples, teachers, plan, keys, vetoes.of_pools, vetoes.of_choices).blocks():
            statistics.add(start, choice, teachers)
            parts.append(triples_table("", start, choice, samples, teachers, *ids))
            shorts.append(shortfall_table(start, choice, samples, plan.shortfall, *ids))
            places.append(_places(start, choice, samples))
            added = vetoes.relabelled(start, choice, samples, teachers)
            statistics.add_relabelled(added)
            parts.append(triples_table("", 0, added.choice, added.samples, added.teachers, *ids))
            places.append(_places(0, added.choice, added.samples))
        summary = statistics.summary(samples, teachers, plan, ids) | vetoes.counts()
    query, positive, negative = np.concatenate([np.empty((3, 0), np.int64), *places], axis=1)
    return MiningResult(
        query=orders[0][rows[query]],
        positive=orders[1][positive],
        negative=orders[1][negative],
        table=pa.concat_tables(parts).drop_columns("run_id"),
        short=pa.concat_tables(shorts),
        statistics=summary,
    )


def _places(start: int, choice: Choice, samples: Samples) -> npt.NDArray[np.int64]:
    """Return query, positive and negative rows of the choice of the samples from `start` on, (3, n)."""
    at, position = np.nonzero(choice.documents >= 0)
    columns = samples.queries[start + at], samples.positives[start + at], choice.documents[at, position]
    return np.stack(columns).astype(np.int64)


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Raise InputError unless a value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(name, f"a whole number, at least {least}", repr(value))


def _config(config: MiningConfig | None, settings: dict[str, Any], negatives: int | None) -> MiningConfig:
    known = MiningConfig.model_fields
    for name in settings:
        if name not in known:
            raise InputError("mine", f"one of {', '.join(known)}", repr(name))
    if not isinstance(config, MiningConfig | None):
        raise InputError("config", "a MiningConfig", type(config).__name__, "single settings are arguments: mine(…, rule=…)")
    fields = (config or MiningConfig()).model_dump() | settings
    try:
        found = MiningConfig(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):
            raise cause from None
        expected = str(first["msg"]).removeprefix("Input should be ")
        raise InputError(f"mine {'.'.join(map(str, first['loc']))}", expected, repr(first["input"])) from None
    if negatives is None:
        return found
    check_count("negatives", negatives)
    selection = with_count(parse_selection(found.selection), negatives)
    return found.model_copy(update={"selection": selection.name})


def _scorer(queries: npt.NDArray[np.float32], documents: npt.NDArray[np.float32]) -> Scorer:
    from nv_retriever.search.vectors import VectorScorer

    lengths = np.concatenate([np.linalg.norm(queries, axis=1), np.linalg.norm(documents, axis=1)])
    kind: ScoreKind = "cosine" if np.abs(lengths - 1).max() < 1e-3 else "dot"
    return VectorScorer(ArrayVectors(queries), ArrayVectors(documents), kind)
