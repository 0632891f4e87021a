"""The model card's front matter is read by hubs."""

from pathlib import Path

import pytest
import yaml

from nv_retriever.training.card import model_card


def test_the_base_model_is_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    found = {}
    for base in (
        "minilm",
        "BAAI/bge-small-en-v1.5",
        "models/mine",
        "models/mine/deeper",
        "~/mine",
        "./mine",
        "/mine",
        "mine",
    ):
        _, head, _ = model_card("A title", base, {}, {}).split("---\n", 2)
        found[base] = yaml.safe_load(head).get("base_model")
    assert {base: name for base, name in found.items() if name} == {
        "minilm": "sentence-transformers/all-MiniLM-L6-v2",
        "BAAI/bge-small-en-v1.5": "BAAI/bge-small-en-v1.5",
    }
