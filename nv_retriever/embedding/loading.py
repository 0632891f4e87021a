"""From a model's folder to its tokenizer and its forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file

from nv_retriever.embedding.equal_lengths import EqualLengths
from nv_retriever.embedding.packed_bert import PackedBert
from nv_retriever.errors import InputError, first_line
from nv_retriever.teachers.identity import EncoderIdentity, Precision
from nv_retriever.teachers.model_folder import ModelFolder
from nv_retriever.teachers.weights import check_missing

CHARACTERS_PER_TOKEN = 64
"""Text beyond this many characters per allowed token is cut before tokenising, unless it is needed to fill the allowed
tokens: one huge document must not stall a run."""


class Forward(Protocol):
    """A model's forward pass on one device."""

    stateless: bool
    """Several threads may call it at once."""

    def __call__(self, batch: list[list[int]], skip: int) -> torch.Tensor:
        """Return pooled float32 vectors (len(batch), dim) of token lists; the first `skip` tokens are not pooled."""
        ...


class Tokenize:
    """The model's own tokenizer, as lists of ids with special tokens, never padded."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special = frozenset(tokenizer.all_special_ids)

    def __call__(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids of each text, cut at `max_length` tokens."""
        cut = max_length * CHARACTERS_PER_TOKEN
        kept = slice(-cut, None) if self.tokenizer.truncation_side == "left" else slice(cut)
        found = self._ids([text[kept] for text in texts], max_length)
        # Blank space, or a word that is one token whatever its length, may be all that was kept: such texts are read whole.
        for row, text in enumerate(texts):
            if len(text) > cut and len(found[row]) < max_length:
                found[row] = self._ids([text], max_length)[0]
        return found

    def _ids(self, texts: list[str], max_length: int) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(
            texts,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        return ids


def load_forward(
    identity: EncoderIdentity, files: ModelFolder, precision: Precision, devices: Sequence[torch.device]
) -> tuple[Tokenize, list[Forward]]:
    """Return the tokenizer and a forward pass for each device; raises InputError for a folder that can't be loaded."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging as messages

    options = {"local_files_only": True, "trust_remote_code": identity.trust_remote_code}
    shown = messages.is_progress_bar_enabled()
    messages.disable_progress_bar()
    try:
        tokenizer = Tokenize(AutoTokenizer.from_pretrained(str(files.transformer), **options))
        config = AutoConfig.from_pretrained(str(files.transformer), **options)
        if PackedBert.covers(config) and not _is_assembled(files.transformer, config, identity.trust_remote_code):
            weights = _read_weights(files.transformer) or _load_model(files.transformer, precision, options).state_dict()
            return tokenizer, [PackedBert(config, weights, identity, precision, device) for device in devices]
        model = _load_model(files.transformer, precision, options)
        return tokenizer, [EqualLengths(model, identity, precision, device) for device in devices]
    except InputError:
        raise
    except Exception as error:  # whatever the libraries raise over a folder that somebody else made
        expected = "a model that transformers can load"
        raise InputError(f"model {files.path}", expected, type(error).__name__, first_line(error)) from error
    finally:
        if shown:
            messages.enable_progress_bar()


def _is_assembled(folder: Path, config: Any, trust_remote_code: bool) -> bool:
    """Return whether more than the encoder's own tensors make the model: its own code, adapters, or a quantisation."""
    own_code = trust_remote_code and hasattr(config, "auto_map")
    return own_code or hasattr(config, "quantization_config") or (folder / "adapter_config.json").exists()


def _read_weights(folder: Path) -> dict[str, torch.Tensor] | None:
    """Return the tensors of an encoder by their names in it; None where they are in several files, or have old names.

    Only to import transformers' models takes longer than to embed what a night's new documents have.
    """
    path, norm = folder / "model.safetensors", "embeddings.LayerNorm.weight"  # once called gamma
    tensors = load_file(path) if path.exists() else {}
    prefix = next((name.removesuffix(norm) for name in tensors if name.endswith(norm)), None)
    if prefix is None:
        return None
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load_model(folder: Path, precision: Precision, options: dict[str, Any]) -> Any:
    from transformers import AutoModel

    dtype = "auto" if precision == "bf16" else torch.float32
    loading = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    model, loaded = AutoModel.from_pretrained(str(folder), **loading, **options)
    check_missing(model, loaded["missing_keys"], f"model {folder}")
    # Half precision has no fast products on processors, and its range overflows where bf16's does not.
    return (model.float() if model.dtype == torch.float16 else model).eval()
