"""Selection alone, over stored candidates: (query, positive) samples per second on one core, beside sentence-transformers'.

    OMP_NUM_THREADS=1 python benchmarks/selection.py [--samples 200000] [--candidates 100]
                                                     [--out benchmarks/results/selection.json]

Both get the same sorted candidates and positive scores in memory, and both are timed from there to the arrays of chosen
negatives; the peer's selection step is the code of `mine_hard_negatives` (6.2) between search and output, run verbatim
from the installed package's source, so that its search, its embedding and its text handling are not in the comparison. It
gets a tenth of the samples. Where a score equals a limit, or another score, to the last bit, the two may differ
(docs/mining.md).
"""

import argparse
import inspect
import textwrap
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from nv_retriever.files import write_json
from nv_retriever.mining.miner import Miner
from nv_retriever.mining.randomness import IdKeys
from nv_retriever.mining.rules.parse import parse_rule
from nv_retriever.mining.selection import parse_selection
from nv_retriever.mining.types import MiningPlan, Samples, Teacher

CASES = [
    ("topk", "top(4)", {}),
    ("topk-shift(10)", "top(4)", {"range_min": 10}),
    ("topk-abs(0.7)", "top(4)", {"max_score": 0.7}),
    ("topk-marginpos(0.05)", "top(4)", {"absolute_margin": 0.05}),
    ("topk-percpos(0.95)", "top(4)", {"relative_margin": 0.05}),
    ("topk-percpos(0.95)", "sample(4, of=10)", {"relative_margin": 0.05, "sampling_strategy": "random"}),
    ("topk-percpos(0.95)", "top1+sample(4, of=10)", None),
]


def world(n, k, n_documents=1_000_000, seed=0):
    rng = np.random.default_rng(seed)
    documents = rng.integers(0, n_documents, (n, k), np.int32)
    scores = -np.sort(-rng.uniform(0.3, 0.8, (n, k)).astype(np.float32), axis=1)
    positives = rng.integers(0, n_documents, n).astype(np.int32)
    keys = IdKeys(lambda: map(str, range(n)), lambda: map(str, range(n_documents)))
    assert len(keys.queries) and len(keys.documents)  # hashed once per run, not per sample
    return documents, scores, positives, rng.uniform(0.6, 0.9, n).astype(np.float32), keys, n_documents


def ours(made, rule, selection):
    documents, scores, positives, own, keys, n_documents = made
    parsed = parse_rule(rule)
    limits = parsed.limits(own)
    ended = np.zeros(len(documents), bool)
    teacher = Teacher("t", "cosine", documents, scores, own, own, limits, n_documents, lambda: None, ended)
    samples = Samples(np.arange(len(own), dtype=np.int32), positives)
    plan = MiningPlan(parsed, parse_selection(selection))
    return np.concatenate([choice.documents for _, choice in Miner(samples, [teacher], plan, keys).blocks()])


def peer_source():
    """The peer's own lines, from the removal of positives to the chosen indices."""
    from sentence_transformers.util import hard_negatives

    source = inspect.getsource(hard_negatives.mine_hard_negatives)
    start = source.index("    if not include_positives:\n        # for each query, create a mask")
    stop = source.index('    if verbose:\n        print("Negative candidates mined')
    return compile(textwrap.dedent(source[start:stop]), "sentence_transformers selection", "exec")


def peers(code, made, arguments, wanted=4):
    import random

    import torch

    documents, scores, positives, own, _, _ = made
    n, k = scores.shape
    names = {
        "torch": torch, "random": random, "include_positives": False, "n_queries": n, "range_max": k, "range_min": 0,
        "indices": torch.from_numpy(documents.astype(np.int64)), "scores": torch.from_numpy(scores.copy()),
        "positive_indices": list(torch.from_numpy(positives.astype(np.int64))[:, None]), "n_positives": [1] * n,
        "positive_scores": torch.from_numpy(own), "batch_idx": torch.arange(n).unsqueeze(-1), "log_counters": {},
        "absolute_margin": None, "relative_margin": None, "max_score": None, "min_score": None,
        "num_negatives": wanted, "sampling_strategy": "top", **arguments,
    }  # fmt: skip
    started = time.process_time()
    exec(code, names)
    return time.process_time() - started, names["indices"].numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    made = world(options.samples, options.candidates)
    peer_made = tuple(part[: options.samples // 10] if i < 4 else part for i, part in enumerate(made))
    code, rows = peer_source(), []
    for rule, selection, arguments in CASES:
        best, peer_best, differ = float("inf"), float("inf"), None
        for _ in range(options.rounds):  # interleaved, so that a busy machine hits both
            started = time.process_time()
            chosen = ours(made, rule, selection)
            best = min(best, time.process_time() - started)
            if arguments is not None:
                seconds, theirs = peers(code, peer_made, arguments)
                peer_best = min(peer_best, seconds)
                if selection.startswith("top("):
                    full = (chosen[: len(theirs)] >= 0).all(axis=1)
                    differ = int((chosen[: len(theirs)][full] != theirs[full]).any(axis=1).sum())
        rate, peer_rate = options.samples / best, len(peer_made[3]) / peer_best
        rows.append({"rule": rule, "selection": selection, "samples_per_second": round(rate)})
        rows[-1] |= {"sentence_transformers": round(peer_rate) if arguments is not None else None, "differ": differ}
    if options.out:
        write_json(options.out, {"machine": describe(1), "samples": options.samples, "rows": rows})
    print(f"{'rule':22} {'selection':24} {'ours, samples/s':>16} {'peer':>10} {'ratio':>6}  samples that differ")
    for row in rows:
        peer = row["sentence_transformers"]
        ratio = f"{row['samples_per_second'] / peer:.0f}x" if peer else "-"
        head = f"{row['rule']:22} {row['selection']:24} {row['samples_per_second']:16,}"
        print(f"{head} {peer or 0:10,} {ratio:>6}  {row['differ']}")


if __name__ == "__main__":
    main()
