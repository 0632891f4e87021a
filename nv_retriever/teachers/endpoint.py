"""Embedding servers that speak the OpenAI protocol (`POST URL/embeddings`) as teachers.

Requests are small batches, retried with growing pauses (a server's Retry-After is obeyed), limited per minute, and go into
the vector store every few hundred texts, so that a killed or failed run pays for nothing twice. What does not change a
vector comes from the environment: NVR_ENDPOINT_KEY or else OPENAI_API_KEY, NVR_ENDPOINT_BATCH (texts a request),
NVR_ENDPOINT_CONCURRENCY, NVR_ENDPOINT_REQUESTS_PER_MINUTE.
"""

from __future__ import annotations

import base64
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np

from nv_retriever.config import Frozen
from nv_retriever.data.records import shorten
from nv_retriever.embedding.calibration import Fidelity, Recorded
from nv_retriever.embedding.shards import unit_length
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.retries import RETRIED, authorization, post, retry_after
from nv_retriever.search.types import FloatArray, ScoreKind
from nv_retriever.teachers.config import TeacherConfig
from nv_retriever.teachers.identity import Precision, Role
from nv_retriever.teachers.names import endpoint_parts

logger = logging.getLogger(__name__)
KEYS = ("NVR_ENDPOINT_KEY", "OPENAI_API_KEY")
ATTEMPTS = 8
LONGEST_PAUSE = 120.0


class EndpointIdentity(Frozen):
    """What determines a server's vectors, as far as one can know from outside."""

    url: str
    model: str
    normalize: bool
    query_prompt: str
    document_prompt: str

    @staticmethod
    def of(teacher: TeacherConfig) -> EndpointIdentity:
        """Return the identity of `endpoint:URL#MODEL` with the encoder settings of the teacher."""
        url, model = endpoint_parts(teacher)
        config = teacher.encoder
        unused = {"pooling", "query_max_length", "document_max_length"} & set(config.model_dump(exclude_none=True))
        if unused:
            raise InputError(f"teacher {teacher.name}", "no setting that only the server has", ", ".join(sorted(unused)))
        return EndpointIdentity(
            url=url.rstrip("/"),
            model=model,
            normalize=config.normalize is not False,
            query_prompt=config.query_prompt or "",
            document_prompt=config.document_prompt or "",
        )


class EndpointError(RuntimeError):
    """The server did not give vectors after all attempts."""


class EndpointEmbedder:
    """Vectors from a server; a text embedder for the embed stage."""

    window_texts = 256

    def __init__(self, identity: EndpointIdentity, pause: float = 0.5) -> None:
        """`pause` is the seconds before the first retry; it doubles with every further one."""
        self.identity, self.pause = identity, pause
        self.label = f"{identity.url}#{identity.model}"
        self.batch = _positive("NVR_ENDPOINT_BATCH", 64)
        self.concurrency = _positive("NVR_ENDPOINT_CONCURRENCY", 4)
        self.interval = 60.0 / _positive("NVR_ENDPOINT_REQUESTS_PER_MINUTE", 3000)
        self._client = httpx.Client(headers=authorization(KEYS), timeout=120.0)
        self._turn = threading.Lock()
        self._next_request = 0.0
        self._dim: int | None = None

    @staticmethod
    def of(teacher: TeacherConfig) -> EndpointEmbedder:
        """Return the embedder of an endpoint teacher."""
        return EndpointEmbedder(EndpointIdentity.of(teacher))

    @property
    def score_kind(self) -> ScoreKind:
        """Cosine, unless the vectors are to be used as they come."""
        return "cosine" if self.identity.normalize else "dot"

    @property
    def dim(self) -> int:
        """Length of a vector (asks the server once)."""
        if self._dim is None:
            self._request(["dimension"])
        return self._dim or 0

    def space(self, precision: Precision) -> str:
        """Return the name of the vector space: server, model, normalisation."""
        kept = {"url": self.identity.url, "model": self.identity.model, "normalize": self.identity.normalize}
        return fingerprint({"endpoint": kept})

    def role_salt(self, role: Role) -> str:
        """Return what determines a vector of a role apart from the text: the prompt."""
        return fingerprint({"prompt": self._prompt(role)})

    def settle(self, sample: Recorded, role: Role) -> tuple[Precision, Fidelity | None]:
        """Return fp32: the server's numeric path is its own affair."""
        return "fp32", None

    def encode_windows(self, windows: Iterator[Sequence[str]], role: Role, precision: Precision) -> Iterator[FloatArray]:
        """Yield the vectors (n, dim) float32 of each window, requests running side by side."""
        prompt = self._prompt(role)
        with ThreadPoolExecutor(self.concurrency) as pool:
            for texts in windows:
                inputs = [prompt + text for text in texts]
                batches = [inputs[start : start + self.batch] for start in range(0, len(inputs), self.batch)]
                vectors = np.concatenate(list(pool.map(self._request, batches)))
                yield unit_length(vectors) if self.identity.normalize else vectors

    def _prompt(self, role: Role) -> str:
        return self.identity.query_prompt if role == "query" else self.identity.document_prompt

    def _request(self, texts: list[str]) -> FloatArray:
        """Return the vectors of one batch; retries what may pass, raises InputError for what will not."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                logger.info("%s: %s; attempt %d of %d", self.label, problem, attempt + 1, ATTEMPTS)
            self._wait_for_turn()
            pause = min(self.pause * 2**attempt, LONGEST_PAUSE)
            try:
                body = {"model": self.identity.model, "input": texts, "encoding_format": "float"}
                reply = post(self._client, f"{self.identity.url}/embeddings", body)
                if reply.status_code == 200:
                    return self._vectors(reply.json(), len(texts))
                problem = f"HTTP {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in RETRIED:
                    hint = f"set {KEYS[0]} or {KEYS[1]}" if reply.status_code in (401, 403) else ""
                    raise InputError(f"endpoint {self.label}", "embeddings", problem, hint)
                pause = max(pause, retry_after(reply.headers.get("Retry-After")) or 0.0)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise InputError(f"endpoint {self.label}", "a URL", str(error)) from None
            except (httpx.TransportError, httpx.DecodingError, _BadReplyError) as error:
                problem = f"{type(error).__name__.lstrip('_')}: {error}"
            except (ValueError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                problem = f"no JSON: {error}"
            if attempt < ATTEMPTS - 1:
                time.sleep(min(pause, LONGEST_PAUSE))
        raise EndpointError(f"{self.label} gave no embeddings in {ATTEMPTS} attempts; the last answer: {problem}")

    def _wait_for_turn(self) -> None:
        """Keep requests at least `interval` seconds apart, over all threads."""
        with self._turn:
            now = time.monotonic()
            start = max(now, self._next_request)
            self._next_request = start + self.interval
        if start > now:
            time.sleep(start - now)

    def _vectors(self, reply: Any, expected: int) -> FloatArray:
        """Return the reply's vectors in the order of the inputs; a short or misshapen reply is worth another attempt."""
        try:
            rows = sorted(reply["data"], key=lambda row: row["index"])
            numbers = [row["index"] for row in rows]
            vectors = [_decode(row["embedding"]) for row in rows]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _BadReplyError(f"no embeddings in the reply {shorten(reply, 200)} ({error!r})") from None
        if numbers != list(range(expected)):
            raise _BadReplyError(f"{len(numbers)} embeddings for {expected} texts, of the indices {numbers[:8]}")
        lengths = {len(vector) for vector in vectors}
        if len(lengths) != 1 or lengths == {0}:
            raise _BadReplyError(f"vectors of lengths {sorted(lengths)}")
        dim = lengths.pop()
        with self._turn:
            self._dim = self._dim or dim
        if dim != self._dim:
            raise InputError(f"endpoint {self.label}", f"vectors of length {self._dim} as before", f"length {dim}")
        return np.stack(vectors)


class _BadReplyError(RuntimeError):
    """A reply that is not what was asked for."""


def _decode(embedding: Any) -> FloatArray:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), dtype="<f4").astype(np.float32)
    values: FloatArray = np.asarray([np.nan if number is None else number for number in embedding], np.float32)
    if values.ndim != 1:  # of servers that give a vector for each token
        raise ValueError(f"an embedding of shape {values.shape}")
    return values


def _positive(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise InputError(name, "a whole number of at least 1", repr(value))
    return int(value)
