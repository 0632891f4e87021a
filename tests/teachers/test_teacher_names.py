"""Teachers' names say their kind, incomplete ones are explained, and opening one gives what its kind promises."""

import pytest

from nv_retriever.errors import InputError
from nv_retriever.teachers.config import BM25Config, EncoderConfig, TeacherConfig
from nv_retriever.teachers.endpoint import EndpointEmbedder
from nv_retriever.teachers.names import check_teacher, endpoint_parts, target, teacher_digest
from nv_retriever.teachers.open import open_embedder, open_scorer

NAMES = {
    "minilm": "encoder",
    "intfloat/e5-large-v2": "encoder",
    "./folder/model": "encoder",
    "bm25": "bm25",
    "cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2": "cross-encoder",
    "endpoint:http://127.0.0.1:8000/v1#BAAI/bge-m3": "endpoint",
    "endpoint:https://api.example.org/v1#text-embedding-3-small": "endpoint",
    "vectors:folder": "vectors",
}


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_names_say_the_kind(name, kind):
    teacher = TeacherConfig(name=name)
    check_teacher(teacher)
    assert (teacher.kind, teacher.name) == (kind, name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "bm25:x",
        "cross-encoder:",
        "vectors:",
        "endpoint:",
        "endpoint:http://h/v1",
        "endpoint:h#m",
        "endpoint:http://h#",
        "endpoint:http://[::1#m",
        "endpoint:http://#m",
    ],
)
def test_incomplete_names_are_explained(name):
    with pytest.raises(InputError, match="teacher"):
        check_teacher(TeacherConfig(name=name))


def test_a_password_in_a_url_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="without a password") as error:
        check_teacher(TeacherConfig(name="endpoint:http://user:secret@h/v1#m"))
    assert "secret" not in str(error.value)


def test_parts():
    assert endpoint_parts(TeacherConfig(name="endpoint:http://h:1/v1#org/m")) == ("http://h:1/v1", "org/m")
    assert target(TeacherConfig(name="cross-encoder:a/b")) == "a/b"


def test_bm25_is_identified_by_its_settings():
    changes = [{}, {"k1": 1.2}, {"b": 0.75}, {"stemmer": None}, {"stopwords": None}]
    found = {teacher_digest(TeacherConfig(name="bm25", bm25=BM25Config(**change))) for change in changes}
    assert len(found) == len(changes)


def test_open_embedder_by_kind(tiny_encoder):
    assert open_embedder(str(tiny_encoder), EncoderConfig()).score_kind == "cosine"
    assert open_embedder("", EncoderConfig(), tiny_encoder).label == "model"
    assert isinstance(open_embedder("endpoint:http://127.0.0.1:9/v1#m", EncoderConfig()), EndpointEmbedder)
    for name in ("bm25", "cross-encoder:x/y"):
        with pytest.raises(InputError, match="scores texts directly"):
            open_embedder(name, EncoderConfig())


def test_dense_teachers_score_with_embeddings_only():
    with pytest.raises(InputError, match="embeddings of its documents and queries"):
        open_scorer(TeacherConfig(), None, "train")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(
            ("./models/mini/", "mini"),
            ("/a/b/mini", "mini"),
            ("org/mini", "org/mini"),
            ("./mini", "mini"),
            ("~/mini", "mini"),
        ),
        *(("cross-encoder:/a/b", "cross-encoder:b"), ("cross-encoder:org/b", "cross-encoder:org/b"), ("bm25", "bm25")),
        *(("vectors:./a/b", "vectors:b"), ("endpoint:http://h/v1#./m", "endpoint:http://h/v1#./m")),
    ],
)
def test_a_folder_is_called_by_its_last_part(name, label):
    assert TeacherConfig(name=name).label == label
