"""The peer on the inputs of tests/test_pitfalls.py: where sentence-transformers' miner goes wrong, as a table.

    python benchmarks/pitfalls.py [--json]

Both miners get the same vectors (a stand-in model that looks texts up), so that only mining differs. A row says what the
peer does with the input and what this project does; rows in which the installed peer is right are shown too.
"""

import argparse
import contextlib
import io
import json
import tempfile
from types import SimpleNamespace

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import __version__
from sentence_transformers.util import mine_hard_negatives as peer

from nv_retriever.errors import InputError
from nv_retriever.mining.drop_in import mine_hard_negatives as ours


class Lookup:
    """A model whose vectors are given by text."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="some/model")

    def __init__(self, vectors):
        self.vectors = vectors

    def encode_query(self, texts, **options):
        return np.array([self.vectors[text] for text in texts], np.float32)

    encode_document = encode_query

    def similarity(self, left, right):
        return torch.as_tensor(left) @ torch.as_tensor(right).T

    def similarity_pairwise(self, left, right):
        return (torch.as_tensor(left) * torch.as_tensor(right)).sum(1)


def at(score):
    """A unit vector whose cosine with the query's (1, 0) is `score`."""
    return (score, (1 - score * score) ** 0.5)


def pairs(*rows):
    return Dataset.from_dict({"query": [row[0] for row in rows], "answer": [row[1] for row in rows]})


def negatives(miner, dataset, model, **arguments):
    """Return {(query, answer): negatives}, or what the miner says."""
    quiet = {"verbose": False} if miner is peer else {}
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = miner(dataset, model, **arguments, **quiet)
    except (InputError, TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error)[:90]}"
    result = {}
    for row in found:
        result.setdefault(f"{row['query']}, {row['answer']}", []).append(row["negative"])
    return result


def world(**scores):
    return Lookup({"q": (1.0, 0.0), **{name.replace("_", " "): at(score) for name, score in scores.items()}})


def compare(row, what, wrong, dataset, model, **arguments):
    """`wrong` tells from a result whether the pitfall happened."""
    outcomes = [negatives(miner, dataset, model, **arguments) for miner in (peer, ours)]
    return result_of(row, what, outcomes, [bool(wrong(one)) for one in outcomes])


def mentions(result, text):
    return isinstance(result, dict) and any(text in found for found in result.values())


def cases():
    one = pairs(("q", "p"))
    model = world(p=-0.5, a=-0.45, b=-0.6, c=-0.9)
    yield compare(
        1,
        "negative positive score, relative_margin 0.05",
        lambda r: mentions(r, "a"),
        one,
        model,
        corpus=["a", "b", "c"],
        relative_margin=0.05,
        num_negatives=1,
    )
    model = world(p=0.9, a=0.5, b=0.4)
    model.vectors["bad"] = (float("nan"), 0.0)
    yield compare(
        3, "a document's vector is NaN", lambda r: mentions(r, "bad"), one, model, corpus=["a", "b", "bad"], num_negatives=2
    )
    two = pairs(("q", "p"), ("q", "far"))
    model = world(p=0.9, far=0.1, a=0.6, b=0.5, c=0.05)
    arguments = {"corpus": ["a", "b", "c"], "relative_margin": 0.05, "num_negatives": 2}
    starved = lambda r: "a" not in r.get("q, p", [])  # noqa: E731
    yield compare(4, "two positives, one scores low, relative_margin 0.05", starved, two, model, **arguments)
    model = world(p=0.9, P=0.89, a=0.5, b=0.4)
    model.vectors["  p "] = at(0.88)
    copied = lambda r: mentions(r, "P") or mentions(r, "  p ")  # noqa: E731
    arguments = {"corpus": ["P", "  p ", "a", "b"], "num_negatives": 2}
    yield compare(6, "the positive's text with other case and spaces", copied, one, model, **arguments)
    model = world(p=0.9, a=0.5, b=0.4)
    arguments = {"corpus": ["q", "a", "b"], "num_negatives": 2}
    yield compare(7, "the query is in the corpus", lambda r: mentions(r, "q"), one, model, **arguments)
    model = world(p=0.7, a=0.9, b=0.8, c=0.5, d=0.4, e=0.3, f=0.2)
    arguments = {"corpus": list("abcdef"), "range_min": 2, "relative_margin": 0.05, "num_negatives": 1}
    what = "range_min 2, relative_margin 0.05: ranks 1 (a) and 2 (b) fail both, rank 3 (c) passes both"
    yield compare(10, what, lambda r: r.get("q, p", [""])[0] != "c", one, model, **arguments)
    many = {f"n{i}": 0.9 - i / 1000 for i in range(60)}
    model = world(p=0.85, low1=0.5, low2=0.4, **many)
    arguments = {"corpus": [*many, "low1", "low2"], "absolute_margin": 0.2, "num_negatives": 2}
    what = "60 candidates fail the margin before the first that passes"
    yield compare(11, what, lambda r: not mentions(r, "low1"), one, model, **arguments)
    yield vanishing()
    yield unseeded()
    yield stale()
    model = world(p=0.9, a=0.5)
    model.vectors[""] = at(0.8)
    arguments = {"corpus": ["", "a"], "num_negatives": 1}
    yield compare(21, "an empty text in the corpus", lambda r: mentions(r, ""), one, model, **arguments)
    model, arguments = world(p=0.9, a=0.5), {"corpus": ["a"], "cross_encoder": object(), "num_negatives": 1}
    yield compare(25, "a cross-encoder without a margin", lambda r: isinstance(r, dict), one, model, **arguments)


def result_of(row, what, outcomes, wrong):
    return {"row": row, "what": what, "peer": outcomes[0], "ours": outcomes[1], "peer_fails": wrong[0], "we_fail": wrong[1]}


def vanishing():
    """A pair for which nothing passes: does anyone say so?"""
    import logging

    dataset = pairs(("q", "p"), ("r", "p2"))
    model = world(p=0.9, p2=0.6, a=0.62, b=0.61)
    model.vectors["r"] = (1.0, 0.0)
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    outcomes, wrong = [], []
    for miner in (peer, ours):
        said.clear()
        logging.getLogger().addHandler(handler)
        found = negatives(miner, dataset, model, corpus=["a", "b"], relative_margin=0.05, num_negatives=2)
        logging.getLogger().removeHandler(handler)
        outcomes.append(f"{found}, says {said}")
        wrong.append("r, p2" not in found and not said)
    return result_of(12, "a pair for which no candidate passes", outcomes, wrong)


def unseeded():
    names = {f"n{i}": 0.5 - i / 100 for i in range(30)}
    model, dataset = world(p=0.9, **names), pairs(("q", "p"))
    arguments = {"corpus": list(names), "sampling_strategy": "random", "range_max": 30, "num_negatives": 3}
    runs = [[negatives(miner, dataset, model, **arguments) for _ in range(3)] for miner in (peer, ours)]
    differ = [any(one != run[0] for one in run) for run in runs]
    return result_of(14, "sampling three times", ["different" if one else "equal" for one in differ], differ)


def stale():
    """The same model name with other weights, and a cache folder (ours is keyed by the weights: tests/embedding)."""
    dataset = pairs(("q", "p"))
    before, after = world(p=0.9, a=0.8, b=0.1), world(p=0.9, a=0.1, b=0.8)
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"corpus": ["a", "b"], "num_negatives": 1, "cache_folder": folder}
        negatives(peer, dataset, before, **arguments)
        result = negatives(peer, dataset, after, **arguments)
    own = negatives(ours, dataset, after, corpus=["a", "b"], num_negatives=1)
    what = "a second run after fine-tuning: the same model name, cache_folder"
    return result_of(15, what, [result, own], [mentions(result, "a"), mentions(own, "a")])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    rows = list(cases())
    if parser.parse_args().json:
        print(json.dumps(rows, default=str))
        return
    print(f"sentence-transformers {__version__}\n\n| row | input | peer | ours |\n|---|---|---|---|")
    for row in rows:
        marks = ["wrong" if row[name] else "right" for name in ("peer_fails", "we_fail")]
        print(f"| {row['row']} | {row['what']} | {marks[0]}: {row['peer']} | {marks[1]}: {row['ours']} |")


if __name__ == "__main__":
    main()
