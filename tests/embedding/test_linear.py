"""The linear layer of the forward pass: close to the definition, the same bits whatever is computed beside a row."""

import math

import pytest
import torch
from torch.nn import functional

from nv_retriever.embedding.linear import Linear
from nv_retriever.hardware import fast_bf16


def layer(gelu, dtype, inner=96, outer=160, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outer, inner, generator=generator) / inner**0.5
    states, bias = torch.randn(300, inner, generator=generator), torch.randn(outer, generator=generator)
    return states.to(dtype), Linear(weight.to(dtype), bias.to(dtype), gelu), weight.to(dtype), bias.to(dtype)


def definition(states, weight, bias, gelu):
    found = states.double() @ weight.double().T + bias.double()
    if gelu == "none":
        return found * (1 + torch.erf(found / math.sqrt(2))) / 2
    if gelu == "tanh":
        return found * (1 + torch.tanh(math.sqrt(2 / math.pi) * (found + 0.044715 * found**3))) / 2
    return found


@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
@pytest.mark.parametrize(("dtype", "relative", "absolute"), [(torch.float32, 1e-5, 1e-5), (torch.bfloat16, 2**-7, 2**-9)])
def test_a_layer_is_what_its_definition_says(gelu, dtype, relative, absolute):
    states, linear, weight, bias = layer(gelu, dtype)
    found = linear(states)
    assert found.dtype == dtype and found.shape == (300, 160)
    torch.testing.assert_close(found.double(), definition(states, weight, bias, gelu), rtol=relative, atol=absolute)


def test_what_is_packed():
    assert not layer(None, torch.float32)[1].packed
    assert layer(None, torch.bfloat16)[1].packed == fast_bf16("cpu")


@pytest.mark.skipif(not fast_bf16("cpu"), reason="this processor multiplies no bf16")
@pytest.mark.parametrize("gelu", [None, "none"])
@pytest.mark.parametrize(("inner", "outer"), [(96, 160), (384, 1536), (30, 7)])
def test_neither_companions_nor_threads_change_a_bit_of_a_packed_row(gelu, inner, outer):
    states, linear, _, _ = layer(gelu, torch.bfloat16, inner, outer)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            whole = linear(states)
            for rows in (*range(1, 70), 127, 128, 255, 299):
                assert torch.equal(linear(states[:rows]), whole[:rows]), (number, rows)
                assert torch.equal(linear(states[1 : rows + 1].contiguous()), whole[1 : rows + 1]), (number, rows)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not fast_bf16("cpu"), reason="this processor multiplies no bf16")
def test_a_torch_without_the_packed_layer_computes_the_same_in_two_steps(monkeypatch):
    states, linear, weight, bias = layer("none", torch.bfloat16)
    monkeypatch.setattr("nv_retriever.embedding.linear._packs", lambda weight: False)
    plain = Linear(weight, bias, "none")
    assert torch.equal(plain(states), functional.gelu(functional.linear(states, weight, bias)))
    torch.testing.assert_close(plain(states), linear(states), rtol=2**-6, atol=2**-8)
