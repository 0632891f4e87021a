"""A sweep of 20 rules over stored candidates: what it searches again, and what it costs beside the one search.

    python benchmarks/sweep.py --data ../shared/data --out benchmarks/results/sweep.json

The candidate tables of the training queries of squad-v1.1-dev and bible-crossref are made once, with the packaged MiniLM.
Then every rule is mined as the mining stage does it, triples.parquet and all. Every use of the teacher's search is
counted: a rule searches only for the samples that it leaves short, and only below their limits. These searches are kept,
as the stage keeps them: with a selection from ten survivors the same rules search for those samples only of which the
table has four but not ten, and with the third selection they search nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.files import write_json
from nv_retriever.mining.build import write_mining
from nv_retriever.mining.config import MiningConfig
from nv_retriever.report.table import Table
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.remembered import RememberedScorer
from nv_retriever.search.types import Scorer
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.open import open_embedder, open_scorer

SETS = ("squad-v1.1-dev", "bible-crossref")
SPLIT = "train"
RULES = (
    "topk",
    *(f"topk-shift({n})" for n in (5, 10, 20, 50)),
    *(f"topk-abs({limit})" for limit in (0.4, 0.5, 0.6, 0.7, 0.8)),
    *(f"topk-marginpos({margin})" for margin in (0.01, 0.02, 0.05, 0.1, 0.2)),
    *(f"topk-percpos({share})" for share in (0.8, 0.9, 0.95, 0.98, 0.99)),
)
SELECTIONS = ("top(4)", "sample(4, of=10)", "top1+sample(4, of=10)")


def scorer_of(dataset: Dataset, folder: Path, runtime: Runtime) -> tuple[Scorer, float]:
    """Open MiniLM's vectors, embedding what is not yet embedded; return the seconds too."""
    started = time.perf_counter()
    embedder = open_embedder("minilm", EncoderConfig(), runtime=runtime)
    parts = {part: folder / part for part in ("documents", SPLIT)}
    for part, target in parts.items():
        if not (target / "embeddings.json").exists():
            write_embeddings(target, dataset, part, embedder, folder / "vectors")
    seconds = time.perf_counter() - started
    return open_scorer(TeacherConfig(), dataset, SPLIT, parts["documents"], parts[SPLIT], runtime=runtime), seconds


class Counted:
    """A scorer that counts the queries it is asked to search for."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.queries = scorer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scorer, name)

    def search(self, rows: Any, *arguments: Any, **options: Any) -> Any:
        """Search, counted."""
        self.queries += len(rows)
        return self.scorer.search(rows, *arguments, **options)


def sweep(source: Path, home: Path, depth: int) -> dict[str, Any]:
    """Return the seconds of the one search and of every rule."""
    folder, runtime = home / source.name, Runtime()
    if not (folder / "dataset" / "dataset.json").exists():
        write_dataset(folder / "dataset", DatasetConfig(source=str(source)))
    dataset = Dataset.open(folder / "dataset")
    scorer, embedding = scorer_of(dataset, folder, runtime)
    started = time.perf_counter()
    target = Path(tempfile.mkdtemp(dir=folder))
    write_candidates(target, scorer, dataset, SPLIT, SearchConfig(depth=depth), "minilm")
    searching = time.perf_counter() - started
    table, rows = Candidates.open(target), []
    for selection in SELECTIONS:
        for rule in RULES:
            counted = Counted(scorer)
            with tempfile.TemporaryDirectory() as out:
                config = MiningConfig(rule=rule, selection=selection)
                started = time.perf_counter()
                remembered = RememberedScorer(counted, target / "searches")
                counts = write_mining(Path(out), dataset, SPLIT, [table], lambda _, one=remembered: one, config, 0, rule)
                seconds = time.perf_counter() - started
            searched = {"searched_again": counted.queries, "short": counts["short"], "triples": counts["triples"]}
            rows.append({"rule": rule, "selection": selection, "seconds": seconds, "samples": counts["samples"]} | searched)
            print(rows[-1], file=sys.stderr)
    kept = sum(path.stat().st_size for path in (target / "searches").glob("*"))
    sizes = {"documents": dataset.n_documents, "queries": len(dataset.query_rows(SPLIT)), "bytes_of_searches": kept}
    return {"dataset": source.name, **sizes, "depth": depth, "embedding": embedding, "search": searching, "rules": rows}


def table_of(result: dict[str, Any]) -> Table:
    """Return a data set's sweep."""
    columns = ("rule", "selection", "seconds", "samples", "searched again", "short")
    body = [
        [row["rule"], row["selection"], row["seconds"], row["samples"], row["searched_again"], row["short"]]
        for row in result["rules"]
    ]
    total = [sum(row["seconds"] for row in result["rules"] if row["selection"] == one) for one in SELECTIONS]
    caption = (
        f"{result['dataset']}: {result['queries']:,} queries, {result['documents']:,} documents, depth {result['depth']}. "
        f"The one search {result['search']:.2f} s, the {len(RULES)} rules with each selection "
        + ", ".join(f"{seconds:.2f} s" for seconds in total)
    )
    return Table(columns, body, caption, digits=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--home", type=Path, help="keeps embeddings; a temporary folder by default")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--out", type=Path, help="JSON of the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        results = [sweep(options.data / name, home, options.depth) for name in SETS]
    for result in results:
        print(table_of(result).markdown())
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {"machine": describe(os.cpu_count() or 1), "sweeps": results})


if __name__ == "__main__":
    main()
