"""Attention over packed texts: close to the definition, and the same bits whatever is computed beside a text."""

import numpy as np
import pytest
import torch

from nv_retriever.embedding.attention import Attention
from nv_retriever.hardware import fast_bf16

HEADS, SIZE = 3, 32
LENGTHS = [300, 130, 65, 64, 49, 48, 48, 47, 33, 32, 31, 16, 7, 7, 1]
half_only = pytest.mark.skipif(not fast_bf16("cpu"), reason="this processor multiplies no bf16")
half = pytest.param(torch.bfloat16, marks=half_only)


def packed(lengths, dtype, rows=0):
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randn(length, 3 * HEADS * SIZE, generator=generator) for length in lengths]
    return torch.cat([*texts, torch.ones(rows, 3 * HEADS * SIZE)]).to(dtype)


def attend(qkv, lengths):
    return Attention(np.array(lengths), HEADS, SIZE, torch.device("cpu"), qkv.dtype)(qkv)


def definition(qkv, lengths):
    found = []
    for text in qkv.double().split(lengths):
        q, k, v = text.view(len(text), 3, HEADS, SIZE).permute(1, 2, 0, 3)
        found.append((torch.softmax(q @ k.transpose(1, 2) / SIZE**0.5, dim=-1) @ v).transpose(0, 1).reshape(len(text), -1))
    return torch.cat(found)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), pytest.param(torch.bfloat16, 0.02, marks=half_only)])
def test_attention_is_what_its_definition_says_and_idle_rows_are_zeros(dtype, error):
    qkv = packed(LENGTHS, dtype, rows=5)
    found = attend(qkv, LENGTHS)
    assert found.dtype == dtype and (found[-5:] == 0).all()
    torch.testing.assert_close(found[:-5].double(), definition(qkv[:-5], LENGTHS), rtol=error, atol=error)


@pytest.mark.parametrize("dtype", [torch.float32, half])
def test_neither_companions_nor_threads_change_a_bit_of_a_text(dtype):
    qkv = packed(LENGTHS, dtype)
    threads = torch.get_num_threads()
    alone = [attend(text.contiguous(), [len(text)]) for text in qkv.split(LENGTHS)]
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            together = attend(qkv, LENGTHS).split(LENGTHS)
            for length, one, other in zip(LENGTHS, alone, together, strict=True):
                assert torch.equal(one, other), (number, length)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [torch.float32, half])
def test_scores_beyond_the_range_of_powers_are_right_and_change_no_other_text(dtype):
    lengths = [130, 64, 64, 50]
    texts = list(packed(lengths, dtype).split(lengths))
    texts[1] = 10 * texts[1]
    texts[1][:, : 2 * HEADS * SIZE] *= 10
    qkv = torch.cat(texts)
    found = attend(qkv, lengths)
    torch.testing.assert_close(found.double(), definition(qkv, lengths), rtol=0.02, atol=0.2)
    torch.testing.assert_close(found.isfinite(), torch.ones_like(found, dtype=torch.bool))
    plain = attend(packed(lengths, dtype), lengths).split(lengths)
    for number in (0, 2, 3):
        assert torch.equal(found.split(lengths)[number], plain[number])


@half_only
def test_the_parts_of_a_very_long_text_change_no_bit(monkeypatch):
    lengths = [500, 300, 285, 90]
    qkv = packed(lengths, torch.bfloat16)
    whole = attend(qkv, lengths)
    for cells in (31 * 512 * HEADS, 64 * 512 * HEADS, 87_500 * HEADS):
        monkeypatch.setattr("nv_retriever.embedding.attention._CELLS", cells)
        assert torch.equal(attend(qkv, lengths), whole)


@pytest.mark.parametrize("dtype", [torch.float32, half])
def test_what_is_not_finite_stays_in_its_text(dtype):
    lengths = [130, 90, 49]
    texts = list(packed(lengths, dtype).split(lengths))
    plain = attend(torch.cat(texts), lengths).split(lengths)
    texts[0] = torch.full_like(texts[0], torch.nan)
    texts[1] = torch.full_like(texts[1], torch.inf)
    found = attend(torch.cat(texts), lengths).split(lengths)
    assert found[0].isnan().all() and found[1].isnan().all() and torch.equal(found[2], plain[2])
