"""Parts that workers embed: whatever the ranges, and however often they are done, the artifact is the same."""

import json
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.embedding.parts import embed_rows, plan_parts
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder


def vectors_of(folder):
    return [path.read_bytes() for path in sorted(folder.glob("vectors-*.npy"))]


def together(dataset, part, embedder, home):
    counts = write_embeddings(home / part, dataset, part, embedder, home / "vectors")
    return counts, vectors_of(home / part)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(1, 50), again=st.lists(st.integers(0, 49)), part=st.sampled_from(["documents", "train"]))
def test_any_ranges_in_any_order_embed_everything_once(animals, tmp_path_factory, most, again, part):
    alone = together(animals, part, HashingEmbedder(), tmp_path_factory.mktemp("alone"))[1]
    home, embedder = tmp_path_factory.mktemp("parts"), HashingEmbedder()
    plan = plan_parts(animals, part, embedder, home / "vectors", most)
    assert len(plan.ranges) <= most and plan.known == 0
    repeated = [plan.ranges[number] for number in again if number < len(plan.ranges)]
    for start, stop in [*reversed(plan.ranges), *repeated]:
        embed_rows(animals, part, embedder, home / "vectors", plan.precision, start, stop)
    assert len(embedder.seen) == len(set(embedder.seen))
    assert plan_parts(animals, part, embedder, home / "vectors", most).ranges == []
    counts, vectors = together(animals, part, embedder, home)
    assert counts["encoded"] == 0 and vectors == alone


def test_only_what_is_new_is_divided(small_beir, animals, tmp_path):
    together(animals, "documents", HashingEmbedder(), tmp_path)
    path = small_beir / "corpus.jsonl"
    lines = path.read_text().splitlines()
    for row in (3, 30, 31):
        lines[row] = json.dumps({**json.loads(lines[row]), "text": f"Rewritten {row}."})
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "changed").mkdir()
    write_dataset(tmp_path / "changed", DatasetConfig(source=str(small_beir)))
    changed, embedder = Dataset.open(tmp_path / "changed"), HashingEmbedder()
    plan = plan_parts(changed, "documents", embedder, tmp_path / "vectors", 2)
    assert len(plan.ranges) == 2 and plan.known == 37
    done = [embed_rows(changed, "documents", embedder, tmp_path / "vectors", plan.precision, *rows) for rows in plan.ranges]
    assert sum(done) == 3 == len(embedder.seen)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_an_encoder_gives_the_same_vectors_in_parts(animals, small_encoder, tmp_path, precision):
    def encoder():
        return open_encoder(EncoderConfig(model=str(small_encoder), precision=precision))

    whole, vectors = together(animals, "documents", encoder(), tmp_path / "whole")
    plan = plan_parts(animals, "documents", encoder(), tmp_path / "parts" / "vectors", 3)
    assert plan.precision == whole["precision"]
    for start, stop in plan.ranges:
        embed_rows(animals, "documents", encoder(), Path(tmp_path / "parts" / "vectors"), plan.precision, start, stop)
    counts, in_parts = together(animals, "documents", encoder(), tmp_path / "parts")
    assert counts["encoded"] == 0
    if plan.precision == "fp32":
        assert in_parts == vectors
