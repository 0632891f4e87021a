"""The embed stage: every text once, one changed thing at a time, kills, quarantine, and no torch where nothing is new."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hashing_embedder import HashingEmbedder, hashed_vector

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.embedding.shards import Vectors
from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder

HERE = Path(__file__).resolve().parent


def embed(dataset, embedder, home, part="documents"):
    folder = home / f"out-{part}-{len(list(home.glob('out-*')))}"
    counts = write_embeddings(folder, dataset, part, embedder, home / "vectors")
    return counts, Vectors.open(folder)


def ingest(source, folder):
    folder.mkdir(parents=True)
    write_dataset(folder, DatasetConfig(source=str(source)))
    return Dataset.open(folder)


def test_vectors_are_the_texts_in_row_order(animals, tmp_path):
    counts, vectors = embed(animals, HashingEmbedder(), tmp_path)
    assert (counts["rows"], counts["encoded"], counts["reused"], counts["quarantined"]) == (40, 40, 0, 0)
    assert np.array_equal(vectors.take(range(40)), np.stack([hashed_vector(text) for text in animals.document_texts()]))
    counts, vectors = embed(animals, HashingEmbedder(), tmp_path, "train")
    texts = animals.query_texts(animals.query_rows("train"))
    assert np.array_equal(vectors.take(range(20)), np.stack([hashed_vector(text) for text in texts]))


def test_a_second_time_embeds_nothing_and_writes_the_same(animals, tmp_path):
    embed(animals, HashingEmbedder(), tmp_path)
    embedder = HashingEmbedder(window_texts=3)
    counts, _ = embed(animals, embedder, tmp_path)
    assert (counts["encoded"], counts["reused"], embedder.seen) == (0, 40, [])
    for name in ("vectors-00000.npy", "embeddings.json"):
        first, second = ((tmp_path / f"out-documents-{number}" / name).read_bytes() for number in (0, 1))
        assert first == second


def test_equal_texts_are_embedded_once(small_beir, tmp_path):
    lines = (small_beir / "corpus.jsonl").read_text().splitlines()
    again = [json.dumps({**json.loads(line), "_id": f"copy-{number}"}) for number, line in enumerate(lines)]
    (small_beir / "corpus.jsonl").write_text("\n".join(lines + again) + "\n")
    dataset = ingest(small_beir, tmp_path / "doubled")
    embedder = HashingEmbedder()
    counts, vectors = embed(dataset, embedder, tmp_path)
    assert (counts["rows"], counts["texts"], counts["encoded"], len(embedder.seen)) == (80, 40, 40, 40)
    assert np.array_equal(vectors.take(range(80)), np.stack([hashed_vector(text) for text in dataset.document_texts()]))


def test_one_changed_document_is_one_text(small_beir, animals, tmp_path):
    embed(animals, HashingEmbedder(), tmp_path)
    lines = (small_beir / "corpus.jsonl").read_text().splitlines()
    lines[7] = json.dumps({**json.loads(lines[7]), "text": "Rewritten."})
    (small_beir / "corpus.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    embedder = HashingEmbedder()
    counts, _ = embed(ingest(small_beir, tmp_path / "changed"), embedder, tmp_path)
    assert (counts["encoded"], len(embedder.seen)) == (1, 1) and "Rewritten." in embedder.seen[0]


def test_order_of_input_and_windows_change_nothing(small_beir, animals, tmp_path):
    _, first = embed(animals, HashingEmbedder(), tmp_path)
    lines = (small_beir / "corpus.jsonl").read_text().splitlines()
    (small_beir / "corpus.jsonl").write_text("\n".join(sorted(lines, reverse=True)) + "\n")
    _, second = embed(ingest(small_beir, tmp_path / "shuffled"), HashingEmbedder(window_texts=100), tmp_path / "other")
    assert np.array_equal(first.take(range(40)), second.take(range(40)))


def test_vectors_that_are_not_finite_are_quarantined_and_tried_again(animals, tmp_path, caplog):
    counts, vectors = embed(animals, HashingEmbedder(poison="Otter"), tmp_path)
    bad = [row for row, text in enumerate(animals.document_texts()) if "Otter" in text]
    assert counts["quarantined"] == len(bad) == 4 and vectors.quarantined.tolist() == bad
    assert "4 texts have vectors of hash that are not finite" in caplog.text
    counts, vectors = embed(animals, HashingEmbedder(), tmp_path)
    assert (counts["encoded"], counts["quarantined"]) == (4, 0)


def test_all_vectors_are_bad(animals, tmp_path):
    counts, vectors = embed(animals, HashingEmbedder(poison="e"), tmp_path)
    assert (counts["quarantined"], vectors.n, vectors.dim) == (40, 40, 8)


def test_a_damaged_shard_is_embedded_again(animals, tmp_path):
    embed(animals, HashingEmbedder(), tmp_path)
    shard = next((tmp_path / "vectors").rglob("*.vectors.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 64
    shard.write_bytes(content)
    embedder = HashingEmbedder()
    counts, vectors = embed(animals, embedder, tmp_path)
    assert 0 < counts["encoded"] == len(embedder.seen) <= 7
    assert np.array_equal(vectors.take(range(40)), np.stack([hashed_vector(text) for text in animals.document_texts()]))


def test_a_kill_loses_at_most_one_window(small_beir, animals, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from hashing_embedder import HashingEmbedder\n"
        "from nv_retriever.data.dataset import Dataset\n"
        "from nv_retriever.embedding.build import write_embeddings\n"
        "class Stopping(HashingEmbedder):\n"
        "    def encode_windows(self, windows, role, precision):\n"
        "        for number, vectors in enumerate(super().encode_windows(windows, role, precision)):\n"
        "            if number == 3:\n"
        "                print('middle', flush=True); sys.stdin.read()\n"
        "            yield vectors\n"
        "home = Path(sys.argv[3])\n"
        "write_embeddings(home / 'killed', Dataset.open(sys.argv[2]), 'documents', Stopping(), home / 'vectors')\n"
    )
    arguments = [sys.executable, "-c", code, str(HERE), str(animals.folder), str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "middle"
        os.kill(process.pid, signal.SIGKILL)
    embedder = HashingEmbedder()
    counts = write_embeddings(tmp_path / "killed", animals, "documents", embedder, tmp_path / "vectors")
    assert counts["encoded"] == len(embedder.seen) == 40 - 3 * 7, "three windows of seven were committed"
    found = Vectors.open(tmp_path / "killed").take(range(40))
    assert np.array_equal(found, np.stack([hashed_vector(text) for text in animals.document_texts()]))


def test_one_changed_setting_embeds_what_it_concerns(animals, small_encoder, tmp_path):
    def encoded(folder=small_encoder, **setting):
        encoder = open_encoder(EncoderConfig(model=str(folder), **{"precision": "fp32", **setting}))
        return tuple(embed(animals, encoder, tmp_path, part)[0]["encoded"] for part in ("documents", "train"))

    assert encoded() == (40, 20)
    assert encoded() == (0, 0)
    assert encoded(query_prompt="query: ") == (0, 20)
    assert encoded(document_prompt="passage: ") == (40, 0)
    assert encoded(query_max_length=9) == (0, 20)
    assert encoded(document_max_length=9) == (40, 0)
    assert encoded(pooling="cls") == (40, 20)
    assert encoded(normalize=False) == (40, 20)
    assert encoded(precision="bf16") == (40, 20)
    moved = shutil.copytree(small_encoder, tmp_path / "moved")
    assert encoded(moved) == (0, 0), "a copied model is the same model"
    config = moved / "tokenizer_config.json"
    config.write_text(config.read_text().replace("{", '{"strip_accents": true, ', 1))
    assert encoded(moved) == (40, 20)


def test_vectors_equal_direct_encoding(animals, small_encoder, tmp_path):
    encoder = open_encoder(EncoderConfig(model=str(small_encoder), precision="fp32"))
    counts, vectors = embed(animals, encoder, tmp_path)
    assert np.array_equal(vectors.take(range(40)), encoder.encode_documents(animals.document_texts()))
    assert (counts["precision"], vectors.info["model"], vectors.score_kind) == ("fp32", str(small_encoder), "cosine")


def test_no_torch_where_nothing_is_new(animals, small_encoder, tmp_path):
    config = EncoderConfig(model=str(small_encoder))
    embed(animals, open_encoder(config), tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from nv_retriever.data.dataset import Dataset\n"
        "from nv_retriever.embedding.build import write_embeddings\n"
        "from nv_retriever.teachers.config import EncoderConfig\n"
        "from nv_retriever.teachers.open import open_embedder\n"
        "home = Path(sys.argv[3])\n"
        "encoder = open_embedder(sys.argv[1], EncoderConfig())\n"
        "counts = write_embeddings(home / 'again', Dataset.open(sys.argv[2]), 'documents', encoder, home / 'vectors')\n"
        "print(counts['encoded'], *{'torch', 'transformers', 'tokenizers', 'sentence_transformers'} & set(sys.modules))\n"
    )
    arguments = [sys.executable, "-c", code, str(small_encoder), str(animals.folder), str(tmp_path)]
    found = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["0"], found.stderr


def test_an_unknown_split(animals, tmp_path):
    with pytest.raises(InputError, match="split"):
        embed(animals, HashingEmbedder(), tmp_path, "nowhere")
