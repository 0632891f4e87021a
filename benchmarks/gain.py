"""What a run with the defaults gives on data of one's own: untrained, BM25, trained, and the interval of the gain.

    python benchmarks/gain.py --data ../shared/data [--sets scifact ...] [--train-limit 1500] [--home HOME] [--out FILE.json]

Each row is one `nvr run --dataset FOLDER --json` as a user runs it: the packaged MiniLM mines and is trained, on the split
`train`, and measured on `test`. --train-limit takes at most so many training queries, which bounds the hours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.machine import describe
from nv_retriever.files import write_json

SETS = ("scifact", "pubmedqa-sections", "squad-v1.1-dev")
METRIC = "nDCG@10"


def run(dataset: Path, home: Path, train_limit: int) -> dict[str, Any]:
    """Run the pipeline on a data set and return the row of its result."""
    limit = f"dataset.train_limit={train_limit}"
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "run",
        "--dataset",
        str(dataset),
        "--set",
        limit,
        "--home",
        str(home),
        "--json",
    ]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    result = json.loads(said.splitlines()[-1])
    evaluation = result["evaluation"]
    return {
        "dataset": dataset.name,
        "samples": result["mining"]["samples"],
        "queries": evaluation["difference"]["queries"],
        **{system: evaluation[system][METRIC] for system in ("base", "bm25", "trained")},
        "gain": evaluation["difference"][METRIC],
        "ci95": evaluation["difference"]["ci95"],
        "p": evaluation["difference"]["p"],
    }


def main() -> None:
    """Run all sets, and print and write the rows, after each of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of BEIR folders")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--train-limit", type=int, default=1500)
    parser.add_argument("--home", type=Path, default=Path(".nvr"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gain.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": describe(torch.get_num_threads()), "metric": METRIC}
    found |= {"train_limit": options.train_limit, "rows": []}
    for name in options.sets:
        found["rows"].append(run(options.data / name, options.home, options.train_limit))
        print(json.dumps(found["rows"][-1]), flush=True)
        write_json(options.out, found)


if __name__ == "__main__":
    main()
