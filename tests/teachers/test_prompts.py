"""The prompts of a folder: the installed sentence-transformers is asked what it puts before a query and a document."""

import json
import logging

import numpy as np
import pytest
from tiny_models import TEXTS, write_encoder

from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder

QUERY, DOCUMENT, PASSAGE, CORPUS, ANY = "query : ", "the old ", "passage : ", "a river ", "dog dog "
ALL = {"query": QUERY, "document": DOCUMENT, "passage": PASSAGE, "corpus": CORPUS, "any": ANY}
FOLDERS = [
    ({}, None),
    ({"query": QUERY}, None),
    ({"query": QUERY}, "query"),
    ({"query": QUERY}, "document"),
    ({"query": QUERY, "document": DOCUMENT}, None),
    ({"query": QUERY, "passage": PASSAGE}, None),
    ({"query": QUERY, "passage": PASSAGE}, "passage"),
    ({"query": "", "passage": PASSAGE, "document": ""}, "passage"),
    ({"query": QUERY, "passage": PASSAGE, "document": DOCUMENT}, "query"),
    ({"query": QUERY, "corpus": CORPUS}, None),
    ({"passage": "", "corpus": CORPUS}, "corpus"),
    ({"any": ANY}, None),
    ({"any": ANY}, "any"),
    ({"any": ANY, "query": ""}, "any"),
    ({"any": ANY, "document": ""}, "any"),
    ({"any": ANY, "query": None, "document": None}, "any"),
    (ALL, None),
    (ALL, "any"),
]


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "model", seed=3)


def say(folder, prompts, default):
    path = folder / "config_sentence_transformers.json"
    changes = {"prompts": prompts, "default_prompt_name": default}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("modules", [("own loop"), ("sentence-transformers")])
def test_prompts_are_those_of_sentence_transformers(folder, modules):
    from sentence_transformers import SentenceTransformer

    if modules == "sentence-transformers":
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": True}))
    config = EncoderConfig(model=str(folder), precision="fp32")
    for prompts, default in FOLDERS:
        say(folder, prompts, default)
        ours, theirs = open_encoder(config), SentenceTransformer(str(folder), device="cpu")
        said = f"{prompts} {default}"
        assert (ours.identity.backend == "transformers") == (modules == "own loop")
        np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=2e-5, err_msg=said)
        np.testing.assert_allclose(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS), atol=2e-5, err_msg=said)


def test_no_two_prompts_give_the_same_vectors(folder):
    found = [
        open_encoder(EncoderConfig(model=str(folder), precision="fp32", document_prompt=prompt)).encode_documents(TEXTS[:1])
        for prompt in ("", *ALL.values())
    ]
    cosines = np.concatenate(found) @ np.concatenate(found).T
    assert np.sort(np.triu(cosines, 1), axis=None)[-1] < 0.999


@pytest.mark.parametrize(
    ("prompts", "default", "settings", "warned"),
    [
        ({"query": QUERY, "passage": PASSAGE}, None, {}, "passage"),
        ({"any": ANY}, "any", {}, "any"),
        ({"query": QUERY, "passage": PASSAGE}, None, {"document_prompt": ""}, None),
        ({"query": QUERY, "passage": PASSAGE, "document": DOCUMENT}, None, {}, None),
        ({"query": QUERY, "passage": ""}, None, {}, None),
    ],
)
def test_a_prompt_of_documents_that_is_put_before_none_is_said(folder, caplog, prompts, default, settings, warned):
    say(folder, prompts, default)
    with caplog.at_level(logging.WARNING, "nv_retriever"):
        open_encoder(EncoderConfig(model=str(folder), **settings))
    assert [warned] * (warned is not None) == [record.args[0] for record in caplog.records]
