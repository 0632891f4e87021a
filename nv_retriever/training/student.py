"""The student model: loading, truncation to its first layers, bidirectional decoders, dropout, export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from nv_retriever.errors import InputError, first_line
from nv_retriever.files import aside_of
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import resolve_encoder
from nv_retriever.teachers.identity import EncoderIdentity
from nv_retriever.teachers.model_folder import locate_model, read_model_folder
from nv_retriever.teachers.weights import check_files
from nv_retriever.training.config import StudentConfig


def open_student(config: StudentConfig) -> Any:
    """Return the untrained student as a SentenceTransformer on the CPU; raises InputError for what it cannot be."""
    import torch

    identity = resolve_encoder(config.encoder)
    encoder = _open(config.encoder, getattr(torch, config.dtype))
    if not isinstance(getattr(encoder[0], "auto_model", None), nn.Module):
        raise InputError("student", "a model whose first module is a transformer", type(encoder[0]).__name__)
    if config.layers is not None:
        truncate(encoder, config.layers)
    if config.bidirectional:
        make_bidirectional(encoder)
    _write_identity(encoder, identity, config)
    return encoder


def open_model(folder: Path) -> Any:
    """Return the model of a plain sentence-transformers folder, on the CPU, in its stored dtype, with its prompts."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "auto"}, local_files_only=True)


def stored_types(encoder: Any) -> dict[str, Any]:
    """Return the dtype of every weight by its name."""
    return {name: parameter.dtype for name, parameter in encoder.named_parameters()}


def restore_types(encoder: Any, types: dict[str, Any]) -> None:
    """Round the weights of a model to what `stored_types` said of it, in place."""
    for name, parameter in encoder.named_parameters():
        parameter.data = parameter.data.to(types[name])


def _open(config: EncoderConfig, dtype: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    folder = locate_model(config.model, config.revision, config.trust_remote_code)
    try:
        if not config.trust_remote_code:
            check_files(read_model_folder(folder).transformer, f"student {config.model}")
        return SentenceTransformer(
            str(folder),
            device="cpu",
            trust_remote_code=config.trust_remote_code,
            local_files_only=not config.trust_remote_code,  # code may lie in a repository of its own
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    except InputError:
        raise
    except Exception as error:  # whatever the libraries raise over a folder that somebody else made
        expected = "a sentence-transformers or transformers encoder"
        raise InputError("student", expected, repr(config.model), first_line(error)) from None


def _write_identity(encoder: Any, identity: EncoderIdentity, config: StudentConfig) -> None:
    """Write what the encoder is (configured, its folder's, its preset's) into the model itself: nothing else is kept."""
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    pooling = next((module for module in encoder.children() if isinstance(module, Pooling)), None)
    if pooling is not None:
        if identity.pooling != "own":
            pooling.pooling_mode = identity.pooling
        if not (config.pool_prompt and identity.pool_prompt):
            pooling.include_prompt = False
    has = [name for name, module in encoder.named_children() if isinstance(module, Normalize)]
    if identity.normalize and not has:
        encoder.append(Normalize())
    elif config.encoder.normalize is False:
        for name in has:
            del encoder[int(name)]
    encoder.similarity_fn_name = identity.similarity
    encoder.prompts |= {"query": identity.query_prompt, "document": identity.document_prompt}
    _write_lengths(encoder, identity.query_max_length, identity.document_max_length)
    if encoder.tokenizer is not None and encoder.tokenizer.pad_token is None:
        encoder.tokenizer.pad_token = encoder.tokenizer.eos_token


def _write_lengths(encoder: Any, query: int, document: int) -> None:
    """Write the lengths of texts: one for all, or where they differ one a role; 0 leaves a role as it is."""
    if query and document:
        encoder.max_seq_length = max(query, document)
    roles = {"query_length": query, "document_length": document}
    if query != document or any(getattr(encoder[0], name, None) for name in roles):
        for name, length in roles.items():
            if length:
                setattr(encoder[0], name, length)


def layer_list(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Return (owner, attribute, list) of a transformer's layers: the longest list of alike modules."""
    best: tuple[nn.Module, str, nn.ModuleList] | None = None
    for owner in model.modules():
        for name, child in owner.named_children():
            alike = isinstance(child, nn.ModuleList) and len({type(layer) for layer in child}) == 1
            if alike and isinstance(child, nn.ModuleList) and (best is None or len(child) > len(best[2])):
                best = (owner, name, child)
    if best is None:
        raise InputError("student", "a transformer with a list of layers", type(model).__name__)
    return best


def truncate(encoder: Any, layers: int) -> None:
    """Keep only the first layers of a SentenceTransformer, in place."""
    model = encoder[0].auto_model
    owner, name, found = layer_list(model)
    if layers > len(found):
        raise InputError("student.layers", f"at most {len(found)}, the layers of the model", str(layers))
    setattr(owner, name, found[:layers])
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = list(model.config.layer_types)[:layers]


def make_bidirectional(encoder: Any) -> None:
    """Let every token of a decoder attend to every other one (Mistral, Llama, Qwen, ...), in place.

    `is_causal: false` in the model's own configuration is what transformers' mask functions read (5.x), so the exported
    folder is bidirectional wherever it is loaded, without code of this project. Raises InputError where it has no effect.
    """
    import torch

    model = encoder[0].auto_model
    model.config.is_causal = False
    model.eval()
    tokens = torch.arange(1, 5)[None] % model.config.vocab_size
    other = tokens.clone()
    other[0, -1] = 0
    with torch.no_grad():
        first, second = (model(input_ids=ids).last_hidden_state[0, 0] for ids in (tokens, other))
    if torch.equal(first, second):
        raise InputError(
            "student.bidirectional",
            "a model whose attention can be made bidirectional by its configuration",
            type(model).__name__,
            "its first token does not see its last one; take another model or a newer transformers",
        )


def set_dropout(module: nn.Module, p: float) -> None:
    """Set every dropout of a model, in place, those given as numbers in attention modules included."""
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = p
        for name in ("attention_dropout", "dropout_prob", "dropout"):
            if isinstance(getattr(child, name, None), float):
                setattr(child, name, p)


def cosine_student(encoder: Any) -> bool:
    """Return whether the model's vectors are compared by their cosine: as it says itself, or because they are normalised."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    if any(isinstance(module, Normalize) for module in encoder.children()):
        return True
    return str(encoder.similarity_fn_name) not in ("dot", "SimilarityFunction.DOT_PRODUCT")


def save_model(encoder: Any, folder: Path, card: str) -> None:
    """Write a plain sentence-transformers folder (safetensors) with its model card; all of it or nothing."""
    aside = aside_of(folder)
    encoder.save(str(aside), create_model_card=False, safe_serialization=True)
    (aside / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
