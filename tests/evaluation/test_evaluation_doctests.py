"""The examples in the docstrings, among them the hand-computed values of every statistic."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import nv_retriever.evaluation
import nv_retriever.report

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (nv_retriever.evaluation, nv_retriever.report)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
