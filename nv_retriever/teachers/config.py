"""What models score queries against documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from nv_retriever.config import Frozen


class EncoderConfig(Frozen):
    """A model that turns texts into vectors. Fields left at None come from the model's own configuration or preset."""

    model: str = "minilm"
    """Hub name or folder of a sentence-transformers or transformers encoder; `minilm` is the packaged all-MiniLM-L6-v2."""
    query_prompt: str | None = None
    """Put before every query."""
    document_prompt: str | None = None
    """Put before every document."""
    pooling: Literal["mean", "cls", "lasttoken", "max"] | None = None
    """How token states become one vector."""
    normalize: bool | None = None
    """Whether vectors are scaled to length 1 (scores are cosines) or not (dot products)."""
    query_max_length: int | None = Field(default=None, ge=2)
    """Tokens of a query, special ones included; longer ones are truncated."""
    document_max_length: int | None = Field(default=None, ge=2)
    """Tokens of a document, special ones included."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numeric path of the encoder; auto takes the fastest one whose fidelity to fp32 is bounded, and fp32
    where a model is evaluated."""
    revision: str | None = None
    """Revision of a model from the hub."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Off unless you say so."""


class BM25Config(Frozen):
    """BM25 with Lucene's formula; the defaults are Anserini's."""

    k1: float = Field(default=0.9, ge=0)
    """How slowly repeats of a word stop counting."""
    b: float = Field(default=0.4, ge=0, le=1)
    """How much long documents are held back."""
    stemmer: str | None = "english"
    """A Snowball stemmer, or null for none."""
    stopwords: str | None = "english"
    """A stop-word list of bm25s, or null for none."""
    version: Literal[1] = 1
    """Of this project's BM25; it is raised when its scores change."""


TeacherKind = Literal["encoder", "bm25", "cross-encoder", "endpoint", "vectors"]
_READ: dict[TeacherKind, frozenset[str]] = {
    "encoder": frozenset(EncoderConfig.model_fields) - {"model"},
    "bm25": frozenset(),
    "cross-encoder": frozenset(
        {"query_prompt", "document_prompt", "document_max_length", "precision", "revision", "trust_remote_code"}
    ),
    "endpoint": frozenset({"query_prompt", "document_prompt", "normalize"}),
    "vectors": frozenset({"normalize"}),
}
"""Which settings of `encoder` a kind of teacher reads."""


class TeacherConfig(Frozen):
    """A teacher by name: MODEL, `bm25`, `cross-encoder:MODEL`, `endpoint:URL#MODEL` or `vectors:FOLDER`."""

    name: str = "minilm"
    """MODEL (hub name or folder), `bm25`, `cross-encoder:MODEL` (rescores the first teacher's candidates),
    `endpoint:URL#MODEL` (an OpenAI-compatible embedding server), or `vectors:FOLDER` (precomputed)."""
    alias: str | None = Field(default=None, pattern=r"^\S(.*\S)?$")
    """What it is called in triples, tables and exports, as where one model teaches twice with different settings. By
    default the name, of a folder its last part."""
    encoder: EncoderConfig = EncoderConfig()
    """Details of a MODEL teacher (its `model` is taken from the name); prompts and normalisation of an endpoint, only the
    latter of given vectors, prompts, length and precision of a cross-encoder. Setting more is an error."""
    bm25: BM25Config = BM25Config()
    """Details of the teacher `bm25`."""
    only_retrieves: bool = False
    """Of the first teacher: it finds the candidates that the cross-encoders behind it rescore, and chooses no negatives."""

    @property
    def kind(self) -> TeacherKind:
        """What sort of teacher the name means."""
        head = self.name.split(":", 1)[0]
        return next((kind for kind in _READ if kind == head), "encoder")

    @property
    def label(self) -> str:
        """What it is called in tables: the alias, else a folder's last part wherever it lies, everything else as given."""
        if self.alias is not None:
            return self.alias
        kind, colon, place = ("", "", self.name) if self.kind == "encoder" else self.name.partition(":")
        place = place.strip()
        path = Path(place).expanduser()
        local = place.startswith(("/", "./", "../", "~")) or (place and path.is_dir())
        return f"{kind}{colon}{path.absolute().name}" if local and self.kind != "endpoint" else self.name

    def encoder_config(self) -> EncoderConfig:
        """Return the encoder's configuration with this teacher's model."""
        return self.encoder.model_copy(update={"model": self.name}) if self.kind == "encoder" else self.encoder

    def unread(self) -> dict[str, object]:
        """Return the settings that were changed and that this kind of teacher does not read, by their path."""
        encoder = _changed(self.encoder, EncoderConfig(), EncoderConfig(model=self.name))
        found = {f"encoder.{name}": value for name, value in encoder.items() if name not in _READ[self.kind]}
        if self.kind != "bm25":
            found |= {f"bm25.{name}": value for name, value in _changed(self.bm25, BM25Config()).items()}
        return found


def choosing(teachers: Sequence[TeacherConfig]) -> tuple[TeacherConfig, ...]:
    """Return the teachers whose scores choose negatives."""
    return tuple(teacher for teacher in teachers if not teacher.only_retrieves)


def _changed(settings: Frozen, *defaults: Frozen) -> dict[str, object]:
    return {name: value for name, value in settings if all(value != getattr(one, name) for one in defaults)}
