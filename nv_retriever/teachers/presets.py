"""Prompts, pooling and lengths of model families whose folders do not say them (their model cards do)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nv_retriever.teachers.identity import Pooling

WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
NV_EMBED = "Instruct: Given a question, retrieve passages that answer the question\nQuery: "


@dataclass(frozen=True)
class Preset:
    """What a family's model card prescribes; None where the folder itself says it."""

    query_prompt: str = ""
    document_prompt: str = ""
    pooling: Pooling | None = None
    max_length: int | None = None
    pool_prompt: bool | None = None


PRESETS: tuple[tuple[str, Preset], ...] = (
    (r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?", Preset("query: ", "passage: ", "mean", 512)),
    (r"multilingual-e5-large-instruct", Preset(WEB_SEARCH, "", "mean", 512)),
    (r"e5-mistral-7b-instruct", Preset(WEB_SEARCH, "", "lasttoken", 4096)),
    (r"snowflake-arctic-embed-(l|m)-v2\.0", Preset("query: ", "", "cls", 8192)),
    (
        r"snowflake-arctic-embed-(xs|s|m|l|m-long|m-v1\.5)",
        Preset("Represent this sentence for searching relevant passages: ", "", "cls", None),
    ),
    (r"nv-embed-v[12]", Preset(NV_EMBED, "", "mean", 4096, pool_prompt=False)),
    (
        r"bge-(small|base|large)-en(-v1\.5)?",
        Preset("Represent this sentence for searching relevant passages: ", "", "cls", 512),
    ),
)
"""Regular expressions over the last part of a model's name, in lower case, and what they mean."""


def find_preset(model: str) -> Preset | None:
    """Return the preset of a model by the last part of its name.

    >>> find_preset("intfloat/e5-large-v2").document_prompt
    'passage: '
    """
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return next((preset for pattern, preset in PRESETS if re.fullmatch(pattern, name)), None)
