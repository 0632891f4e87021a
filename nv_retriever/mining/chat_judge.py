"""A chat model behind an OpenAI-compatible endpoint as the judge of negatives."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.mining.judge import Case, Judgement, Verdict
from nv_retriever.retries import RETRIED, authorization, post, retry_after

if TYPE_CHECKING:
    import httpx

KEY_VARIABLES = ("NVR_JUDGE_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key; the first that is set is sent."""
PROMPT = """You judge training data for a search engine. Does the candidate passage answer the query?

Query: {query}

A passage that is known to answer it: {positive}

Candidate passage: {candidate}

Reply with one word. YES: it answers the query as well as the known passage does. PARTLY: it answers a part of it, or you \
are not sure. NO: it does not answer the query."""
_VERDICTS: dict[str, Verdict] = {"yes": "positive", "partly": "drop", "no": "keep"}
REQUEST = {"temperature": 0, "max_tokens": 16}
"""What a request says besides the model and the prompt."""
_ATTEMPTS, _LONGEST_PAUSE = 5, 60.0


def chat_digest() -> str:
    """Return what determines the verdicts of a chat model besides the model: the prompt, and how its answer is read."""
    return fingerprint({"prompt": PROMPT, "verdicts": _VERDICTS, "request": REQUEST})


class ChatJudge:
    """Asks YES, PARTLY or NO with temperature 0; an answer of another form is asked again, then dropped as unsure."""

    def __init__(self, url: str, model: str, *, workers: int = 4, wait: float = 1.0) -> None:
        """Ask `workers` cases at a time, and again after `wait` seconds, then twice as many, and so on."""
        import httpx

        self.name = f"chat:{url}#{model}"
        self._url, self._model = url.rstrip("/") + "/chat/completions", model
        self._workers, self._wait = workers, wait
        self._client = httpx.Client(headers=authorization(KEY_VARIABLES), timeout=120)

    def judge(self, cases: Sequence[Case]) -> list[Judgement]:
        """Ask for every case, a few at a time; raises InputError when the endpoint refuses or stays away."""
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(self._one, cases))

    def _one(self, case: Case) -> Judgement:
        prompt = PROMPT.format(query=case.query, positive=case.positive, candidate=case.candidate)
        for _ in range(2):
            word = self._ask(prompt).strip().strip("*.\"'`").split(maxsplit=1)
            verdict = _VERDICTS.get(word[0].strip("*.,:;!\"'`").lower()) if word else None
            if verdict is not None:
                return Judgement(verdict)
        return Judgement("drop")

    def _ask(self, prompt: str) -> str:
        import httpx

        message = {"role": "user", "content": prompt}
        body = {"model": self._model, "messages": [message], **REQUEST}
        problem, pause = "", 0.0
        for attempt in range(_ATTEMPTS):
            time.sleep(pause)
            pause = self._wait * 2.0**attempt
            try:
                answer = post(self._client, self._url, body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = str(error) or type(error).__name__
                continue
            if answer.status_code in RETRIED:
                problem, asked = f"HTTP {answer.status_code}", retry_after(answer.headers.get("Retry-After"))
                pause = min(max(pause, asked or 0.0), _LONGEST_PAUSE)
                continue
            if answer.status_code != 200:
                raise InputError(f"judge {self._url}", "HTTP 200", f"HTTP {answer.status_code}: {answer.text[:200]}")
            return _content(answer, self._url)
        raise InputError(f"judge {self._url}", f"an answer within {_ATTEMPTS} attempts", problem)


def _content(answer: httpx.Response, url: str) -> str:
    try:
        return str(answer.json()["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise InputError(f"judge {url}", "JSON with choices[0].message.content", answer.text[:200]) from None
