"""Searches below limits that were made before are answered from disk, with exactly what a search would return."""

import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_worlds import ArrayVectors, exclusions_of

from nv_retriever.files import ABANDONED_SECONDS
from nv_retriever.search.remembered import RememberedScorer
from nv_retriever.search.vectors import VectorScorer

N_QUERIES, N_DOCUMENTS = 4, 25


class Counted:
    """A teacher that counts the searches it makes."""

    def __init__(self, scorer):
        self.scorer, self.searched = scorer, 0

    def __getattr__(self, name):
        return getattr(self.scorer, name)

    def search(self, query_rows, k, excluded, limits=None):
        self.searched += len(query_rows)
        return self.scorer.search(query_rows, k, excluded, limits)


def world(seed):
    """A teacher of integers, so that scores tie and limits are hit, one query of which is not finite; and exclusions."""
    rng = np.random.default_rng(seed)
    queries, documents = (rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (N_QUERIES, N_DOCUMENTS))
    queries[-1, 0] = np.nan
    excluded = exclusions_of([rng.choice(N_DOCUMENTS, rng.integers(0, 4), replace=False).tolist() for _ in queries])
    return Counted(VectorScorer(ArrayVectors(queries), ArrayVectors(documents), "dot")), excluded


def equal(one, other):
    names = ("documents", "scores", "above")
    return all(np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in names)


searches = st.tuples(
    st.lists(st.tuples(st.integers(0, N_QUERIES - 1), st.integers(-30, 30)), min_size=1, max_size=6),
    st.integers(0, N_DOCUMENTS + 3),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.lists(searches, min_size=1, max_size=6))
def test_any_sequence_of_searches_finds_what_the_teacher_finds(seed, asked):
    teacher, excluded = world(seed)
    with tempfile.TemporaryDirectory() as folder:
        remembered = RememberedScorer(teacher, Path(folder))
        for pairs, k, reopened in asked:
            if reopened:
                remembered = RememberedScorer(teacher, Path(folder))
            rows, limits = np.array(pairs).T
            rows, limits = rows.astype(np.int32), limits.astype(np.float32) / 2
            assert equal(
                remembered.search(rows, k, excluded.take(rows), limits), teacher.search(rows, k, excluded.take(rows), limits)
            )
            before = teacher.searched
            again = remembered.search(rows[::-1], k, excluded.take(rows[::-1]), limits[::-1])
            assert teacher.searched == before, "what was just searched is searched again"
            assert equal(again, teacher.search(rows[::-1], k, excluded.take(rows[::-1]), limits[::-1]))


def test_a_lower_limit_is_answered_while_enough_documents_are_left(tmp_path):
    documents = np.arange(N_DOCUMENTS, dtype=np.float32)[:, None]
    teacher = Counted(VectorScorer(ArrayVectors(np.ones((1, 1))), ArrayVectors(documents), "dot"))
    remembered, row, nothing = RememberedScorer(teacher, tmp_path), np.zeros(1, np.int32), exclusions_of([[]])

    def search(k, limit):
        """Return the searches that were made for one search, its documents, and how many are above."""
        before = teacher.searched
        found = remembered.search(row, k, nothing, np.array([limit], np.float32))
        return teacher.searched - before, found.documents[0].tolist(), int(found.above[0])

    assert search(2, 20.0) == (1, [19, 18], 5)  # and, unasked, down to 10
    assert search(4, 14.0) == (0, [13, 12, 11, 10], 11)
    assert search(5, 14.0) == (1, [13, 12, 11, 10, 9], 11)
    assert search(1, 21.0) == (1, [20], 4)
    assert search(8, 8.0) == (1, [7, 6, 5, 4, 3, 2, 1, 0], 17)  # the corpus ends here, which is known
    assert search(9, 3.0) == (0, [2, 1, 0, -1, -1, -1, -1, -1, -1], 22)
    assert search(3, -1.0) == (0, [-1, -1, -1], 25)


def test_searches_without_a_limit_or_with_one_that_is_no_number_are_the_teacher_s(tmp_path):
    teacher, excluded = world(0)
    remembered, rows = RememberedScorer(teacher, tmp_path), np.arange(N_QUERIES)
    assert equal(remembered.search(rows, 3, excluded), teacher.search(rows, 3, excluded))
    limits = np.array([1, np.nan, 2, np.inf], np.float32)
    assert equal(remembered.search(rows, 3, excluded, limits), teacher.search(rows, 3, excluded, limits))
    assert not list(tmp_path.iterdir())
    assert np.array_equal(remembered.score_pairs(rows[:2], rows[:2]), teacher.score_pairs(rows[:2], rows[:2]))
    assert remembered.documents is teacher.documents


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "another array"])
def test_a_damaged_file_is_dropped_and_searched_again(tmp_path, caplog, damage):
    teacher, excluded = world(1)
    rows, limits = np.arange(3), np.zeros(3, np.float32)
    expected = RememberedScorer(teacher, tmp_path).search(rows, 2, excluded.take(rows), limits)
    (path,) = tmp_path.iterdir()
    (tmp_path / "notes.npy").write_text("of somebody")
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
    elif damage == "truncated":
        content = content[:-7]
    elif damage == "empty":
        content = content[:0]
    path.write_bytes(bytes(content))
    if damage == "another array":
        np.save(path, np.arange(5))
    before = teacher.searched
    with caplog.at_level(logging.WARNING):
        found = RememberedScorer(teacher, tmp_path).search(rows, 2, excluded.take(rows), limits)
    assert equal(found, expected) and teacher.searched == before + 3
    assert str(path) in caplog.text and (tmp_path / "notes.npy").exists()
    assert path.exists(), "the search that was made again is kept"
    RememberedScorer(teacher, tmp_path).search(rows, 2, excluded.take(rows), limits)
    assert teacher.searched == before + 3


def test_beyond_a_number_of_bytes_what_was_used_last_stays(tmp_path):
    teacher, excluded = world(2)

    def search(remembered, query):
        """Return the searches that were made for one of a query."""
        before, row = teacher.searched, np.array([query])
        found = remembered.search(row, 2, excluded.take(row), np.zeros(1, np.float32))
        assert equal(found, teacher.search(row, 2, excluded.take(row), np.zeros(1, np.float32)))
        return teacher.searched - before - 1

    paths, remembered = [], RememberedScorer(teacher, tmp_path)
    for query in range(4):
        assert search(remembered, query) == 1
        paths += [path for path in tmp_path.iterdir() if path not in paths]
        os.utime(paths[-1], (time.time() - 1000 + query,) * 2)
    size = paths[0].stat().st_size
    remembered = RememberedScorer(teacher, tmp_path, most_bytes=4 * size)
    assert search(remembered, 0) == 0 and set(tmp_path.iterdir()) == set(paths)
    remembered = RememberedScorer(teacher, tmp_path, most_bytes=2 * size)
    assert set(tmp_path.iterdir()) == {paths[0], paths[3]}, "the first one was used last"
    assert [search(remembered, query) for query in range(4)] == [0, 1, 1, 0]


def test_a_process_goes_on_when_another_one_tidies(tmp_path):
    teacher, excluded = world(2)
    rows, limits = np.arange(3), np.zeros(3, np.float32)
    expected = RememberedScorer(teacher, tmp_path).search(rows, 2, excluded.take(rows), limits)
    opened, before = RememberedScorer(teacher, tmp_path), teacher.searched
    RememberedScorer(teacher, tmp_path, most_bytes=0)
    assert not list(tmp_path.iterdir())
    assert equal(opened.search(rows, 2, excluded.take(rows), limits), expected) and teacher.searched == before + 3


def test_what_a_killed_writer_left_goes_when_old(tmp_path):
    old, young = (tmp_path / f".0-3-0123456789abcdef.npy.{process}.part" for process in (7, 8))
    for path, age in ((old, ABANDONED_SECONDS + 60), (young, 60)):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    RememberedScorer(world(0)[0], tmp_path)
    assert list(tmp_path.iterdir()) == [young], "it may be a living writer's"
