"""Model folders that somebody made to harm, or broke: none runs code, and each ends in one InputError."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import write_encoder

from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder
from nv_retriever.teachers.weights import check_files
from nv_retriever.training.config import StudentConfig
from nv_retriever.training.student import open_student


def as_teacher(folder):
    open_encoder(EncoderConfig(model=str(folder))).encode(["a cat"], "query", "fp32")


def as_student(folder):
    open_student(StudentConfig(encoder=EncoderConfig(model=str(folder))))


@pytest.fixture(params=[as_teacher, as_student])
def load(request):
    return request.param


@pytest.fixture
def model(tiny_encoder, tmp_path):
    return shutil.copytree(tiny_encoder, tmp_path / "model")


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.write_text, (self.place, "caught")


def add_module(model, kind, path=""):
    modules = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([*modules, {"idx": 3, "name": "3", "path": path, "type": kind}]))


def pickled_weights(model, place):
    shutil.move(model / "model.safetensors", model / "1_Pooling" / "other.safetensors")
    torch.save(Trap(place), model / "pytorch_model.bin")


def harmless_pickle(model, place):
    weights = load_file(model / "model.safetensors")
    pickled_weights(model, place)
    torch.save(weights, model / "pytorch_model.bin")


def pickled_module(model, place):
    (model / "3_Dense").mkdir()
    (model / "3_Dense" / "config.json").write_text(json.dumps({"in_features": 32, "out_features": 8}))
    torch.save(Trap(place), model / "3_Dense" / "pytorch_model.bin")
    add_module(model, "sentence_transformers.models.Dense", "3_Dense")


def own_module(model, place):
    (model / "own.py").write_text(f"open({str(place)!r}, 'w').close()\nclass Module: pass\n")
    add_module(model, "own.Module")


def any_callable(model, place):
    add_module(model, "os.system")


def own_architecture(model, place):
    (model / "own.py").write_text(f"open({str(place)!r}, 'w').close()\nclass Model: pass\n")
    config = json.loads((model / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Model", "AutoModel": "own.Model"}}
    (model / "config.json").write_text(json.dumps(config | own))


def cut(model, place):
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])


def header_of_an_exabyte(model, place):
    (model / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


def fewer_words_than_said(model, place):
    weights = load_file(model / "model.safetensors")
    save_file({k: v[:1].clone() if "word_embeddings" in k else v for k, v in weights.items()}, model / "model.safetensors")


def configuration_of_a_wrong_type(model, place):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_attention_heads": "x"}))


@pytest.mark.parametrize(
    "harm",
    [
        *(pickled_weights, harmless_pickle, pickled_module, own_module, any_callable, own_architecture),
        *(cut, header_of_an_exabyte, fewer_words_than_said, configuration_of_a_wrong_type),
    ],
)
def test_a_hostile_model_is_refused_and_runs_nothing(harm, load, model, tmp_path):
    place = tmp_path / "trap"
    harm(model, place)
    with pytest.raises(InputError, match=r"model|student"):
        load(model)
    assert not place.exists()


@pytest.mark.parametrize("family", ["bert", "mistral", "mpnet"])
def test_a_weight_that_the_files_lack_is_no_random_one(family, load, tmp_path):
    folder = write_encoder(tmp_path / family, family)
    weights = load_file(folder / "model.safetensors")
    rest = {name: weight for name, weight in weights.items() if "pooler" not in name}  # which no vector is made of
    save_file(rest, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)
    lost = next(name for name in sorted(rest) if ".1." in name and name.endswith("weight"))
    save_file({k: v for k, v in rest.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=re.escape(lost)):
        load(folder)


def test_the_decoder_is_read_where_it_is_all_there_is(tmp_path):
    """OPT calls its layers a decoder's; T5's are beside the encoder, and no vector is made of them."""
    from transformers import AutoModel, OPTConfig, T5Config

    size = {"vocab_size": 60, "num_attention_heads": 2, "num_hidden_layers": 1}
    opt = OPTConfig(hidden_size=16, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=20, **size)
    t5 = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    for name, config in (("opt", opt), ("t5", t5)):
        AutoModel.from_config(config).save_pretrained(str(tmp_path / name))
        weights = load_file(tmp_path / name / "model.safetensors")
        rest = {key: weight for key, weight in weights.items() if not key.startswith("decoder.")}
        save_file(rest or {"other": torch.zeros(1)}, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    check_files(tmp_path / "t5", "model t5")
    with pytest.raises(InputError, match=r"model opt: expected all of its weights, found none for decoder\."):
        check_files(tmp_path / "opt", "model opt")


def test_a_weight_that_a_chain_of_modules_lacks_is_no_random_one(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "model")
    add_module(folder, "sentence_transformers.models.Normalize", "")  # twice: sentence-transformers' own loop
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in sorted(weights) if ".1." in name and name.endswith("weight"))
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"all of its weights, found none for {re.escape(lost)}"):
        as_teacher(folder)
