"""Weights that a model's files lack: transformers fills them with random numbers, and goes on with a warning."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nv_retriever.errors import InputError


def check_missing(model: Any, missing: Iterable[str], where: str) -> None:
    """Raise InputError where weights of a transformers model are missing that vectors are made of.

    None is made of the layer over BERT's first token, nor of the decoder of a model whose encoder is taken.
    """
    unread = {"pooler", "decoder"} if getattr(model.config, "is_encoder_decoder", False) else {"pooler"}
    names = sorted(name for name in missing if unread.isdisjoint(name.split(".")))
    if names:
        found = f"none for {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise InputError(where, "all of its weights", found)


def check_files(folder: Path, where: str) -> None:
    """Raise InputError where the files of a transformers folder lack weights; reads names only.

    Not of models with code of their own, or with adapters: only loading says what these need.
    """
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging as messages

    if not (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return
    if hasattr(AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False), "auto_map"):
        return
    verbosity = messages.get_verbosity()
    messages.set_verbosity_error()
    try:
        options = {"device_map": "meta", "use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        model, loaded = AutoModel.from_pretrained(str(folder), **options)
    finally:
        messages.set_verbosity(verbosity)
    check_missing(model, loaded["missing_keys"], where)
