"""Tokens per second of our encoder beside SentenceTransformer.encode, in one process, in alternating rounds.

    python benchmarks/encoding.py [--texts 640] [--rounds 3] [--model minilm] [--out benchmarks/results/encoding.json]

Compared are SentenceTransformer.encode with its defaults (fp32, batch size 32), its best bf16 setting, our encoder in fp32
and bf16. Tokens are counted without padding; tokenising is part of every time. Fidelity is the cosine to the vectors of
the defaults. The matrix-product peak of each precision is measured in the same process, by a square product. A bf16 that
the hardware emulates would take hours and is left out; the result says so.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe
from nv_retriever.config import Runtime
from nv_retriever.hardware import device_kind, fast_bf16
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder


def embedded_texts(limit: int) -> list[str]:
    """Docstrings of the standard library: real text of mixed length on every machine."""
    import importlib
    import inspect
    import sys

    texts = set()
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in ("antigravity", "this", "idlelib", "turtledemo"):
            continue
        try:
            members = inspect.getmembers(importlib.import_module(name))
        except Exception:
            continue
        texts |= {doc.strip() for _, value in members if (doc := inspect.getdoc(value)) and len(doc) > 40}
    ordered = sorted(texts)
    np.random.default_rng(0).shuffle(ordered)
    return ordered[:limit]


def peak_flops(dtype: torch.dtype, device: str, seconds: float = 1.0) -> float:
    """Return the best rate (FLOP/s) of a square product."""
    n = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end or best == 0:
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def flops_of(config: Any, lengths: np.ndarray) -> float:
    """Return the products of a BERT forward pass over texts of these lengths, without padding."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    per_token = 2 * (4 * width * width + 2 * width * inner)
    return float(layers * (per_token * lengths.sum() + 4 * width * (lengths.astype(np.float64) ** 2).sum()))


def contenders(args: argparse.Namespace, device: str) -> dict[str, Any]:
    from sentence_transformers import SentenceTransformer

    runtime = Runtime(device=device, batch_tokens=args.batch_tokens)
    ours = open_encoder(EncoderConfig(model=args.model, precision="fp32"), runtime=runtime)
    path = str(ours.files.path)
    default = SentenceTransformer(path, device=device)
    found: dict[str, Any] = {
        "sentence-transformers, defaults (fp32, batch 32)": lambda texts: default.encode(texts, show_progress_bar=False),
        "sentence-transformers, fp32, batch 8": lambda texts: default.encode(texts, batch_size=8, show_progress_bar=False),
        "nv-retriever fp32": ours.encode_documents,
    }
    if fast_bf16(device_kind(runtime)):
        half = SentenceTransformer(path, device=device, model_kwargs={"dtype": torch.bfloat16})
        for size in (16, 32, 128):
            found[f"sentence-transformers, bf16, batch {size}"] = lambda texts, size=size: half.encode(
                texts, batch_size=size, show_progress_bar=False, convert_to_tensor=True
            ).float().cpu().numpy()  # fmt: skip
        fast = open_encoder(EncoderConfig(model=args.model, precision="bf16"), runtime=runtime)
        found["nv-retriever bf16"] = fast.encode_documents
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from transformers import AutoConfig

    device = device_kind(Runtime())
    texts = embedded_texts(args.texts)
    probe = open_encoder(EncoderConfig(model=args.model, precision="fp32"))
    lengths = np.array([len(ids) for ids in probe._loop("fp32").tokens(texts, "document")])
    work = flops_of(AutoConfig.from_pretrained(str(probe.files.transformer)), lengths)
    systems = contenders(args, device)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    vectors: dict[str, np.ndarray] = {}
    for name, encode in systems.items():
        vectors[name] = encode(texts[:64])
    for round_number in range(args.rounds):
        for name, encode in systems.items():
            start = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - start)
            rate = lengths.sum() / seconds[name][-1]
            print(f"round {round_number + 1}  {name:52} {rate:10,.0f} tokens/s", flush=True)
    peaks = {"fp32": peak_flops(torch.float32, device)}
    if fast_bf16(device):
        peaks["bf16"] = peak_flops(torch.bfloat16, device)
    return report(args, systems, seconds, vectors, lengths, work, peaks, device)


def report(
    args: argparse.Namespace, systems: dict[str, Any], seconds: dict[str, list[float]], vectors: dict[str, Any],
    lengths: np.ndarray, work: float, peaks: dict[str, float], device: str,
) -> dict[str, Any]:  # fmt: skip
    first = next(iter(systems))
    base = vectors[first] / np.linalg.norm(vectors[first], axis=1, keepdims=True)
    rows = []
    for name in systems:
        found = vectors[name] / np.linalg.norm(vectors[name], axis=1, keepdims=True)
        cosines = (found.astype(np.float64) * base).sum(1)
        best = min(seconds[name])
        # Rounds alternate, so that the ratio of a round is fair even where the machine is busy.
        ratios = np.array(seconds[first]) / np.array(seconds[name])
        peak = peaks["bf16" if "bf16" in name else "fp32"]
        rows.append(
            {
                "system": name,
                "tokens_per_second": round(float(lengths.sum() / best)),
                "times_default_median": round(float(np.median(ratios)), 2),
                "times_default_range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
                "gflops": round(work / best / 1e9, 1),
                "share_of_peak": round(work / best / peak, 3),
                "mean_cosine": round(float(cosines.mean()), 7),
                "min_cosine": round(float(cosines.min()), 7),
            }
        )
    return {
        "model": args.model,
        "texts": len(lengths),
        "tokens": int(lengths.sum()),
        "token_lengths_p5_p50_p95": np.percentile(lengths, [5, 50, 95]).tolist(),
        "machine": {
            **describe(torch.get_num_threads()),
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "fast_bf16": fast_bf16(device),
            "torch": torch.__version__,
        },
        "peak_gflops": {name: round(value / 1e9, 1) for name, value in peaks.items()},
        "rounds": args.rounds,
        "results": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "encoding.json")
    args = parser.parse_args()
    result = measure(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{'system':52} {'tokens/s':>10} {'x default':>10} {'of peak':>8} {'mean cos':>10} {'min cos':>10}")
    for row in result["results"]:
        numbers = (
            row["tokens_per_second"],
            row["times_default_median"],
            row["share_of_peak"],
            row["mean_cosine"],
            row["min_cosine"],
        )
        print(
            f"{row['system']:52} {numbers[0]:10,} {numbers[1]:10.2f} {numbers[2]:8.1%} {numbers[3]:10.6f} {numbers[4]:10.6f}"
        )
    if not result["machine"]["fast_bf16"]:
        print("bf16 was left out: this processor emulates it")


if __name__ == "__main__":
    main()
