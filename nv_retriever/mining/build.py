"""The mining stage: stored candidates in, triples.parquet, shortfall.parquet and run.json out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.files import write_aside, write_json
from nv_retriever.mining.config import MiningConfig
from nv_retriever.mining.judge import judge_label
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.statistics import Statistics
from nv_retriever.mining.teachers import OpenScorer, plan_of, samples_of, teachers_of
from nv_retriever.mining.triples import SHORTFALL, TRIPLES, shortfall_table, triples_table
from nv_retriever.mining.types import MiningPlan, Teacher
from nv_retriever.mining.vetoes import open_vetoes
from nv_retriever.progress import progress
from nv_retriever.search.candidate_table import Candidates

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset

COUNTS = ("triples", "samples", "queries", "relabelled", "short", "reasons", "short_reasons")
"""What the manifest says of a run."""


def write_mining(
    folder: Path,
    dataset: Dataset,
    split: str,
    candidates: Sequence[Candidates],
    open_scorer: OpenScorer,
    config: MiningConfig,
    seed: int,
    run_id: str,
    verdicts: Path | None = None,
) -> dict[str, Any]:
    """Mine a split and write the artifact's files; return its counts.

    `candidates` one table per teacher; `open_scorer(i)` opens teacher i where samples have to be searched deeper.
    `verdicts` is the judge's cache, shared by runs; by default it lies in `folder`. Raises InputError where the
    configuration does not fit the teachers. Memory is flat: one block of samples at a time.
    """
    plan = plan_of(config, seed)
    samples = samples_of(candidates)
    teachers = teachers_of(candidates, plan, config.anchor, open_scorer)
    queries, documents = dataset.query_ids[dataset.query_rows(split)], dataset.document_ids
    vetoes = open_vetoes(config, dataset, split, samples, teachers, verdicts or folder / "verdicts.sqlite")
    miner = Miner(samples, teachers, plan, IdKeys(lambda: queries, lambda: documents), vetoes.of_pools, vetoes.of_choices)
    statistics = Statistics()
    with (
        write_aside(folder / "triples.parquet") as triples_path,
        write_aside(folder / "shortfall.parquet") as shortfall_path,
        pq.ParquetWriter(triples_path, TRIPLES, compression="zstd") as triples,
        pq.ParquetWriter(shortfall_path, SHORTFALL, compression="zstd") as short,
        progress(f"mining {plan.rule.name}", len(samples), "samples") as done,
    ):
        for start, choice in miner.blocks():
            statistics.add(start, choice, teachers)
            own = triples_table(run_id, start, choice, samples, teachers, queries, documents)
            added = vetoes.relabelled(start, choice, samples, teachers)
            statistics.add_relabelled(added)
            others = triples_table(run_id, 0, added.choice, added.samples, added.teachers, queries, documents)
            _write(triples, _in_order(own, others))
            _write(short, shortfall_table(start, choice, samples, plan.shortfall, queries, documents))
            done.advance(len(choice.short))
    summary = statistics.summary(samples, teachers, plan, (queries, documents))
    summary |= vetoes.write(folder, queries, documents)
    run = {"run_id": run_id, "dataset": dataset.name, "split": split, **_settings(config, plan, teachers)}
    write_json(folder / "run.json", run | summary)
    return {name: summary[name] for name in COUNTS}


def _settings(config: MiningConfig, plan: MiningPlan, teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Return what run.json says about how the run was mined."""
    return {
        "rule": plan.rule.name,
        "selection": plan.selection.name,
        "anchor": config.anchor,
        "ensemble": config.ensemble,
        "shortfall": config.shortfall,
        "teachers": [teacher.name for teacher in teachers],
        "seed": plan.seed,
        "config": config.model_dump(mode="json") | {"judge": config.judge and judge_label(config.judge)},
    }


def _in_order(own: pa.Table, others: pa.Table) -> pa.Table:
    """Return the rows of both tables by query, positive, position, as `own` is; whoever streams them relies on it."""
    if not others.num_rows:
        return own
    keys = ("query_id", "positive_id", "position")
    return pa.concat_tables([own, others]).sort_by([(key, "ascending") for key in keys])


def _write(writer: pq.ParquetWriter, table: pa.Table) -> None:
    if table.num_rows:
        writer.write_table(table)
