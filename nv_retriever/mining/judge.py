"""A judge reads the texts: is this negative false? One that answers the query as well as its positive is none.

RLHN (Thakur et al. 2025) relabels such negatives with a language model; a cross-encoder is the cheaper judge. Only chosen
negatives are judged; one that is judged away is replaced by the next choice, which is judged in its turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from nv_retriever.config import Runtime
from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig

if TYPE_CHECKING:
    from nv_retriever.teachers.pair_model import CrossEncoderIdentity

Verdict = Literal["keep", "drop", "positive"]


@dataclass(frozen=True)
class Case:
    """What a judge is shown."""

    query: str
    positive: str
    candidate: str


@dataclass(frozen=True)
class Judgement:
    """What a judge says: keep as a negative, drop, or positive (it answers the query: relabel it)."""

    verdict: Verdict
    score: float | None = None
    """The judge's own number, where it has one."""


class Judge(Protocol):
    """Judges candidates; the same case always gets the same verdict."""

    name: str

    def judge(self, cases: Sequence[Case]) -> list[Judgement]:
        """Return a judgement per case, in order."""
        ...


class CrossEncoderJudge:
    """Compares the candidate's logit with the positive's: above it by more than `margin` is a positive, within it a drop."""

    def __init__(self, model: str, margin: float = 1.0) -> None:
        from nv_retriever.teachers.model_folder import locate_model
        from nv_retriever.teachers.pair_model import PairModel

        self.name, self._margin = judge_label(f"cross-encoder:{model}"), margin
        self._identity = _identity(model)
        self._model = PairModel(locate_model(model), self._identity, trust_remote_code=False, runtime=Runtime())

    def judge(self, cases: Sequence[Case]) -> list[Judgement]:
        """Score (query, positive) and (query, candidate) once each and compare."""
        if not cases:
            return []
        pairs = list(dict.fromkeys([(c.query, c.positive) for c in cases] + [(c.query, c.candidate) for c in cases]))
        queries, passages = ([pair[side] for pair in pairs] for side in (0, 1))
        scores = self._model([self._identity.query_prompt + query for query in queries], passages)
        of = dict(zip(pairs, scores.tolist(), strict=True))
        return [self._compare(of[c.query, c.candidate], of[c.query, c.positive]) for c in cases]

    def _compare(self, candidate: float, positive: float) -> Judgement:
        if candidate > positive + self._margin:
            return Judgement("positive", candidate)
        return Judgement("drop" if candidate > positive - self._margin else "keep", candidate)


def judge_digest(name: str | None) -> str:
    """Return the digest of what determines verdicts besides the judge's label: the model, or a chat's prompt."""
    if name is None:
        return ""
    kind, rest = _parts(name)
    if kind == "cross-encoder":
        return fingerprint(_identity(rest))
    from nv_retriever.mining.chat_judge import chat_digest

    return chat_digest()


def judge_label(name: str) -> str:
    """Return what a judge is called: of a cross-encoder in a folder the last part, wherever it lies, as a teacher is."""
    return TeacherConfig(name=name).label if _parts(name)[0] == "cross-encoder" else name


def _parts(name: str) -> tuple[str, str]:
    """Return kind and model of `cross-encoder:MODEL` or `chat:URL#MODEL`; raises InputError for other names."""
    kind, _, rest = name.partition(":")
    if kind == "cross-encoder" and rest.strip():
        return kind, rest.strip()
    url, _, model = rest.rpartition("#")
    if kind == "chat" and url.startswith(("http://", "https://")) and model:
        if "@" in url.split("/")[2]:  # a judge's name stands beside its verdicts in tables, logs and reports
            hint = "set NVR_JUDGE_API_KEY for a key"
            raise InputError(f"mining.judge chat:…#{model}", "a URL without a password", "one with", hint)
        return kind, rest
    raise InputError("mining.judge", "cross-encoder:MODEL or chat:URL#MODEL", repr(name))


def _identity(model: str) -> CrossEncoderIdentity:
    from nv_retriever.teachers.cross_encoder import resolve_cross_encoder

    return resolve_cross_encoder(model, EncoderConfig())


def open_judge(name: str, margin: float = 1.0) -> Judge:
    """Return the judge `cross-encoder:MODEL` or `chat:URL#MODEL`; raises InputError for other names."""
    kind, rest = _parts(name)
    if kind == "cross-encoder":
        return CrossEncoderJudge(rest, margin)
    from nv_retriever.mining.chat_judge import ChatJudge

    url, _, model = rest.rpartition("#")
    return ChatJudge(url, model)
