"""What an encoder is, apart from where it lies: the part of a model that determines its vectors."""

from __future__ import annotations

from typing import Literal

from nv_retriever.config import Frozen
from nv_retriever.fingerprint import fingerprint
from nv_retriever.search.types import ScoreKind

Role = Literal["query", "document"]
Pooling = Literal["mean", "cls", "lasttoken", "max"]
Precision = Literal["auto", "fp32", "bf16"]
NUMERICS = 4
"""Raised when our forward pass starts to give other vectors."""


class EncoderIdentity(Frozen):
    """Everything that determines a vector besides the text. No paths: a copied or renamed folder has the same identity."""

    digest: str
    """sha256 over weights, tokenizer and configuration files."""
    backend: Literal["transformers", "sentence-transformers"]
    """Our own forward pass, or sentence-transformers for chains of modules that it does not cover."""
    pooling: Pooling | Literal["own"]
    """How token states become one vector; `own` is whatever the chain of modules does."""
    normalize: bool
    """Vectors have length 1."""
    similarity: Literal["cosine", "dot"]
    """What a score is."""
    pool_prompt: bool
    """Whether the prompt's tokens take part in the pooling (they are attended to in any case)."""
    query_prompt: str
    document_prompt: str
    query_max_length: int
    """0 where sentence-transformers embeds and nothing is set: its modules know their lengths."""
    document_max_length: int
    precision: Precision
    """`auto` is settled on the texts themselves, by the fidelity to fp32 that is measured there."""
    trust_remote_code: bool = False
    numerics: int = NUMERICS

    @property
    def score_kind(self) -> ScoreKind:
        """The kind of this encoder's scores."""
        return self.similarity

    def prompt(self, role: Role) -> str:
        """Return what is put before a text."""
        return self.query_prompt if role == "query" else self.document_prompt

    def max_length(self, role: Role) -> int:
        """Return the number of tokens at which a text is cut, special tokens included."""
        return self.query_max_length if role == "query" else self.document_max_length

    def space(self, precision: Precision) -> str:
        """Return the fingerprint of the vector space: all but what belongs to a role and is part of a text's key."""
        roles = {"query_prompt", "document_prompt", "query_max_length", "document_max_length", "precision", "pool_prompt"}
        kept = {name: getattr(self, name) for name in type(self).model_fields if name not in roles}
        return fingerprint({"encoder": kept, "precision": precision})

    def role_salt(self, role: Role) -> str:
        """Return what else than the text determines a vector in this space: the prompt, its pooling, the length.

        In sentence-transformers' chains the role too, since a Router has other modules for queries than for documents.
        """
        prompt = self.prompt(role)
        salt = {"prompt": prompt, "pool": self.pool_prompt or not prompt, "length": self.max_length(role)}
        return fingerprint(salt if self.backend == "transformers" else {**salt, "role": role})
