"""Write a sample of a BEIR folder: some queries of each split by a hash of their ids, and the documents that answer them.

    python docs/ablation/sample.py SOURCE OUT --queries train=400 dev=60 test=400

The corpus is the union of these queries' positives, so that every label of a sampled query is kept.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path


def lines_of(folder: Path, name: str) -> Iterator[str]:
    """Yield the lines of a file that may be gzipped."""
    plain = folder / name
    with (
        plain.open(encoding="utf-8") if plain.exists() else gzip.open(folder / f"{name}.gz", "rt", encoding="utf-8") as file
    ):
        yield from file


def sample(source: Path, out: Path, sizes: dict[str, int]) -> tuple[int, int]:
    """Write the sample and return its numbers of queries and documents."""
    queries: set[str] = set()
    documents: set[str] = set()
    (out / "qrels").mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        head, *rows = (line.rstrip("\n").split("\t") for line in lines_of(source, f"qrels/{split}.tsv"))
        chosen = set(sorted({row[0] for row in rows}, key=lambda name: hashlib.sha256(name.encode()).digest())[:size])
        kept = [row for row in rows if row[0] in chosen]
        text = "\n".join("\t".join(row) for row in [head, *kept]) + "\n"
        (out / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        queries |= chosen
        documents |= {row[1] for row in kept}
    for name, wanted in (("queries.jsonl", queries), ("corpus.jsonl", documents)):
        found = (line for line in lines_of(source, name) if json.loads(line)["_id"] in wanted)
        (out / name).write_text("".join(found), encoding="utf-8")
    return len(queries), len(documents)


def main() -> None:
    """Read the arguments and write the sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--queries", nargs="+", required=True, metavar="SPLIT=N")
    options = parser.parse_args()
    sizes = {split: int(number) for split, number in (text.split("=") for text in options.queries)}
    print("{} queries, {} documents".format(*sample(options.source, options.out, sizes)))


if __name__ == "__main__":
    main()
