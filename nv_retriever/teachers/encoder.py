"""Encoders: what a model is (cheap, from its files) and the object that turns texts into vectors (loads on first use)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from nv_retriever.config import Runtime
from nv_retriever.embedding.calibration import Fidelity, Recorded, compare, is_faithful
from nv_retriever.errors import InputError
from nv_retriever.hardware import device_kind, fast_bf16, warn_of_emulation
from nv_retriever.search.types import FloatArray, ScoreKind
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.identity import EncoderIdentity, Precision, Role
from nv_retriever.teachers.model_folder import DEFAULT_LENGTH, ModelFolder, content_digest, locate_model, read_model_folder
from nv_retriever.teachers.presets import Preset, find_preset

logger = logging.getLogger(__name__)
UNUSED_NAMES = ("passage", "corpus")
"""Prompts that sentence-transformers looks for after `document`, which it always finds."""


def resolve_encoder(config: EncoderConfig, folder: Path | str | None = None) -> EncoderIdentity:
    """Return what determines the vectors of an encoder, from its files alone (no model is loaded).

    `folder` is a model of this workflow to read instead of `config.model`. Values come from `config`, else from the
    folder's sentence-transformers configuration, else from the family's preset. Raises InputError for a model that is
    missing, is no encoder into one vector, has no safetensors, or says nowhere how it pools.
    """
    return _resolve(config, model_folder(config, folder))


def open_encoder(config: EncoderConfig, folder: Path | str | None = None, runtime: Runtime | None = None) -> Encoder:
    """Return the encoder; weights are loaded when the first text is encoded."""
    files = model_folder(config, folder)
    identity = _resolve(config, files)
    _say_unused(files, identity, config)
    return Encoder(identity, files, runtime or Runtime(), label="model" if folder else config.model)


def model_folder(config: EncoderConfig, folder: Path | str | None = None) -> ModelFolder:
    """Return what the folder of an encoder says, or `folder` (a model of this workflow); raises InputError for none."""
    path = Path(folder) if folder is not None else locate_model(config.model, config.revision, config.trust_remote_code)
    return read_model_folder(path)


def _resolve(config: EncoderConfig, files: ModelFolder) -> EncoderIdentity:
    if files.saved_as != "SentenceTransformer":  # which would put a mean over its tokens in place of what it is
        hint = f"--teacher cross-encoder:{config.model} rescores with it" if files.saved_as == "CrossEncoder" else ""
        raise InputError(f"model {config.model}", "a SentenceTransformer", f"a {files.saved_as}", hint)
    preset = find_preset(config.model) or Preset()
    own = files.own_forward and not (config.trust_remote_code and files.has_modules and files.pooling is None)
    query_length, document_length = (
        _length(wanted, found, files.position_limit, preset, own)
        for wanted, found in (
            (config.query_max_length, files.query_max_length),
            (config.document_max_length, files.document_max_length),
        )
    )
    if not own and config.pooling is not None:
        raise InputError("pooling", "no setting: this model's own modules pool", config.pooling)
    normalize = _normalizes(config, files)
    return EncoderIdentity(
        digest=content_digest(files, code=config.trust_remote_code),
        backend="transformers" if own else "sentence-transformers",
        pooling=_pooling(config, files, preset) if own else "own",
        normalize=normalize,
        similarity="cosine" if normalize else "dot",
        pool_prompt=preset.pool_prompt if preset.pool_prompt is not None and not files.has_modules else files.pool_prompt,
        query_prompt=_first(config.query_prompt, own_prompt(files, "query"), preset.query_prompt),
        document_prompt=_first(config.document_prompt, own_prompt(files, "document"), preset.document_prompt),
        query_max_length=query_length,
        document_max_length=document_length,
        precision=config.precision,
        trust_remote_code=config.trust_remote_code,
    )


def _first(*values: str | None) -> str:
    return next((value for value in values if value is not None), "")


def own_prompt(files: ModelFolder, role: Role) -> str | None:
    """Return the folder's prompt for a role, as `encode_query` and `encode_document` take it; None for no prompt.

    sentence-transformers knows a `query` and a `document` of every model, empty where the folder has none, so that they
    hide a `passage`, a `corpus` and the default prompt. A preset may follow an empty one.
    """
    return files.prompts.get(role) or None


def _say_unused(files: ModelFolder, identity: EncoderIdentity, config: EncoderConfig) -> None:
    """Warn of a prompt in the folder that reads as one of documents, and is put before none."""
    names = [name for name in (*UNUSED_NAMES, files.default_prompt or "") if files.prompts.get(name)]
    if names and not identity.document_prompt and config.document_prompt is None:
        text = "the prompt %r of %s is put before no document, as in sentence-transformers; encoder.document_prompt sets one"
        logger.warning(text, names[0], files.path)


def _pooling(config: EncoderConfig, files: ModelFolder, preset: Preset) -> Any:
    found = config.pooling or files.pooling or preset.pooling
    if found is None:
        names = "teachers.0.encoder.pooling for a teacher, student.encoder.pooling for a student or in nvr evaluate"
        hint = f"set it to mean, cls, lasttoken or max: {names}"
        raise InputError(
            f"model {config.model}", "a pooling (modules.json, a preset or the setting `pooling`)", "none", hint
        )
    return found


def _normalizes(config: EncoderConfig, files: ModelFolder) -> bool:
    """Return whether vectors are scaled: as set, as the modules do, or where the model's similarity is the cosine.

    Raises InputError for a distance, unless vectors of length 1 are in the same order by it.
    """
    if config.normalize is not None:
        return config.normalize
    if files.similarity == "manhattan" or (files.similarity == "euclidean" and not files.normalizes):
        hint = "set encoder.normalize to score by cosine (true) or inner product (false) all the same"
        raise InputError(f"model {config.model}", "a model whose similarity is cosine or dot", files.similarity, hint)
    return files.normalizes or files.similarity not in ("dot", "dot_score")


def _length(wanted: int | None, found: int | None, limit: int | None, preset: Preset, own: bool) -> int:
    """Return the tokens kept of a text, 0 for what chains that are not our own do; raises InputError for too many."""
    if wanted is None and not own:
        return 0
    if wanted is None:
        return min((n for n in (found, preset.max_length) if n is not None), default=DEFAULT_LENGTH)
    if limit is not None and wanted > limit:
        raise InputError("max_length", f"at most the model's {limit} positions", str(wanted))
    return wanted


class Encoder:
    """Turns queries and documents into vectors; loads torch and the weights when the first text is encoded."""

    window_texts = 32_768

    def __init__(self, identity: EncoderIdentity, files: ModelFolder, runtime: Runtime, label: str) -> None:
        self.identity, self.files, self.runtime, self.label = identity, files, runtime, label
        self._loops: dict[str, Any] = {}
        self._settled: Precision | None = None

    @property
    def score_kind(self) -> ScoreKind:
        """The kind of its scores."""
        return self.identity.score_kind

    @cached_property
    def dim(self) -> int:
        """Length of its vectors (encodes one text)."""
        return int(self.encode([""], "document", "fp32").shape[1])

    def encode_queries(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of queries, (n, dim) float32, in the order given."""
        return self.encode(texts, "query", self._settle(texts, "query"))

    def encode_documents(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of documents (text views), (n, dim) float32, in the order given."""
        return self.encode(texts, "document", self._settle(texts, "document"))

    def encode(self, texts: Sequence[str], role: Role, precision: Precision) -> FloatArray:
        """Return the vectors of texts in a role on a settled numeric path (`fp32` or `bf16`)."""
        vectors: FloatArray = self._loop(precision).encode(texts, role)
        return vectors

    def encode_windows(self, windows: Iterator[Sequence[str]], role: Role, precision: Precision) -> Iterator[FloatArray]:
        """Yield the vectors (n, dim) float32 of each window; the next window is tokenised while the model works."""
        with ThreadPoolExecutor(1) as ahead:
            waiting = None
            for texts in windows:
                following = ahead.submit(self._loop(precision).tokens, texts, role)
                if waiting is not None:
                    yield self._loop(precision).encode_tokens(waiting.result(), role)
                waiting = following
            if waiting is not None:
                yield self._loop(precision).encode_tokens(waiting.result(), role)

    def space(self, precision: Precision) -> str:
        """Return the name of the vector space of a numeric path."""
        return self.identity.space(precision)

    def role_salt(self, role: Role) -> str:
        """Return what determines a vector of a role in the space apart from the text."""
        return self.identity.role_salt(role)

    def candidate_precisions(self) -> tuple[Precision, ...]:
        """Return the numeric paths to consider, fastest first; never depends on a measurement of time."""
        if self.identity.precision != "auto":
            return (self.identity.precision,)
        own = self.identity.backend == "transformers"
        return ("bf16", "fp32") if own and fast_bf16(device_kind(self.runtime)) else ("fp32",)

    def measure(self, texts: Sequence[str], role: Role) -> FloatArray:
        """Return each text's cosine between its bf16 and its fp32 vector, (n,) float32."""
        return compare(self.encode(texts, role, "bf16"), self.encode(texts, role, "fp32"))

    def settle(self, sample: Recorded, role: Role) -> tuple[Precision, Fidelity | None]:
        """Return the numeric path for texts of which `sample` is a sample, and the fidelity that was measured on it."""
        candidates = self.candidate_precisions()
        if len(candidates) == 1:
            warn_of_emulation(self.label, candidates[0], self.runtime)
            return candidates[0], None
        fidelity = sample.fidelity(lambda texts: self.measure(texts, role))
        chosen: Precision = "bf16" if is_faithful(fidelity) else "fp32"
        logger.info(
            "%s encodes in %s (cosine to fp32: mean %.6f, min %.6f)", self.label, chosen, fidelity.mean, fidelity.min
        )
        return chosen, fidelity

    def _settle(self, texts: Sequence[str], role: Role) -> Precision:
        """Settle the path of direct calls on the first call's texts, once for this object."""
        if self._settled is None:
            self._settled = self.settle(Recorded.unrecorded(texts), role)[0]
        return self._settled

    def _loop(self, precision: Precision) -> Any:
        if precision not in self._loops:
            self._loops[precision] = self._load(precision)
        return self._loops[precision]

    def _load(self, precision: Precision) -> Any:
        if self.identity.backend == "transformers":
            from nv_retriever.embedding.loop import EncodingLoop

            return EncodingLoop(self.identity, self.files, precision, self.runtime)
        from nv_retriever.embedding.fallback import SentenceTransformersLoop

        return SentenceTransformersLoop(self.identity, self.files, precision, self.runtime)
