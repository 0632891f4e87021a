"""Classification, clustering and similarity sets as contrastive samples (NV-Embed's rules, arXiv 2405.17428 section 4.2).

A text of a class: the positive is another text of the class, the negatives are texts of other classes; clusters are classes.
A pair of similar texts (score >= 4 of 5): two samples, one a direction; their negatives are other texts of the set.
Everything is drawn from (seed, text), so the samples do not depend on the order of the input.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.files import write_aside, write_json


@dataclass(frozen=True)
class ContrastiveSample:
    """A query, its positive, and its negatives, as texts."""

    query: str
    positive: str
    negatives: tuple[str, ...]


def class_samples(
    texts: Sequence[str], labels: Sequence[str], negatives: int, seed: int, limit: int | None = None
) -> list[ContrastiveSample]:
    """Return a sample for each text whose class has another text, of at most `limit` texts (chosen by their hashes).

    Raises InputError for fewer than two classes.
    """
    classes: dict[str, list[str]] = {}
    for text, label in sorted(set(zip(texts, labels, strict=True))):
        classes.setdefault(label, []).append(text)
    if len(classes) < 2:
        raise InputError("labelled texts", "at least two classes", str(len(classes)))
    every = sorted({text for group in classes.values() for text in group})
    wanted = every if limit is None or limit >= len(every) else sorted(every, key=text_id)[:limit]
    chosen = set(wanted)
    samples = []
    for label, group in sorted(classes.items()):
        inside = set(group)
        others = [text for text in every if text not in inside]
        for place, text in enumerate(group):
            if text in chosen and len(group) > 1 and others:
                random = _random(seed, label, text)
                drawn = random.choice(len(others), min(negatives, len(others)), replace=False)
                other = int(random.integers(len(group) - 1))
                positive = group[other + (other >= place)]
                samples.append(ContrastiveSample(text, positive, tuple(others[i] for i in drawn)))
    return samples


def similarity_samples(
    pairs: Iterable[tuple[str, str, float]], negatives: int, seed: int, threshold: float = 4.0
) -> list[ContrastiveSample]:
    """Return two samples, one a direction, for each pair that scores at least `threshold`.

    A text that any pair of the set joins with the query at or above the threshold is none of its negatives.
    """
    rows = sorted(set(pairs))
    every = sorted({text for a, b, _ in rows for text in (a, b)})
    place = {text: number for number, text in enumerate(every)}
    similar: dict[str, set[str]] = {text: {text} for text in every}
    for a, b, score in rows:
        if score >= threshold:
            similar[a].add(b)
            similar[b].add(a)
    samples = []
    for a, b, score in rows:
        if score < threshold or a == b:
            continue
        for query, positive in ((a, b), (b, a)):
            barred = sorted(place[text] for text in similar[query] | similar[positive])
            others = len(every) - len(barred)
            drawn = _random(seed, query, positive).choice(others, min(negatives, others), replace=False)
            samples.append(ContrastiveSample(query, positive, tuple(every[_skip(int(i), barred)] for i in drawn)))
    return samples


def _skip(number: int, barred: list[int]) -> int:
    """Return the place of the text of this number, counted without those at the barred places (ascending)."""
    for place in barred:
        number += place <= number
    return number


def write_beir(folder: Path, samples: Sequence[ContrastiveSample]) -> None:
    """Write the samples as a BEIR folder whose train labels are the positives, ready for ingestion."""
    documents = sorted({text for sample in samples for text in (sample.positive, *sample.negatives)})
    queries = sorted({sample.query for sample in samples})
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, texts, extra in (("corpus", documents, {"title": ""}), ("queries", queries, {})):
        with write_aside(folder / f"{name}.jsonl") as aside, aside.open("w", encoding="utf-8") as file:
            for text in texts:
                file.write(json.dumps({"_id": text_id(text), **extra, "text": text}, ensure_ascii=False) + "\n")
    labels = sorted({(text_id(sample.query), text_id(sample.positive)) for sample in samples})
    with write_aside(folder / "qrels" / "train.tsv") as aside:
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in labels)]
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_labelled_mining(
    folder: Path, dataset: Dataset, samples: Sequence[ContrastiveSample], run_id: str
) -> dict[str, int]:
    """Write the samples as a mining artifact (teacher `labels`, no scores), as if a miner had found them."""
    known = set(dataset.document_ids.tolist())
    rows = []
    for sample in sorted(samples, key=lambda s: (text_id(s.query), text_id(s.positive))):
        ids = [text_id(text) for text in sample.negatives]
        for position, negative in enumerate(negative for negative in ids if negative in known):
            rows.append((text_id(sample.query), text_id(sample.positive), negative, position))
    n = len(rows)
    columns = {
        "run_id": pa.array([run_id] * n, pa.string()),
        "query_id": pa.array([row[0] for row in rows], pa.string()),
        "positive_id": pa.array([row[1] for row in rows], pa.string()),
        "negative_id": pa.array([row[2] for row in rows], pa.string()),
        "position": pa.array([row[3] for row in rows], pa.int32()),
        "teacher": pa.array(["labels"] * n, pa.string()),
        "rank": pa.nulls(n, pa.int64()),
        "positive_score": pa.array(np.full(n, np.nan, np.float32)),
        "negative_score": pa.array(np.full(n, np.nan, np.float32)),
        "score_kind": pa.array(["labels"] * n, pa.string()),
        "limit_score": pa.nulls(n, pa.float32()),
        "reason": pa.array(["other class"] * n, pa.string()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with write_aside(folder / "triples.parquet") as aside:
        pq.write_table(pa.table(columns), aside)
    counts = {"triples": n, "samples": len(samples)}
    write_json(folder / "run.json", {"run_id": run_id, "rule": "labels", "dataset": dataset.name, **counts})
    return counts


def text_id(text: str) -> str:
    """Return a text's id: the first 16 hex digits of its hash."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _random(seed: int, *texts: str) -> np.random.Generator:
    digest = hashlib.blake2b("\0".join((str(seed), *texts)).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def write_labelled(folder: Path, samples: Sequence[ContrastiveSample], run_id: str) -> dict[str, int]:
    """Write the samples as a data set (`dataset/`) beside its mining artifact: what a blended training reads."""
    from nv_retriever.data.build import write_dataset
    from nv_retriever.data.config import DatasetConfig

    source = folder / "labelled"
    write_beir(source, samples)
    (folder / "dataset").mkdir(exist_ok=True)
    write_dataset(folder / "dataset", DatasetConfig(source=str(source)))
    shutil.rmtree(source)
    return write_labelled_mining(folder, Dataset.open(folder / "dataset"), samples, run_id)
