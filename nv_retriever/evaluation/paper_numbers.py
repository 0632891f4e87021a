"""What NV-Retriever reports (arXiv 2407.15831 v2, NDCG@10): shown beside our numbers, never compared by a test.

The paper gives no seeds and no intervals; one configuration appears twice, with .5810 and .5856.
"""

from __future__ import annotations

from typing import Literal

Student = Literal["e5-large", "mistral-7b"]

METRIC = "nDCG@10"
"""What all of the numbers are."""

TEACHERS: dict[str, float] = {
    "bm25": 0.5002,
    "random": 0.5248,
    "intfloat/e5-large-unsupervised": 0.5494,
    "intfloat/e5-large-v2": 0.5704,
    "Snowflake/snowflake-arctic-embed-l": 0.5728,
    "nvidia/NV-Embed-v1": 0.5744,
    "intfloat/e5-mistral-7b-instruct": 0.5810,
}
"""Student e5-large-unsupervised, topk-percpos(0.95), 4 negatives; mean of NQ, HotpotQA, FiQA."""

METHODS: dict[str, dict[Student, float]] = {
    "topk": {"e5-large": 0.5407, "mistral-7b": 0.6214},
    "topk-shift(10)": {"e5-large": 0.5695, "mistral-7b": 0.6342},
    "topk-abs(0.7)": {"e5-large": 0.5759, "mistral-7b": 0.6184},
    "topk-marginpos(0.05)": {"e5-large": 0.5835, "mistral-7b": 0.6457},
    "topk-percpos(0.95)": {"e5-large": 0.5856, "mistral-7b": 0.6479},
}
"""Teacher e5-mistral-7b-instruct; 4 negatives for e5-large, 1 for Mistral-7B; mean of NQ, HotpotQA, FiQA."""

SAMPLING: dict[str, dict[Student, float]] = {
    "top": {"e5-large": 0.5856, "mistral-7b": 0.6479},
    "sample(4, of=10)": {"e5-large": 0.5856, "mistral-7b": 0.6499},
    "top1+sample(4, of=10)": {"e5-large": 0.5857},
}
"""After topk-percpos(0.95)."""

METHODS_BEIR: dict[str, float] = {
    "topk": 51.44,
    "topk-shift(10)": 54.66,
    "topk-abs(0.7)": 55.81,
    "topk-marginpos(0.05)": 59.77,
    "topk-percpos(0.95)": 60.55,
}
"""Mistral-7B on the fifteen BEIR sets, 728,160 samples; in percent."""

ENSEMBLES: dict[str, float] = {
    "single": 0.5810,
    "cross-sample": 0.5806,
    "intra-sample-dedup": 0.5804,
    "intra-sample": 0.5825,
}
"""All under topk-percpos(0.95); `single` is the best teacher alone."""

FALSE_NEGATIVES: dict[str, tuple[float, float]] = {"NQ": (0.388, 0.57), "StackExchange": (0.47, 0.50)}
"""Share of naive top-k negatives that an LLM judged relevant, and how many fewer the positive-aware filter leaves."""

TEACHER_OVERLAP: tuple[float, float] = (0.01, 0.30)
"""The range of the Jaccard overlap of two teachers' top-4 negatives."""

BEIR: dict[str, float] = {
    "ArguAna": 68.28,
    "ClimateFEVER": 43.47,
    "CQADupstack": 49.36,
    "DBPedia": 50.82,
    "FEVER": 93.15,
    "FiQA2018": 61.18,
    "HotpotQA": 79.12,
    "MSMARCO": 44.89,
    "NFCorpus": 45.06,
    "NQ": 72.44,
    "Quora": 88.78,
    "SCIDOCS": 22.55,
    "SciFact": 81.31,
    "Touche2020": 26.60,
    "TRECCOVID": 86.44,
}
"""NV-Retriever-v1, in percent; mean 60.90."""

REPEATED_CONFIGURATION_SPREAD = 0.0046
"""The paper's own two values of one configuration: larger than its PercPos - MarginPos."""


def of_question(name: str) -> dict[str, float]:
    """Return the paper's e5-large numbers for a question of the ablation, under our names; nothing where it has none.

    >>> of_question("methods")["topk"], of_question("ensembles")["intra-sample"], of_question("rounds")
    (0.5407, 0.5825, {})
    """
    numbers = {
        "methods": {name: row["e5-large"] for name, row in METHODS.items()} | {"random": TEACHERS["random"]},
        "selections": {"top(4)" if name == "top" else name: row["e5-large"] for name, row in SAMPLING.items()},
        "teachers": TEACHERS,
        "ensembles": ENSEMBLES,
    }
    return numbers.get(name, {})
