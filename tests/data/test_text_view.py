import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.text import TextView, content_hash, content_hashes, is_blank, normalise
from nv_retriever.errors import InputError


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("aÉß \u00ad\u0301\u0328\u034f\u115f\u200b\u200d\ufe0f\ufeff\uffa0"))
def test_normalise_is_idempotent_and_ignores_case_form_and_spaces(text):
    once = normalise(text)
    assert normalise(once) == once
    assert normalise(unicodedata.normalize("NFD", text)) == once == normalise(f" \t{text}\n")
    assert normalise(text.casefold()) == once


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("STRASSE", "straße"),
        ("ﬁne  Text", "fine\ntext"),
        ("Ⅻ", "xii"),
        ("É", "é"),
        ("\ufeffa co\u00adoperative\u200b❤\ufe0f", "a cooperative❤"),
    ],
)
def test_equal_texts(a, b):
    assert content_hash(a) == content_hash(b)


def test_hashes_are_s16_and_compare_whole():
    texts = [f"text {i}" for i in range(5000)]
    hashes = content_hashes(texts)
    assert hashes.dtype == np.dtype("S16") and len(np.unique(hashes)) == 5000
    assert np.array_equal(hashes, content_hashes([t.upper() for t in texts]))
    assert len(content_hashes([])) == 0


@pytest.mark.parametrize("text", ["", " ", "\u3000\u200b", "\ufeff", "\x00 \n", "\u3164"])
def test_blank(text):
    assert is_blank(text) and not is_blank(text + ".")


def test_views():
    assert TextView("{title}. {text}")("T", " x ") == "T.  x"
    assert TextView("{title} {text}").views(["a", ""], ["b", "c"]) == ["a b", "c"]


@pytest.mark.parametrize("template", ["{title}", "{text", "{text!r}", "{text:>9}", "{text} {body}", "{}", ""])
def test_wrong_templates(template):
    with pytest.raises(InputError):
        TextView(template)
    with pytest.raises(ValueError, match="document_template"):
        DatasetConfig(document_template=template)
