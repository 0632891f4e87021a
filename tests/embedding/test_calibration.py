"""The numeric path depends on measured fidelity and on the hardware's kind, never on time; cosines are remembered."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nv_retriever import hardware
from nv_retriever.embedding.calibration import Fidelity, Recorded, compare, is_faithful
from nv_retriever.hardware import fast_bf16
from nv_retriever.teachers.config import EncoderConfig
from nv_retriever.teachers.encoder import Encoder, open_encoder


@pytest.mark.parametrize(
    ("mean", "least", "expected"),
    [(1.0, 1.0, True), (0.9999, 0.999, True), (0.99989, 0.9999, False), (0.99999, 0.9989, False), (0.0, 0.0, False)],
)
def test_bounds(mean, least, expected):
    assert is_faithful(Fidelity(mean, least, 64)) is expected


def test_cosines():
    a = np.array([[1, 0], [3, 4], [0, 0], [np.nan, 1], [1, 1]], np.float32)
    b = np.array([[2, 0], [4, 3], [1, 0], [1, 1], [-1, -1]], np.float32)
    assert compare(a, b).tolist() == pytest.approx([1, 0.96, 0, 0, -1])


def test_only_new_texts_are_measured(tmp_path):
    measured = []

    def measure(texts):
        measured.extend(texts)
        return np.array([0.9999 + len(text) / 1e6 for text in texts], np.float32)

    path = tmp_path / "fidelity" / "space.json"
    first = Recorded({"k1": "a", "k2": "bb"}, path).fidelity(measure)
    second = Recorded({"k2": "bb", "k3": "ccc"}, path).fidelity(measure)
    assert measured == ["a", "bb", "ccc"]
    assert (first.texts, second.texts) == (2, 2) and first.min < second.min
    path.write_text("broken")
    assert Recorded({"k1": "a", "k2": "bb"}, path).fidelity(measure) == first


class OnFastHardware(Encoder):
    """An encoder whose processor multiplies bf16 fast: only the question to the hardware is answered differently."""

    def candidate_precisions(self):
        return ("bf16", "fp32")


@pytest.mark.parametrize(("cosine", "expected"), [(0.99999, "bf16"), (0.9, "fp32")])
def test_auto_takes_bf16_where_it_is_faithful(small_encoder, tmp_path, cosine, expected):
    plain = open_encoder(EncoderConfig(model=str(small_encoder)))
    encoder = OnFastHardware(plain.identity, plain.files, plain.runtime, plain.label)
    path = tmp_path / "known.json"
    path.write_text(f'{{"key": {cosine}}}')
    precision, fidelity = encoder.settle(Recorded({"key": "a text"}, path), "document")
    assert (precision, fidelity.texts) == (expected, 1)
    assert encoder._loops == {}, "what is remembered loads no model"


def test_auto_measures_the_texts_themselves(small_encoder):
    plain = open_encoder(EncoderConfig(model=str(small_encoder)))
    encoder = OnFastHardware(plain.identity, plain.files, plain.runtime, plain.label)
    precision, fidelity = encoder.settle(Recorded.unrecorded(["the cat", "a dog sleeps", "night"]), "document")
    assert 0.9 < fidelity.min <= fidelity.mean <= 1.0 + 1e-6
    assert precision == ("bf16" if is_faithful(fidelity) else "fp32")


def test_precision_is_settled_without_measuring_where_there_is_one_choice(small_encoder, caplog, monkeypatch):
    monkeypatch.setattr(hardware, "fast_bf16", lambda _: False)  # the hardware is asked, and answers differently
    for setting in ("fp32", "bf16"):
        encoder = open_encoder(EncoderConfig(model=str(small_encoder), precision=setting))
        assert encoder.settle(Recorded({}, None), "query") == (setting, None)
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "emulated" in caplog.text
    slow = open_encoder(EncoderConfig(model=str(small_encoder)))
    assert slow.candidate_precisions() == (("bf16", "fp32") if fast_bf16("cpu") else ("fp32",))


def test_a_gpu_that_emulates_bf16_is_not_fast_at_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the hardware is asked, and answers differently
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for major, fast in ((7, False), (8, True)):
        properties = SimpleNamespace(major=major)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, properties=properties: properties)
        assert fast_bf16.__wrapped__("cuda") == fast
