"""What a re-run costs: nothing changed, one changed margin, one new document, 1 % new documents.

    python benchmarks/rerun.py --data ../shared/data/scifact [--split train] [--documents N] [--limit N] [--new 0.01]
                               [--teacher minilm] [--out FILE.json]

--data is a BEIR folder; its first --documents documents are taken, and the labels of those. Documents without labels are
held out at first and appended to the same folder later. Each row is one `nvr mine --json` as a user runs it, all in one home
that is removed afterwards; its wall time includes Python, imports, the start and the end of Prefect's temporary server.
`cpu` is the processor time of the command and what it starts (on a busy machine compare that); `stages` are the seconds that
the stages report, a cached one 0; `texts` is what was embedded. The embedding of one new document shows what loading costs
(torch, transformers, the model, the keys of all texts, the copy of all vectors), whatever the number of new documents.

Own work of a run in which nothing changed: in one more process, the flow's time from its call to its result. It excludes
what any Prefect flow pays before: Python, imports, and the server's start; it includes the flow's requests to that server,
the digest of the data set, the check of every artifact, and the database.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.pop("PREFECT_API_URL", None)

RULES = ("topk-percpos(0.95)", "topk-percpos(0.9)")
STAGES = ("ingest", "embed", "index", "mine")
TARGETS = {"own_work_seconds": 5.0, "embedding_of_new": 0.03}


def read_lines(folder: Path, name: str) -> list[str]:
    """Return the lines of a file that may be gzipped."""
    path = folder / name
    if path.exists():
        return path.read_text(encoding="utf-8").splitlines()
    return gzip.decompress((folder / f"{name}.gz").read_bytes()).decode().splitlines()


def copy_dataset(source: Path, target: Path, documents: int | None, new: float) -> list[str]:
    """Write the data set without some unlabelled documents, evenly spread; return their lines."""
    corpus = read_lines(source, "corpus.jsonl")[:documents]
    ids = [json.loads(line)["_id"] for line in corpus]
    kept, labelled = set(ids), set()
    (target / "qrels").mkdir(parents=True)
    for path in sorted((source / "qrels").glob("*.tsv")):
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        rows = [row for row in rows if row.split("\t")[1] in kept]
        labelled |= {row.split("\t")[1] for row in rows}
        if rows:
            (target / "qrels" / path.name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    (target / "queries.jsonl").write_text("\n".join(read_lines(source, "queries.jsonl")) + "\n", encoding="utf-8")
    free = [row for row, name in enumerate(ids) if name not in labelled]
    wanted = round(new * len(ids)) + 1
    if len(free) < wanted:
        sys.exit(f"{source}: {wanted} documents without labels are needed, there are {len(free)}")
    held = {free[number * len(free) // wanted] for number in range(wanted)}
    first = [line for row, line in enumerate(corpus) if row not in held]
    (target / "corpus.jsonl").write_text("\n".join(first) + "\n", encoding="utf-8")
    return [corpus[row] for row in sorted(held)]


def append(folder: Path, lines: list[str]) -> None:
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def settings(options: argparse.Namespace, data: Path, rule: str) -> list[str]:
    """Return the command line's options."""
    limit = ["--limit", str(options.limit)] if options.limit else []
    return ["--dataset", str(data), "--split", options.split, "--teacher", options.teacher, "--method", rule, *limit]


def mine(options: argparse.Namespace, data: Path, home: Path, rule: str) -> dict[str, Any]:
    """Run `nvr mine --json`; return its wall time, its stages' seconds and what it says."""
    command = [sys.executable, "-m", "flows.cli", "mine", *settings(options, data, rule), "--home", str(home), "--json"]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    embedded = [stage for stage in found["stages"] if stage["stage"] == "embed"]
    documents = embedded[0]  # documents come before queries
    counts = json.loads((home / "artifacts" / documents["artifact"] / "manifest.json").read_text())["counts"]
    stages = {name: sum(s["seconds"] for s in found["stages"] if s["stage"] == name) for name in STAGES}
    return {
        "wall": wall,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "stages": stages,
        "embed_documents": documents["seconds"],
        "texts": 0 if documents["cached"] else counts["encoded"],
        "cached": sum(stage["cached"] for stage in found["stages"]),
        "of": len(found["stages"]),
        "triples": found["triples"],
        "run_id": found["run_id"],
    }


def child(options: argparse.Namespace, data: Path, home: Path) -> None:
    """In a process of its own: the phases of a run, and of a second one in the same process, as a served flow pays it."""
    from flows.server import temporary_server
    from flows.settings import assign, build_config

    tree: dict[str, Any] = {"teachers": [{"name": options.teacher}], "split": options.split}
    for path, value in ((["dataset", "source"], str(data)), (["mining", "rule"], RULES[0])):
        assign(tree, path, value)
    if options.limit:
        assign(tree, ["dataset", "limit"], options.limit)
    times = [time.perf_counter()]
    with temporary_server() as wait_for_server:
        from flows.mining import mining

        times.append(time.perf_counter())
        wait_for_server()
        for _ in range(2):
            times.append(time.perf_counter())
            result = mining(build_config(tree, "benchmark"), str(home))
        times.append(time.perf_counter())
    assert all(stage["cached"] for stage in result["stages"])
    names = ("imports", "server", "flow", "flow_again")
    print(json.dumps(dict(zip(names, (b - a for a, b in itertools.pairwise(times)), strict=True))))


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Do all runs, in order, in one home."""
    from flows.cli import prepare_environment
    from flows.options import Common

    prepare_environment(Common())
    data, home = scratch / "data", scratch / "home"
    held = copy_dataset(options.data, data, options.documents, options.new)
    documents = len(read_lines(data, "corpus.jsonl"))
    runs: dict[str, dict[str, Any]] = {}

    def do(name: str, rule: str = RULES[0]) -> None:
        runs[name] = row = mine(options, data, home, rule)
        seconds = [row["wall"], row["cpu"], sum(row["stages"].values()), *(row["stages"][stage] for stage in STAGES)]
        print(
            f"{name:22}{''.join(f'{value:9.2f}' for value in seconds)}{row['texts']:7}   {row['cached']}/{row['of']}",
            flush=True,
        )

    columns = ("wall s", "cpu s", "stages s", *STAGES)
    print(f"{'':22}{''.join(f'{name:>9}' for name in columns)}  texts   cached", flush=True)
    do("first")
    do("nothing changed")
    command = [sys.executable, __file__, "--child", str(home), "--data", str(data), "--split", options.split]
    command += ["--teacher", options.teacher, *(["--limit", str(options.limit)] if options.limit else [])]
    inside = subprocess.run(command, capture_output=True, text=True)
    if inside.returncode:
        sys.exit(inside.stderr)
    phases = json.loads(inside.stdout.splitlines()[-1])
    do("another margin", RULES[1])
    append(data, held[:1])
    do("one new document")
    append(data, held[1:])
    do(f"{options.new:.0%} new documents")
    assert runs["nothing changed"]["run_id"] == runs["first"]["run_id"]
    return {
        "dataset": options.data.name,
        "documents": documents,
        "new_documents": len(held) - 1,
        "split": options.split,
        "limit": options.limit,
        "teacher": options.teacher,
        "runs": runs,
        "nothing_changed_phases": phases,
    }


def shares(result: dict[str, Any]) -> dict[str, float]:
    """Return what the targets speak of."""
    runs = list(result["runs"].values())
    first, one, new = (run["embed_documents"] for run in (runs[0], runs[-2], runs[-1]))
    return {
        "own_work_seconds": result["nothing_changed_phases"]["flow"],
        "embedding_of_new": new / first,
        "embedding_of_one": one / first,
        "embedding_of_new_beyond_one": (new - one) / (first - one),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--documents", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--new", type=float, default=0.01)
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--child", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rerun.json"))
    options = parser.parse_args()
    if options.child:
        child(options, options.data, options.child)
        return
    from benchmarks.machine import describe
    from nv_retriever.files import write_json

    result = {"machine": describe(os.cpu_count() or 1)}
    with tempfile.TemporaryDirectory() as scratch:
        result |= measure(options, Path(scratch))
    result |= {"shares": shares(result), "targets": TARGETS}
    phases, found = result["nothing_changed_phases"], result["shares"]
    print("nothing changed, one process: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items()))
    print(f"own work {found['own_work_seconds']:.2f} s (target below {TARGETS['own_work_seconds']:g})")
    print(
        f"embedding {result['new_documents']} new documents beside {result['documents']}: {found['embedding_of_new']:.2%} "
        f"of the first run's {result['runs']['first']['embed_documents']:.1f} s (target {TARGETS['embedding_of_new']:.0%}); "
        f"one new document {found['embedding_of_one']:.2%}, so {found['embedding_of_new_beyond_one']:.2%} beyond loading"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    plot(result, options.out.with_suffix(".svg"))


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the stages' seconds and the rest of the wall time of each run."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    runs = dict(reversed(result["runs"].items()))
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(runs) + 1.4))
    left = [0.0] * len(runs)
    for stage in (*STAGES, "other"):
        seconds = [
            run["wall"] - sum(run["stages"].values()) if stage == "other" else run["stages"][stage] for run in runs.values()
        ]
        label = "Python, Prefect, checks" if stage == "other" else stage
        bars = axis.barh(list(runs), seconds, left=left, label=label, color="#cccccc" if stage == "other" else None)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axis.bar_label(bars, labels=[f"{wall:.1f}" for wall in left], padding=2)
    axis.set_xlabel("seconds")
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.1)
    axis.legend(loc="lower right", fontsize=8)
    figure.suptitle(f"{result['dataset']}: {result['documents']} documents, {result['new_documents']} new")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
