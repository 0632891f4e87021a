"""Given vectors: joined by id, checked, used as they are."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nv_retriever.data.build import write_dataset
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.build import write_embeddings
from nv_retriever.embedding.shards import Vectors
from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.names import check_place, score_kind, teacher_digest
from nv_retriever.teachers.open import open_embedder


@pytest.fixture
def animals(small_beir, tmp_path):
    (tmp_path / "dataset").mkdir()
    write_dataset(tmp_path / "dataset", DatasetConfig(source=str(small_beir)))
    return Dataset.open(tmp_path / "dataset")


@pytest.fixture
def folder(animals, tmp_path):
    write(tmp_path / "given", animals)
    return tmp_path / "given"


def write(folder, dataset, dim=6, scale=3.0, extra=2, kind="npy", dtype=np.float32):
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for name, ids in (("documents", dataset.document_ids), ("queries", dataset.query_ids)):
        names = [*ids.tolist(), *(f"extra {number}" for number in range(extra))]
        vectors = draw.normal(size=(len(names), dim))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * scale).astype(dtype)
        order = draw.permutation(len(names))
        if kind == "npy":
            np.save(folder / f"{name}.npy", vectors[order])
            (folder / f"{name}.txt").write_text("".join(names[row] + "\n" for row in order))
        else:
            lists = pa.array(
                vectors[order].tolist(), pa.list_(pa.float32(), dim) if kind == "fixed" else pa.list_(pa.float32())
            )
            table = pa.table({"id": [names[row] for row in order], "vector": lists})
            pq.write_table(table, folder / f"{name}.parquet")


def expected(folder, ids, name="documents"):
    names = (folder / f"{name}.txt").read_text().split("\n")
    return np.load(folder / f"{name}.npy")[[names.index(one) for one in ids]].astype(np.float32)


def run(folder, dataset, part="documents", normalize=None):
    embedder = open_embedder(f"vectors:{folder}", EncoderConfig(normalize=normalize))
    out = folder.parent / f"out-{part}-{normalize}"
    return write_embeddings(out, dataset, part, embedder, folder.parent / "vectors"), Vectors.open(out)


def test_vectors_are_joined_by_id_and_used_as_they_are(folder, animals):
    counts, documents = run(folder, animals)
    assert (counts["rows"], counts["dim"], documents.score_kind, counts["encoded"]) == (40, 6, "dot", 0)
    assert np.array_equal(documents.take(range(40)), expected(folder, animals.document_ids))
    _, queries = run(folder, animals, "train")
    ids = animals.query_ids[animals.query_rows("train")]
    assert np.array_equal(queries.take(range(20)), expected(folder, ids, "queries"))


def test_a_byte_order_mark_is_no_part_of_an_id(folder, animals):
    vectors, ids = expected(folder, animals.document_ids), folder / "documents.txt"
    ids.write_text(ids.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert np.array_equal(run(folder, animals)[1].take(range(40)), vectors)


@pytest.mark.parametrize("kind", ["fixed", "list"])
def test_parquet_says_the_same(folder, animals, tmp_path, kind):
    write(tmp_path / "table", animals, kind=kind)
    assert np.array_equal(run(tmp_path / "table", animals)[1].take(range(40)), run(folder, animals)[1].take(range(40)))


@pytest.mark.parametrize(
    ("scale", "normalize", "kind"), [(1, None, "cosine"), (3, None, "dot"), (3, True, "cosine"), (1, False, "dot")]
)
def test_score_kind(animals, tmp_path, scale, normalize, kind):
    write(tmp_path / "given", animals, scale=scale)
    _, vectors = run(tmp_path / "given", animals, normalize=normalize)
    assert vectors.score_kind == kind
    length = 1 if normalize else scale
    np.testing.assert_allclose(np.linalg.norm(vectors.take(range(40)), axis=1), length, rtol=1e-5)


def test_half_precision_is_read(animals, tmp_path):
    write(tmp_path / "given", animals, dtype=np.float16)
    _, vectors = run(tmp_path / "given", animals)
    assert np.array_equal(vectors.take(range(40)), expected(tmp_path / "given", animals.document_ids))


def test_vectors_that_are_not_finite_are_quarantined(folder, animals):
    array = np.load(folder / "documents.npy")
    names = (folder / "documents.txt").read_text().split("\n")
    array[names.index(animals.document_ids[5])] = np.nan
    np.save(folder / "documents.npy", array)
    counts, vectors = run(folder, animals)
    assert counts["quarantined"] == 1 and vectors.quarantined.tolist() == [5]


def damage_ids(folder):
    lines = (folder / "documents.txt").read_text().split("\n")
    (folder / "documents.txt").write_text("\n".join(["someone", *lines[1:]]))


def repeat_id(folder):
    lines = (folder / "documents.txt").read_text().split("\n")
    (folder / "documents.txt").write_text("\n".join([lines[1], *lines[1:]]))


def archive(folder):
    with (folder / "documents.npy").open("wb") as file:
        np.savez(file, np.ones((42, 6)))


def vectors_in_parquet(column):
    def put(folder):
        pq.write_table(
            pa.table({"id": [str(row) for row in range(len(column))], "vector": column}), folder / "documents.parquet"
        )

    return put


DAMAGES = {
    "no such folder": (lambda f: [path.unlink() for path in f.iterdir()] and f.rmdir(), "no such folder"),
    "no queries": (lambda f: (f / "queries.npy").unlink(), r"queries\.npy"),
    "no ids": (lambda f: (f / "documents.txt").unlink(), r"documents\.txt"),
    "an id is missing": (damage_ids, "a vector for each of the 40 documents, found none for"),
    "an id twice": (repeat_id, r"documents\.npy row 2: expected every id once"),
    "too few ids": (lambda f: (f / "documents.txt").write_text("a\nb\n"), "an id for each of the 42 vectors, found 2 ids"),
    "integers": (lambda f: np.save(f / "documents.npy", np.ones((42, 6), int)), "floats of shape"),
    "flat": (lambda f: np.save(f / "documents.npy", np.ones(42)), "floats of shape"),
    "other length": (lambda f: np.save(f / "queries.npy", np.ones((42, 5), np.float32)), "of one length"),
    "no array": (lambda f: (f / "documents.npy").write_text("hello"), "a .npy array"),
    "objects": (lambda f: np.save(f / "documents.npy", np.array([{}] * 42)), "a .npy array"),
    "archive": (archive, "a .npy array of floats, found an .npz archive"),
    "no numbers": (lambda f: np.save(f / "documents.npy", np.ones((42, 0), np.float32)), "floats of shape"),
    "parquet of numbers": (vectors_in_parquet([1.0] * 42), "a list of floats in each row of `vector`, found double"),
    "parquet of several lengths": (vectors_in_parquet([[1.0], [1.0, 2.0]]), "vectors of one length"),
    "parquet without rows": (vectors_in_parquet(pa.array([], pa.list_(pa.float32()))), "floats of shape"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_wrong_folders_are_explained(folder, animals, damage):
    do, message = DAMAGES[damage]
    do(folder)
    with pytest.raises(InputError, match=message):
        run(folder, animals)


@pytest.mark.parametrize("name", ["documents.npy", "documents.txt", "queries.npy", "queries.txt"])
def test_one_changed_file_is_another_teacher(folder, name):
    teacher = TeacherConfig(name=f"vectors:{folder}")
    before = teacher_digest(teacher)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert teacher_digest(teacher) != before


def test_a_folder_below_the_users_home_is_found_wherever_it_is_named(folder, monkeypatch):
    """`vectors:~/folder` passed the first check, which expands it, and no other one."""
    monkeypatch.setenv("HOME", str(folder.parent))
    teacher = TeacherConfig(name=f"vectors:~/{folder.name}")
    check_place(teacher)
    assert teacher_digest(teacher) == teacher_digest(TeacherConfig(name=f"vectors:{folder}"))
    assert score_kind(teacher) == open_embedder(teacher.name, EncoderConfig()).score_kind == "dot"


def test_scaled_vectors_are_another_teacher(folder):
    found = {
        teacher_digest(TeacherConfig(name=f"vectors:{folder}", encoder=EncoderConfig(normalize=normalize)))
        for normalize in (None, True, False)
    }
    assert len(found) == 3
