"""The embedded default, generated once for this file."""

import re
from collections import Counter
from dataclasses import asdict

import pytest
from data_helpers import ingest

from nv_retriever.data import stdlib
from nv_retriever.data.build import source_digest
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.leakage import find_leakage
from nv_retriever.data.stdlib_questions import ask, split_summary
from nv_retriever.data.text import normalise


@pytest.fixture(scope="module")
def records():
    return stdlib.read_records()


@pytest.fixture(scope="module")
def corpus(records):
    return stdlib.build_corpus(records)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return ingest("stdlib", tmp_path_factory.mktemp("stdlib"))


def test_sizes(corpus):
    splits = Counter(split for _, _, split, _ in corpus.queries)
    assert 5000 <= len(corpus.documents) <= 9000
    assert splits["train"] >= 1900 and splits["dev"] >= 300 and splits["test"] >= 400, splits


def test_the_same_again_whatever_the_order_of_the_records(records, corpus, dataset):
    assert asdict(stdlib.build_corpus(records[::-1])) == asdict(corpus)
    assert dataset.document_ids.tolist() == sorted(identifier for identifier, _, _ in corpus.documents)  # another process
    assert sorted(dataset.query_texts()) == sorted(text for _, text, _, _ in corpus.queries)
    views = {identifier: f"{title} {text}" for identifier, title, text in corpus.documents}
    assert dataset.document_texts() == [views[identifier] for identifier in dataset.document_ids]


def test_nothing_of_this_machine_or_process(corpus):
    for identifier, _, text in corpus.documents:
        assert not re.search(r"\b0x[0-9a-f]{9,}|/(?:home|root|work|tmp)/\w+/", text), identifier
    assert source_digest(DatasetConfig()) == source_digest(DatasetConfig(limit=3))


def test_a_question_neither_names_nor_repeats_its_answer(corpus):
    texts = {identifier: normalise(f"{title} {text}") for identifier, title, text in corpus.documents}
    for _, query, _, positives in corpus.queries:
        assert positives and len(positives) <= 8
        for document in positives:
            assert normalise(query) not in texts[document]
            assert "." not in document or document.split(":")[0].lower() not in query.lower().split()
        assert 3 <= len(query.split()) <= 30 and "\n" not in query and not re.search(r"[`{}<>|\\]", query)


def test_no_leakage(dataset):
    for held_out in ("dev", "test"):
        leakage = find_leakage(dataset, "train", dataset, held_out)
        assert not leakage and len(leakage.positives) <= 0.01 * leakage.n_positives, str(leakage)
    assert len(set(dataset.query_hashes.tolist())) == dataset.n_queries


def test_modules_are_held_out_whole(corpus):
    modules: dict[str, set[str]] = {}
    names = {identifier: title.split(".")[0] for identifier, title, _ in corpus.documents}
    for _, _, split, positives in corpus.queries:
        for document in positives:
            if "." in document:
                modules.setdefault(names[document], set()).add(split)
    assert [m for m, splits in modules.items() if len(splits) > 1] == []


def test_near_duplicates_stay_and_one_object_is_one_document(corpus):
    titles = {title for _, title, _ in corpus.documents}
    assert {"posixpath.basename", "ntpath.basename", "str.split", "bytes.split", "decimal.Decimal.quantize"} <= titles
    assert "json.loads" in titles and "json.JSONDecoder" in titles and "json.decoder.JSONDecoder" not in titles
    assert "os.path.join" not in titles and "posix.getpid" not in titles and "os.getpid" in titles


GOLDEN = [
    ("posixpath.getsize", "function", "Return the size of a file, reported by os.stat().", None),
    (
        "heapq.nlargest",
        "function",
        "Find the n largest elements in a dataset.",
        "how do I find the n largest elements in a dataset",
    ),
    (
        "io.BytesIO.getvalue",
        "method",
        "Retrieve the entire contents of the BytesIO object.",
        "how can I retrieve the entire contents of the BytesIO object",
    ),
    ("csv.list_dialects", "function", "Return a list of all known dialect names.", "get a list of all known dialect names"),
    (
        "sched.scheduler.cancel",
        "method",
        "Remove an event from the queue.",
        "how to remove an event from the queue with a scheduler",
    ),
    (
        "cmd.Cmd",
        "class",
        "A simple framework for writing line-oriented command interpreters.",
        "is there a simple framework for writing line-oriented command interpreters",
    ),
    ("x.y", "function", "Deprecated since 3.9, use z instead.", None),
    ("x.y", "function", "See the documentation.", None),
    ("x.Y.z", "method", "The trailing newline is stripped before it is returned.", None),
]


@pytest.mark.parametrize(("name", "kind", "summary", "question"), GOLDEN)
def test_questions(name, kind, summary, question):
    found = ask(name, kind, "(self)", summary)
    assert (found.text if found else None) == question


def test_summaries_and_call_lines():
    assert split_summary("f(x[, y]) -> int\n\nCount x.  And y.\n\nMore.", "") == ("(x[, y])", "Count x.", "And y.\n\nMore.")
    assert split_summary("D.keys() -> a view of D", "")[1] == "a view of D"
    assert split_summary("Use e.g. Spam or eggs.", "()") == ("()", "Use e.g. Spam or eggs.", "")
