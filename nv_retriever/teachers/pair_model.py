"""A cross-encoder's forward pass: logits of pairs of texts, in batches of a few fixed shapes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nv_retriever.config import Frozen, Runtime
from nv_retriever.errors import InputError, first_line
from nv_retriever.hardware import device_kind, warn_of_emulation
from nv_retriever.search.types import FloatArray

ROWS, STEP = 16, 32
"""Every batch has ROWS rows and a length that is a multiple of STEP: its shape follows from the pair alone, and products
of one shape round alike, so a pair's score does not depend on its companions. The last row is idle and nearly empty, so that
no batch goes without a mask."""


class CrossEncoderIdentity(Frozen):
    """Everything that determines the score of a pair besides the texts."""

    digest: str
    max_length: int
    precision: Literal["fp32", "bf16"]
    query_prompt: str = ""
    document_prompt: str = ""
    numerics: int = 2


class PairModel:
    """The model, in batches of a few fixed shapes."""

    def __init__(self, path: Path, identity: CrossEncoderIdentity, trust_remote_code: bool, runtime: Runtime) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        self.identity, self.runtime, self.device = identity, runtime, torch.device(device_kind(runtime))
        warn_of_emulation(f"cross-encoder {path.name}", identity.precision, runtime)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                str(path), dtype=torch.float32, use_safetensors=True, output_loading_info=True, **options
            )
        except Exception as error:  # whatever the libraries raise over a folder that somebody else made
            found = type(error).__name__
            raise InputError(f"cross-encoder {path}", "a sequence classifier", found, first_line(error)) from error
        if missing := sorted(loaded["missing_keys"]):  # which transformers fills with random numbers
            raise InputError(f"cross-encoder {path}", "a sequence classifier", f"no weights for {', '.join(missing)}")
        if model.config.num_labels != 1:
            raise InputError(f"cross-encoder {path}", "one output, the relevance", f"{model.config.num_labels} outputs")
        self.model = model.eval().to(self.device)
        self.takes_types = "token_type_ids" in inspect.signature(model.forward).parameters

    def __call__(self, queries: list[str], documents: list[str]) -> FloatArray:
        """Return the logits of pairs (n,) float32, each as if it were alone."""
        import torch

        encoded = self.tokenizer(
            queries,
            documents,
            truncation="longest_first",
            max_length=self.identity.max_length,
            return_attention_mask=False,
        )
        ids = encoded["input_ids"]
        types = encoded.get("token_type_ids", [[]] * len(ids))  # where the tokenizer gives none, the model takes zeros
        own = np.fromiter(map(len, ids), np.int64, len(ids))
        lengths = np.minimum(-(-own // STEP) * STEP, self.identity.max_length)
        order = np.argsort(-lengths, kind="stable")
        result = np.empty(len(ids), np.float32)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.identity.precision == "bf16"),
        ):
            for length in np.unique(lengths)[::-1].tolist():
                group = order[lengths[order] == length]
                for start in range(0, len(group), ROWS - 1):
                    some = group[start : start + ROWS - 1].tolist()
                    result[some] = self._batch([ids[i] for i in some], [types[i] for i in some], length)
        return result

    def _batch(self, ids: list[list[int]], types: list[list[int]], length: int) -> Any:
        """Return the logits of at most ROWS - 1 pairs of at most `length` tokens."""
        import torch

        tensors = {name: np.zeros((ROWS, length), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        tensors["input_ids"][:] = int(self.model.config.pad_token_id or 0)
        tensors["attention_mask"][:, 0] = 1
        for row, (tokens, kinds) in enumerate(zip(ids, types, strict=True)):
            tensors["input_ids"][row, : len(tokens)] = tokens
            tensors["attention_mask"][row, : len(tokens)] = 1
            tensors["token_type_ids"][row, : len(kinds)] = kinds
        if not self.takes_types:
            del tensors["token_type_ids"]
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in tensors.items()}
        return self.model(**inputs).logits[: len(ids), 0].float().cpu().numpy()
