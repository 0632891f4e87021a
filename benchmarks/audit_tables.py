"""False negatives by rule on real data sets, with MiniLM and BM25 as teachers: the tables of docs/audit.md.

    python benchmarks/audit_tables.py --data ../shared/data --out docs/audit.md

Hidden positives: vaswani, cisi, cranfield, pubmedqa-sections, bible-crossref. Judged negatives: climate-fever-sentences,
medquad. Every query of the test split; at most --max-samples (query, visible positive) pairs of a data set, drawn by a
hash. Needs the packaged MiniLM and two cores for about a quarter of an hour, most of it embedding.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from nv_retriever.audit.audit import AuditResult, TeacherAudit, audit
from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.report import calibration_table, headline, judged_table, page, rows_table
from nv_retriever.config import Runtime
from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.files import write_json
from nv_retriever.report.table import Cell, Table
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.candidates import write_candidates
from nv_retriever.search.config import SearchConfig
from nv_retriever.search.types import Scorer
from nv_retriever.teachers.config import TeacherConfig
from nv_retriever.teachers.open import open_embedder, open_scorer

HIDDEN = ("vaswani", "cisi", "cranfield", "pubmedqa-sections", "bible-crossref")
JUDGED = ("climate-fever-sentences", "medquad")
TEACHERS = ("minilm", "bm25")
MARK = "<!-- Everything below is made by benchmarks/audit_tables.py -->"
SPLIT = "test"


def scorer_of(name: str, dataset: Dataset, folder: Path, runtime: Runtime) -> Scorer:
    """Open a teacher, embedding what is not yet embedded."""
    teacher = TeacherConfig(name=name)
    if name == "bm25":
        return open_scorer(teacher, dataset, SPLIT, runtime=runtime)
    embedder = open_embedder(name, teacher.encoder, runtime=runtime)
    parts = {part: folder / f"{name}-{part}" for part in ("documents", SPLIT)}
    for part, target in parts.items():
        if not (target / "embeddings.json").exists():
            write_embeddings(target, dataset, part, embedder, folder.parent / "vectors")
    return open_scorer(teacher, dataset, SPLIT, parts["documents"], parts[SPLIT], runtime=runtime)


def audited(
    source: Path, home: Path, teachers: list[str], config: AuditConfig, depth: int
) -> tuple[AuditResult, float, float]:
    """Return a data set's audit, and the seconds that everything before it and the audit itself took."""
    folder, runtime, started = home / source.name, Runtime(), time.perf_counter()
    if not (folder / "dataset" / "dataset.json").exists():
        write_dataset(folder / "dataset", DatasetConfig(source=str(source)))
    dataset = Dataset.open(folder / "dataset")
    scorers = [scorer_of(name, dataset, folder, runtime) for name in teachers]
    tables = []
    for name, scorer in zip(teachers, scorers, strict=True):
        target = folder / f"candidates-{name}"
        if not (target / "candidates.json").exists():
            target.mkdir(parents=True, exist_ok=True)
            write_candidates(target, scorer, dataset, SPLIT, SearchConfig(depth=depth), name)
        tables.append(Candidates.open(target))
    prepared = time.perf_counter()
    result = audit(dataset, SPLIT, tables, config, scorers)
    seconds = time.perf_counter() - prepared
    page(result).write(folder / "report.html")
    write_json(folder / "audit.json", result.to_json())
    return result, prepared - started, seconds


def summary(results: Iterable[AuditResult]) -> Table:
    """Return naive top-k, the paper's best rule and the recommended one, a line a data set and teacher."""
    rows: list[list[Cell]] = []
    for result in results:
        for teacher in result.teachers:
            by_rule = {row.rule: row for row in teacher.rows}
            naive, paper, best = (by_rule[r] for r in ("topk", "topk-percpos(0.95)", teacher.recommendation.rule))
            rows.append(
                [
                    result.dataset,
                    teacher.teacher,
                    naive.samples,
                    100 * naive.rate,
                    100 * paper.rate,
                    100 * paper.fewer,
                    best.rule + ("" if teacher.recommendation.met else " (target missed)"),
                    100 * best.rate,
                    100 * best.fewer,
                ]
            )
    columns = ("data set", "teacher", "samples", "top-k %", "percpos(0.95) %", "fewer %", "recommended", "its %", "fewer % ")
    return Table(columns, rows, digits=1)


def section(result: AuditResult, judged: bool) -> str:
    """Return a data set's part of the page in Markdown."""
    parts = [f"### {result.dataset}\n"]
    for teacher in result.teachers:
        parts.append(headline(teacher) + "\n")
        parts.append(_tables(teacher, judged))
    return "\n".join(parts)


def _tables(teacher: TeacherAudit, judged: bool) -> str:
    tables = [rows_table(teacher)] + ([calibration_table(teacher)] if teacher.calibration else [])
    if judged and teacher.agreement:
        share, pairs = teacher.separation
        tables.append(judged_table(teacher))
        note = f"Positives score above judged negatives of their query in {100 * share:.1f} % of {pairs:,} pairs.\n"
        return "\n".join([*(table.markdown() for table in tables), note])
    return "\n".join(table.markdown() for table in tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, help="Markdown file whose part below the mark is replaced")
    parser.add_argument("--home", type=Path, help="keeps embeddings and candidates; a temporary folder by default")
    parser.add_argument("--sets", nargs="*", default=[*HIDDEN, *JUDGED], help="NAME, or NAME:bm25 for one teacher only")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--max-samples", type=int, default=10_000)
    options = parser.parse_args()
    config = AuditConfig(max_samples=options.max_samples, near_duplicates=None)
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        results, times = [], []
        for spec in options.sets:
            name, _, teacher = spec.partition(":")
            teachers = [teacher] if teacher else list(TEACHERS)
            result, before, seconds = audited(options.data / name, home, teachers, config, options.depth)
            results.append(result)
            times.append(f"{name} {before:.0f} s + {seconds:.1f} s")
            print(times[-1], file=sys.stderr)
    chosen = " --sets " + " ".join(options.sets) if options.sets != [*HIDDEN, *JUDGED] else ""
    command = f"python benchmarks/audit_tables.py --data ../shared/data --out docs/audit.md{chosen}"
    found = ", which may have found vectors of an earlier one" if options.home else ""
    text = "\n".join(
        [
            MARK,
            f"\nMade by `{command}` (depth {options.depth}, at most {options.max_samples:,} samples a data set, seed 0). "
            f"Seconds of this run{found}: ingest + embedding + search, and the audit itself: {', '.join(times)}.\n",
            "### Summary\n",
            summary(results).markdown(),
            *(section(result, result.dataset in JUDGED) for result in results),
        ]
    )
    if options.out:
        head = options.out.read_text(encoding="utf-8").split(MARK)[0] if options.out.exists() else ""
        options.out.write_text(head + text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
