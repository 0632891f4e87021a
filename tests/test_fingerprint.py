import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nv_retriever.config import Frozen, Runtime
from nv_retriever.fingerprint import canonical, file_digest, files_below, fingerprint, folder_digest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Settings(Frozen):
    a: int = 1
    runtime: Runtime = Runtime()


@given(st.dictionaries(st.text(), JSON))
def test_order_of_keys_does_not_matter(value):
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))


@given(JSON, JSON)
def test_different_canonical_values_have_different_fingerprints(first, second):
    same = repr(canonical(first)) == repr(canonical(second))
    assert same == (fingerprint(first) == fingerprint(second))


def test_runtime_is_left_out_by_type_and_everything_else_counts():
    assert fingerprint(Settings()) == fingerprint(Settings(runtime=Runtime(batch_tokens=99)))
    assert fingerprint(Settings()) != fingerprint(Settings(a=2))


@pytest.mark.parametrize("value", [object(), {1: 2}, float("nan"), {"a": {1, 2}}, b"bytes"])
def test_unknown_types_raise(value):
    with pytest.raises(TypeError):
        fingerprint(value)


def test_enumerations_count_as_their_value():
    class Colour(enum.StrEnum):
        RED = "red"

    assert fingerprint({"c": Colour.RED}) == fingerprint({"c": "red"})


def test_digests_follow_the_content_not_the_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text("same")
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    before = file_digest(tmp_path / "one" / "deep" / "file")
    (tmp_path / "one" / "deep" / "file").write_text("other")
    assert file_digest(tmp_path / "one" / "deep" / "file") != before
    assert folder_digest(tmp_path / "one") != folder_digest(tmp_path / "two")


def test_linked_folders_are_read_and_a_link_back_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "back").symlink_to(tmp_path / "folder")
    for name in ("one", "two"):
        (tmp_path / "folder" / name).symlink_to(tmp_path / "elsewhere")
    found = []
    for content in ("first", "second"):
        (tmp_path / "elsewhere" / "file").write_text(content)
        found.append(folder_digest(tmp_path / "folder"))
    assert found[0] != found[1]
    assert sorted(str(path.relative_to(tmp_path)) for path in files_below(tmp_path / "folder")) == [
        "folder/one/file",
        "folder/two/file",
    ]
