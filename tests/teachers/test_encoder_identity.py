"""What an encoder is: one changed thing changes the identity, nothing else does, and nothing heavy is loaded to know it."""

import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file
from tiny_models import loaded

from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.teachers import model_folder
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import resolve_encoder
from nv_retriever.teachers.presets import find_preset


@pytest.fixture
def copy(tiny_encoder, tmp_path):
    return shutil.copytree(tiny_encoder, tmp_path / "copy")


def identity(folder, **config):
    return resolve_encoder(EncoderConfig(model=str(folder), **config))


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder):
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    weights[name] = weights[name] + (weights[name] == weights[name].max()) * 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


CHANGES = {
    "weights": change_weights,
    "tokenizer": lambda folder: rewrite(folder / "tokenizer.json", normalizer=None),
    "tokenizer_config": lambda folder: rewrite(folder / "tokenizer_config.json", do_lower_case=False),
    "config": lambda folder: rewrite(folder / "config.json", layer_norm_eps=1e-5),
    "pooling": lambda folder: rewrite(folder / "1_Pooling/config.json", pooling_mode="cls"),
    "pool_prompt": lambda folder: rewrite(folder / "1_Pooling/config.json", include_prompt=False),
    "length": lambda folder: rewrite(folder / "sentence_bert_config.json", max_seq_length=47),
    "prompt": lambda folder: rewrite(folder / "config_sentence_transformers.json", prompts={"query": "query: "}),
}
SETTINGS = [
    {"query_prompt": "q: "},
    {"document_prompt": "d: "},
    {"pooling": "max"},
    {"normalize": False},
    {"query_max_length": 12},
    {"document_max_length": 12},
    {"precision": "fp32"},
    {"precision": "bf16"},
    {"trust_remote_code": True},
]


@pytest.mark.parametrize("what", CHANGES)
def test_one_changed_file_is_another_encoder(copy, tiny_encoder, what):
    CHANGES[what](copy)
    assert fingerprint(identity(copy)) != fingerprint(identity(tiny_encoder))


def test_settings_change_the_identity_one_by_one(tiny_encoder):
    prints = {fingerprint(identity(tiny_encoder, **setting)) for setting in [{}, *SETTINGS]}
    assert len(prints) == len(SETTINGS) + 1


def test_what_determines_no_vector_changes_nothing(copy, tiny_encoder):
    (copy / "README.md").write_text("# another card")
    rewrite(copy / "config_sentence_transformers.json", __version__={"sentence_transformers": "99"})
    (copy / ".cache").mkdir()
    (copy / ".cache" / "junk.json").write_text("{}")
    renamed = copy.rename(copy.with_name("renamed"))
    assert identity(renamed) == identity(tiny_encoder)


def test_the_identity_holds_no_path(tiny_encoder):
    assert str(tiny_encoder.parent) not in identity(tiny_encoder).model_dump_json()
    assert tiny_encoder.name not in identity(tiny_encoder).model_dump_json()


def test_roles_are_keyed_apart_and_share_a_space(tiny_encoder):
    plain, prompted = identity(tiny_encoder), identity(tiny_encoder, query_prompt="query: ")
    assert plain.space("fp32") == prompted.space("fp32")
    assert plain.role_salt("document") == prompted.role_salt("document")
    assert plain.role_salt("query") != prompted.role_salt("query")
    assert plain.role_salt("query") == plain.role_salt("document"), "same string, same length: the same vector"
    shorter = identity(tiny_encoder, query_max_length=9)
    assert shorter.role_salt("query") != shorter.role_salt("document")
    spaces = {identity(tiny_encoder, **setting).space("fp32") for setting in ({}, {"pooling": "cls"}, {"normalize": False})}
    assert len(spaces | {plain.space("bf16")}) == 4


def test_values_come_from_the_folder(copy):
    rewrite(copy / "config_sentence_transformers.json", prompts={"query": "Q ", "document": "P "})
    found = identity(copy)
    assert (found.query_prompt, found.document_prompt) == ("Q ", "P ")
    assert (found.query_max_length, found.pooling, found.normalize, found.score_kind) == (48, "mean", True, "cosine")
    assert identity(copy, document_prompt="", normalize=False).document_prompt == ""
    assert identity(copy, normalize=False).score_kind == "dot"


@pytest.mark.parametrize("similarity", ["manhattan", "euclidean"])
def test_a_distance_is_no_inner_product(copy, similarity):
    rewrite(copy / "config_sentence_transformers.json", similarity_fn_name=similarity)
    modules = json.loads((copy / "modules.json").read_text())
    if similarity == "euclidean":
        assert identity(copy).score_kind == "cosine", "the same order, where the modules normalise"
    (copy / "modules.json").write_text(json.dumps([one for one in modules if not one["type"].endswith("Normalize")]))
    with pytest.raises(InputError, match=similarity):
        identity(copy)
    assert identity(copy, normalize=False).score_kind == "dot"


def test_the_packaged_model_is_the_published_one():
    found = resolve_encoder(EncoderConfig())
    assert (found.pooling, found.normalize, found.query_max_length, found.backend) == ("mean", True, 256, "transformers")
    assert found.digest == "f27aecb237539ae5cb1800d6fd915a99bd7416551ece71c3f2acfc3aa7247f13"


def test_other_weights_in_the_package_are_refused(monkeypatch):
    monkeypatch.setattr(model_folder, "MINILM_SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"model\.safetensors.*published weights.*found sha256 53aa5117"):
        resolve_encoder(EncoderConfig())


def test_nothing_heavy_is_loaded(tiny_encoder):
    code = (
        "from nv_retriever.teachers.encoder import resolve_encoder, open_encoder;"
        "from nv_retriever.teachers.config import EncoderConfig as C;"
        f"resolve_encoder(C(model={str(tiny_encoder)!r})); open_encoder(C())"
    )
    assert not loaded(code, {"torch", "transformers", "sentence_transformers", "datasets", "tokenizers"})


@pytest.mark.parametrize("model", ["no/such/folder/here", "./missing", "/nowhere/model", "~nobody/model"])
def test_missing_folder(model):
    with pytest.raises(InputError, match="no such folder"):
        resolve_encoder(EncoderConfig(model=model))


def test_missing_folder_of_the_workflow(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        resolve_encoder(EncoderConfig(), tmp_path / "gone")


@pytest.mark.parametrize("revision", [None, "abc123"])
def test_unreachable_hub_name(revision, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"model nobody-at-all/no-such-model.*found neither"):
        resolve_encoder(EncoderConfig(model="nobody-at-all/no-such-model", revision=revision))


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        identity(copy)


def test_pickled_weights_of_a_module_determine_vectors_where_it_has_no_others(copy):
    dense = copy / "2_Dense"
    dense.mkdir()
    found = []
    for content in (b"one", b"two"):
        (dense / "pytorch_model.bin").write_bytes(content)
        found.append(identity(copy).digest)
    assert found[0] != found[1]
    (dense / "model.safetensors").write_bytes(b"")
    beside = identity(copy).digest
    (dense / "pytorch_model.bin").write_bytes(b"three")
    assert identity(copy).digest == beside, "the safetensors are read"


def test_a_module_behind_a_link_determines_vectors(copy, tmp_path):
    (tmp_path / "shared").mkdir()
    (copy / "2_Dense").symlink_to(tmp_path / "shared")
    found = []
    for content in (b"one", b"two"):
        (tmp_path / "shared" / "model.safetensors").write_bytes(content)
        found.append(identity(copy).digest)
    assert found[0] != found[1]


def test_an_adapter_whose_model_lies_elsewhere_is_refused(copy):
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    (copy / "model.safetensors").rename(copy / "adapter_model.safetensors")
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"a whole model, found an adapter.*merge it"):
        identity(copy)


def test_no_model_at_all(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        identity(tmp_path)


def test_broken_configuration_names_its_file(copy):
    (copy / "modules.json").write_text("{")
    with pytest.raises(InputError, match=r"modules\.json"):
        identity(copy)


def test_plain_transformers_folder_needs_a_pooling(copy):
    for name in ("modules.json", "1_Pooling/config.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (copy / name).unlink()
    with pytest.raises(InputError, match="pooling"):
        identity(copy)
    found = identity(copy, pooling="cls")
    assert (found.pooling, found.query_max_length, found.backend, found.normalize) == ("cls", 64, "transformers", True)
    named = copy.rename(copy.with_name("e5-small-v2"))
    found = identity(named)
    assert (found.query_prompt, found.document_prompt, found.pooling) == ("query: ", "passage: ", "mean")


def test_more_tokens_than_positions(tiny_encoder):
    with pytest.raises(InputError, match="80 positions"):
        identity(tiny_encoder, document_max_length=81)


def test_unusual_modules_go_to_sentence_transformers(copy):
    modules = json.loads((copy / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (copy / "modules.json").write_text(json.dumps(modules))
    assert (identity(copy).backend, identity(copy).pooling) == ("sentence-transformers", "own")
    with pytest.raises(InputError, match="own modules"):
        identity(copy, pooling="cls")


@pytest.mark.parametrize(
    ("kind", "hint"), [("CrossEncoder", "; --teacher cross-encoder:.* rescores with it"), ("SparseEncoder", "$")]
)
def test_another_kind_of_model_is_no_encoder(copy, kind, hint):
    path = copy / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": kind}))
    with pytest.raises(InputError, match=f"expected a SentenceTransformer, found a {kind}{hint}"):
        identity(copy)


@pytest.mark.parametrize(
    ("name", "query", "document", "pooling"),
    [
        ("intfloat/e5-large-unsupervised", "query: ", "passage: ", "mean"),
        ("intfloat/multilingual-e5-base", "query: ", "passage: ", "mean"),
        ("Snowflake/snowflake-arctic-embed-l", "Represent this sentence for searching relevant passages: ", "", "cls"),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", "", "cls"),
        ("intfloat/e5-mistral-7b-instruct", "Instruct: ", "", "lasttoken"),
        ("nvidia/NV-Embed-v1", "Instruct: ", "", "mean"),
    ],
)
def test_presets(name, query, document, pooling):
    preset = find_preset(name)
    assert preset.query_prompt.startswith(query) and query
    assert (preset.document_prompt, preset.pooling) == (document, pooling)


@pytest.mark.parametrize(
    "name", ["minilm", "me/my-e5-large", "intfloat/e5-large-v2-finetuned", "sentence-transformers/all-MiniLM-L6-v2"]
)
def test_presets_do_not_catch_others(name):
    assert find_preset(name) is None


POOLING, SENTENCES = "1_Pooling/config.json", "config_sentence_transformers.json"
WRONG_KINDS = {
    "configuration": ("config.json", "x", r"config\.json: expected a JSON object, found str 'x'"),
    "a tower": ("config.json", "[" * 100_000, r"config\.json: expected a JSON file"),
    "modules": ("modules.json", {}, r"modules\.json: expected a JSON list, found dict"),
    "pooling": (POOLING, [1], r"config\.json: expected a JSON object, found list"),
    "settings": ("sentence_bert_config.json", [1], r"sentence_bert_config\.json: expected a JSON object"),
    "length": ("sentence_bert_config.json", {"max_seq_length": "many"}, r"max_seq_length: expected a number of tokens"),
    "less than none": ("sentence_bert_config.json", {"max_seq_length": -5}, r"max_seq_length: expected a number of tokens"),
    "modality": ("sentence_bert_config.json", {"modality_config": "x"}, r"modality_config: expected a JSON object"),
    "prompts": (SENTENCES, {"prompts": ["a"]}, r"prompts: expected a JSON object, found list"),
    "default": (SENTENCES, {"default_prompt_name": ["x"]}, r"default_prompt_name: expected a text, found list"),
    "similarity": (SENTENCES, {"similarity_fn_name": 7}, r"similarity_fn_name: expected a text, found int 7"),
    "tokenizer": ("tokenizer_config.json", [1], r"tokenizer_config\.json: expected a JSON object"),
}


@pytest.mark.parametrize("name", WRONG_KINDS)
def test_a_file_of_another_kind_is_named(copy, name):
    file, content, message = WRONG_KINDS[name]
    raw = isinstance(content, str) and content.startswith("[")
    (copy / file).write_text(content if raw else json.dumps(content))
    with pytest.raises(InputError, match=message):
        identity(copy)


@pytest.mark.parametrize("place", ["../elsewhere", "/elsewhere", "a/../../elsewhere"])
def test_a_module_outside_the_folder_is_refused(copy, place):
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["path"] = place
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"modules\.json: path: expected a path inside the model's folder, found '"):
        identity(copy)


def test_a_link_s_name_is_no_digest_outside_the_hub_s_cache(copy, tiny_encoder, tmp_path, monkeypatch):
    weights, published = copy / "model.safetensors", "0" * 64
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for folder in (tmp_path, cache):
        folder.mkdir(exist_ok=True)
        shutil.copy(tiny_encoder / "model.safetensors", folder / published)
        weights.unlink()
        weights.symlink_to(folder / published)
        assert (identity(copy).digest == identity(tiny_encoder).digest) == (folder is tmp_path)
