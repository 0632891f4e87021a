"""Ranges and joins equal what loops over lists give."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nv_retriever.ragged import join, owners, ranges, row_offsets

values = st.lists(st.integers(0, 5), max_size=12)
columns = values.map(lambda rows: np.array(rows, np.int64))


@given(values)
def test_offsets_and_owners(counts):
    offsets = row_offsets(np.array(counts, np.int64))
    assert offsets.dtype == np.int64 and offsets.tolist() == [sum(counts[:row]) for row in range(len(counts) + 1)]
    expected = [row for row, count in enumerate(counts) for _ in range(count)]
    assert owners(offsets).dtype == np.int32 and owners(offsets).tolist() == expected


@given(st.lists(st.booleans(), max_size=12))
def test_offsets_of_a_mask(mask):
    assert row_offsets(np.array(mask, bool)).tolist() == [sum(mask[:row]) for row in range(len(mask) + 1)]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=12))
def test_ranges(rows):
    starts, counts = np.array(rows, np.int64).reshape(-1, 2).T
    owner, index = ranges(starts, counts)
    expected = [(row, start + step) for row, (start, count) in enumerate(rows) for step in range(count)]
    assert list(zip(owner.tolist(), index.tolist(), strict=True)) == expected


@given(columns, columns)
def test_join(wanted, there):
    expected = [(i, j) for i, one in enumerate(wanted) for j, other in enumerate(there) if one == other]
    assert list(zip(*(rows.tolist() for rows in join(wanted, there)), strict=True)) == expected
