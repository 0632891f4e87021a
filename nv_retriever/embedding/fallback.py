"""Models whose chain of modules our loop does not cover, through sentence-transformers itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError, first_line
from nv_retriever.hardware import device_kind
from nv_retriever.search.types import FloatArray
from nv_retriever.teachers.identity import EncoderIdentity, Precision, Role
from nv_retriever.teachers.model_folder import ModelFolder
from nv_retriever.teachers.weights import check_files


class SentenceTransformersLoop:
    """`SentenceTransformer.encode_query` and `encode_document` with the identity's prompts, lengths and normalisation."""

    def __init__(self, identity: EncoderIdentity, files: ModelFolder, precision: Precision, runtime: Runtime) -> None:
        from sentence_transformers import SentenceTransformer

        self.identity = identity
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        try:
            if not identity.trust_remote_code:
                check_files(files.transformer, f"model {files.path}")
            self.model = SentenceTransformer(
                str(files.path),
                device=device_kind(runtime),
                trust_remote_code=identity.trust_remote_code,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
        except InputError:
            raise
        except Exception as error:  # whatever the libraries raise over a folder that somebody else made
            expected = "a model that sentence-transformers can load"
            raise InputError(f"model {files.path}", expected, type(error).__name__, first_line(error)) from error
        self.own_length = self.model.max_seq_length

    def tokens(self, texts: Sequence[str], role: Role) -> Sequence[str]:
        """Return the texts: this path tokenises by itself."""
        return texts

    def encode_tokens(self, tokens: Sequence[str], role: Role) -> FloatArray:
        """Return vectors (n, dim) float32 of texts."""
        return self.encode(tokens, role)

    def encode(self, texts: Sequence[str], role: Role) -> FloatArray:
        """Return vectors (n, dim) float32 in the order of `texts`."""
        if self.identity.query_max_length or self.identity.document_max_length:
            with suppress(AttributeError):  # models without positions (static embeddings) cut nothing
                self.model.max_seq_length = self.identity.max_length(role) or self.own_length
        if length := self.identity.max_length(role):
            for module in self.model.modules():
                if getattr(module, f"{role}_length", None):  # a Transformer's own length of the role comes first
                    setattr(module, f"{role}_length", length)
        encode = self.model.encode_query if role == "query" else self.model.encode_document  # a Router goes by the role
        vectors = encode(
            list(texts),
            prompt=self.identity.prompt(role),  # an empty one too: else the model's default prompt would be put there
            batch_size=32,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self.identity.normalize,
        )
        return np.asarray(vectors, np.float32)
