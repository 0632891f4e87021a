"""The student: what training, evaluation and plain sentence-transformers make of its folder agrees."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import run_training

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.errors import InputError
from nv_retriever.plan.specifications import student_spec
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder
from nv_retriever.training.adapters import add_adapters
from nv_retriever.training.build import write_student
from nv_retriever.training.config import LoraConfig, StudentConfig, TrainingConfig
from nv_retriever.training.student import cosine_student, open_model

TEXTS = ["the cat eats", "an old dog sleeps by the river " * 30]


def agree(model: Path, **settings: Any) -> Any:
    """Return the student's folder, loaded plainly, after a look that it gives the vectors which it is evaluated with."""
    from sentence_transformers import SentenceTransformer

    config = EncoderConfig(model=str(model), precision="fp32", **settings)
    folder = model.parent / "student"
    write_student(folder, StudentConfig(encoder=config))
    plain, ours = SentenceTransformer(str(folder / "model"), device="cpu"), open_encoder(config, folder / "model")
    scaled = {"normalize_embeddings": ours.identity.normalize}
    np.testing.assert_allclose(plain.encode_query(TEXTS, **scaled), ours.encode_queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(plain.encode_document(TEXTS, **scaled), ours.encode_documents(TEXTS), atol=1e-5)
    prompts = {"query": ours.identity.query_prompt, "document": ours.identity.document_prompt}
    assert plain.similarity_fn_name == ours.identity.similarity
    for encoder in (plain, open_model(folder / "model")):
        assert {role: encoder.prompts[role] for role in prompts} == prompts
    return plain


@pytest.mark.parametrize("plain_transformers", [False, True])
def test_a_student_of_a_family_keeps_its_preset(bert: Path, tmp_path: Path, plain_transformers: bool) -> None:
    source = bert.parent / "raw" if plain_transformers else bert
    e5, bge = (shutil.copytree(source, tmp_path / name / name) for name in ("e5-small-v2", "bge-small-en-v1.5"))
    assert agree(e5).prompts["document"] == "passage: "
    student = agree(bge)
    assert student.prompts == {"query": "Represent this sentence for searching relevant passages: ", "document": ""}
    assert student[1].pooling_mode == ("cls" if plain_transformers else "mean")


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "Q: ", "passage": "P: "}, None, ("Q: ", "")),
        ({"query": "Q: ", "corpus": "C: "}, "query", ("Q: ", "")),
        ({"query": "Q: ", "passage": "P: ", "document": ""}, None, ("Q: ", "")),
        ({"any": "A: "}, "any", ("", "")),
        ({"query": "Q: ", "document": "D: "}, "query", ("Q: ", "D: ")),
    ],
)
def test_prompts_are_resolved_once(
    bert: Path, tmp_path: Path, prompts: dict[str, str], default: str | None, expected: tuple[str, str]
) -> None:
    model = shutil.copytree(bert, tmp_path / "model")
    file = model / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": prompts, "default_prompt_name": default}))
    trained = open_model(model).prompts  # what a training of this folder itself takes
    assert (trained["query"], trained["document"]) == expected
    assert (agree(model).prompts["query"], agree(model).prompts["document"]) == expected


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("lengths", [{"query_max_length": 8, "document_max_length": 40}, {"query_max_length": 8}])
def test_queries_and_documents_have_lengths_of_their_own(
    bert: Path, tmp_path: Path, dense: bool, lengths: dict[str, int]
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    encoder = open_model(bert)
    if dense:
        encoder.insert(2, Dense(32, 8))
    encoder.save(str(tmp_path / "model"), create_model_card=False)
    long = agree(tmp_path / "model", **lengths)
    assert tuple(long.tokenize([TEXTS[1]], task=role)["input_ids"].shape[1] for role in ("query", "document")) == (
        8,
        lengths.get("document_max_length", 64),
    )
    again = shutil.copytree(tmp_path / "student" / "model", tmp_path / "again" / "model")
    agree(again)
    agree(again, query_max_length=6, document_max_length=20)
    agree(again, query_max_length=30, document_max_length=30)


@pytest.mark.parametrize("normalize", [None, True, False])
def test_a_student_is_trained_by_the_similarity_it_is_evaluated_by(
    bert: Path, tmp_path: Path, normalize: bool | None
) -> None:
    model = shutil.copytree(bert, tmp_path / "model")
    assert cosine_student(agree(model, normalize=normalize)) == (normalize is not False)


def test_one_specification_means_one_student(bert: Path, tmp_path: Path) -> None:
    """A cosine model without a module Normalize is the same student whether `normalize` is left out or true."""
    model = shutil.copytree(bert, tmp_path / "model")
    modules = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([one for one in modules if not one["type"].endswith("Normalize")]))
    settings = [EncoderConfig(model=str(model), normalize=normalize) for normalize in (None, True)]
    assert len({student_spec(StudentConfig(encoder=encoder)).ref for encoder in settings}) == 1
    plain = [agree(model, normalize=encoder.normalize).encode_query(TEXTS) for encoder in settings]
    np.testing.assert_allclose(np.linalg.norm(plain, axis=2), 1, atol=1e-5)


def test_static_embeddings_are_no_student(bert: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    static = StaticEmbedding(Tokenizer.from_file(str(bert.parent / "raw" / "tokenizer.json")), embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "static"), create_model_card=False)
    with pytest.raises(InputError, match="found StaticEmbedding"):
        write_student(tmp_path / "student", StudentConfig(encoder=EncoderConfig(model=str(tmp_path / "static"))))


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_a_bfloat16_student_may_have_a_dense_module(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path, lora: LoraConfig | None
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    encoder = open_model(bert)
    encoder.insert(2, Dense(32, 8))
    encoder.save(str(tmp_path / "dense"), create_model_card=False)
    write_student(
        tmp_path / "student", StudentConfig(encoder=EncoderConfig(model=str(tmp_path / "dense")), dtype="bfloat16")
    )
    config = TrainingConfig(max_steps=2, batch_size=4, lora=lora, precision="fp32")
    student, runtime = tmp_path / "student" / "model", Runtime(device="cpu", workers=1)
    info = run_training(tmp_path / "out", animals, mined, student, config, runtime)
    assert np.isfinite(info["loss"])


def test_weights_stored_in_bfloat16_are_trained_in_float32_and_rounded_once(
    animals: Dataset, mined: Path, bert: Path, tmp_path: Path
) -> None:
    """Steps of a usual size are smaller than the distance between two bfloat16 numbers: they would be rounded away."""
    config = TrainingConfig(max_steps=12, epochs=9, batch_size=4, learning_rate=2e-5, precision="fp32")
    moved = {}
    for dtype in ("float32", "bfloat16"):
        write_student(tmp_path / dtype, StudentConfig(encoder=EncoderConfig(model=str(bert)), dtype=dtype))
        student, runtime = tmp_path / dtype / "model", Runtime(device="cpu", workers=1)
        run_training(tmp_path / dtype / "out", animals, mined, student, config, runtime)
        before, after = (load_file(folder / "model.safetensors") for folder in (student, student.parent / "out" / "model"))
        assert {str(values.dtype) for values in after.values()} == {f"torch.{dtype}"}
        steps = [(after[name].float() - before[name].float()).flatten() for name in before if "layer" in name]
        moved[dtype] = float(torch.cat(steps).norm())
    assert moved["bfloat16"] == pytest.approx(moved["float32"], rel=0.2)


def test_adapters_of_no_layer_are_refused(bert: Path) -> None:
    for targets in (("nope",), ("query", "nope")):
        with pytest.raises(InputError, match=r"names of linear layers \(.*query.*\), found 'nope'"):
            add_adapters(open_model(bert), LoraConfig(targets=targets))
    encoder = open_model(bert)
    add_adapters(encoder, LoraConfig(targets=("query", "attention.output.dense")))
    assert any(parameter.requires_grad for parameter in encoder.parameters())
