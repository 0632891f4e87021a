"""Training speed beside SentenceTransformerTrainer: same model, data, batch size, learning rate; alternating processes.

    python benchmarks/training.py --dataset ../shared/data/squad-v1.1-dev --steps 12 --rounds 2 --out benchmarks/results

Every variant trains in a fresh process; the first steps warm up and are not counted. Samples per second of wall time and
of CPU time are printed (the latter survives a busy machine). Both trainers see the same batches in the same order, so that
the losses of every step, which are kept, are one curve beside the other; st-best and ours-32 have the same settings, but
ours masks known positives and takes a repeated passage once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
VARIANTS = {
    "st-default": {"trainer": "st", "batch_size": 8},
    "ours-8": {"trainer": "ours", "batch_size": 8},
    "st-best": {"trainer": "st", "batch_size": 32, "dropout": 0.0, "bf16": True},
    "ours-32": {"trainer": "ours", "batch_size": 32},
}
WARM_UP = 2
LENGTH = 256
"""Tokens of a query or passage, for both sides."""


def prepare(source: Path, folder: Path, negatives: int, limit: int) -> None:
    """Ingest the data set and write triples with BM25's negatives."""
    import bm25s
    import pyarrow as pa
    import pyarrow.parquet as pq

    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig
    from nv_retriever.data.dataset import Dataset

    write_dataset(folder / "dataset", DatasetConfig(source=str(source), on_empty="skip", limit=limit))
    dataset = Dataset.open(folder / "dataset")
    index = bm25s.BM25()
    index.index(bm25s.tokenize(dataset.document_texts(), show_progress=False), show_progress=False)
    train = dataset.positives("train")
    texts = bm25s.tokenize(dataset.query_texts(train.query_rows), show_progress=False)
    found, scores = index.retrieve(texts, k=30, show_progress=False)
    known = {
        (q, d)
        for q, d in zip(dataset.positives().query_rows.tolist(), dataset.positives().document_rows.tolist(), strict=True)
    }
    rows = []
    for i, (query, positive) in enumerate(zip(train.query_rows.tolist(), train.document_rows.tolist(), strict=True)):
        kept = [(d, s) for d, s in zip(found[i].tolist(), scores[i].tolist(), strict=True) if (query, d) not in known]
        for position, (document, score) in enumerate(kept[:negatives]):
            ids = (dataset.query_ids[query], dataset.document_ids[positive], dataset.document_ids[document])
            rows.append(
                {
                    **dict(zip(("query_id", "positive_id", "negative_id"), ids, strict=True)),
                    "position": position,
                    "score": score,
                }
            )
    table = pa.Table.from_pylist(rows)
    scores_column = table["score"].cast(pa.float32())
    table = table.set_column(3, "position", table["position"].cast(pa.int32())).drop(["score"])
    for name, column in (
        ("positive_score", pa.array([50.0] * len(rows), pa.float32())),
        ("negative_score", scores_column),
        ("score_kind", pa.array(["bm25"] * len(rows))),
    ):
        table = table.append_column(name, column)
    (folder / "mining").mkdir(exist_ok=True)
    pq.write_table(table, folder / "mining" / "triples.parquet")


def measure(folder: Path, variant: dict[str, Any], steps: int, threads: int) -> dict[str, Any]:
    """Train for some steps in this process; returns samples/s after the warm-up and all losses."""
    import torch

    torch.set_num_threads(threads)
    losses: list[float] = []
    marks: list[tuple[float, float]] = []

    def on_step(loss: float) -> None:
        losses.append(loss)
        marks.append((time.perf_counter(), time.process_time()))

    (train_ours if variant["trainer"] == "ours" else train_theirs)(folder, variant, steps, on_step)
    wall, cpu = (marks[-1][i] - marks[WARM_UP - 1][i] for i in (0, 1))
    samples = variant["batch_size"] * (len(marks) - WARM_UP)
    return {"wall": samples / wall, "cpu": samples / cpu, "losses": losses}


def train_ours(folder: Path, variant: dict[str, Any], steps: int, on_step: Any) -> None:
    from nv_retriever.config import Runtime
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.training.build import run_training_job
    from nv_retriever.training.config import TrainingConfig
    from nv_retriever.training.job import Mined, TrainingJob

    config = TrainingConfig(
        max_steps=steps,
        epochs=100,
        batch_size=variant["batch_size"],
        log_every=1,
        save_every=10_000,
        warmup_ratio=0.1,
        temperature=0.05,
        query_max_length=LENGTH,
        document_max_length=LENGTH,
    )
    out = Path(tempfile.mkdtemp(dir=folder))
    dataset = Dataset.open(folder / "dataset")
    tell = lambda step, values: on_step(values["loss"])  # noqa: E731
    mined, model = Mined(dataset, "train", folder / "mining"), folder / "student" / "model"
    run_training_job(out, TrainingJob([mined], model, config, seed=0, runtime=Runtime()), tell)
    shutil.rmtree(out)


def train_theirs(folder: Path, variant: dict[str, Any], steps: int, on_step: Any) -> None:
    import numpy as np
    import torch
    from datasets import Dataset as Table
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    from nv_retriever.data.dataset import Dataset
    from nv_retriever.training.batches import BatchOrder
    from nv_retriever.training.samples import read_samples
    from nv_retriever.training.student import set_dropout

    dataset = Dataset.open(folder / "dataset")
    samples = read_samples(dataset, folder / "mining")
    order = BatchOrder([samples.keys], variant["batch_size"], 0)
    rows = np.concatenate([order[step][2] for step in range(order.per_epoch)])
    width = int((samples.offsets[1:] - samples.offsets[:-1]).min())
    columns = {
        "anchor": dataset.query_texts(samples.query_rows[rows]),
        "positive": dataset.document_texts(samples.positive_rows[rows]),
    }
    for j in range(width):
        columns[f"negative_{j}"] = dataset.document_texts(samples.negative_rows[samples.offsets[rows] + j])
    model = SentenceTransformer(str(folder / "student" / "model"), device="cpu")
    model.max_seq_length = LENGTH
    if variant.get("dropout") is not None:
        set_dropout(model, variant["dropout"])
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

    class Tell(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in logs:
                on_step(float(logs["loss"]))

    out = tempfile.mkdtemp(dir=folder)
    arguments = SentenceTransformerTrainingArguments(
        out,
        max_steps=steps,
        per_device_train_batch_size=variant["batch_size"],
        use_cpu=True,
        bf16=bool(variant.get("bf16")) and fast,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        warmup_steps=int(0.1 * steps),
        weight_decay=0.01,
        batch_sampler=lambda data, batch_size, drop_last, **_: DefaultBatchSampler(
            range(len(data)), batch_size=batch_size, drop_last=drop_last
        ),
    )
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=Table.from_dict(columns), loss=loss, callbacks=[Tell()]
    )
    trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a BEIR folder with a train split")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--limit", type=int, default=2000, help="queries of each split")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--work", type=Path, default=None, help="folder for the prepared data; kept")
    parser.add_argument("--out", type=Path, default=None, help="folder for training.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    if arguments.measure:
        print(json.dumps(measure(work, VARIANTS[arguments.measure], arguments.steps, arguments.threads)))
        return
    if not (work / "student").exists():
        from nv_retriever.training.build import write_student
        from nv_retriever.training.config import StudentConfig

        (work / "dataset").mkdir(parents=True, exist_ok=True)
        prepare(arguments.dataset, work, arguments.negatives, arguments.limit)
        write_student(work / "student", StudentConfig(layers=arguments.layers))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arguments.variants}
    passed = [f"--{name}={getattr(arguments, name)}" for name in ("steps", "threads", "dataset")]
    for _ in range(arguments.rounds):
        for name in arguments.variants:
            command = [sys.executable, __file__, "--measure", name, "--work", str(work), *passed]
            environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, {key: round(found[name][-1][key], 2) for key in ("wall", "cpu")}, flush=True)
    report(found, arguments)


def report(found: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in ("wall", "cpu")} for name, runs in found.items()
    }
    ratios = {}
    for ours, theirs in (("ours-8", "st-default"), ("ours-32", "st-default"), ("ours-32", "st-best")):
        if ours in medians and theirs in medians:
            ratios[f"{ours} / {theirs}"] = {key: medians[ours][key] / medians[theirs][key] for key in ("wall", "cpu")}
    for name, values in ratios.items():
        print(f"{name}: {values['wall']:.2f} x wall, {values['cpu']:.2f} x CPU")
    curves = [found[name][0]["losses"] for name in ("ours-32", "st-best") if name in found]
    if len(curves) == 2:
        for ours, theirs in zip(*curves, strict=True):
            print(f"loss of a step: ours-32 {ours:.4f}, st-best {theirs:.4f}")
    if arguments.out:
        import torch

        result = {
            "command": " ".join(sys.argv),
            "machine": describe(arguments.threads) | {"torch": torch.__version__},
            "samples_per_second": medians,
            "ratios": ratios,
            "runs": found,
        }
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "training.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
