"""The page of benchmarks says what the committed results say."""

from pathlib import Path

from benchmarks.report import page


def test_the_page_is_made_from_the_committed_results():
    committed = Path(__file__).parents[1] / "docs" / "benchmarks.md"
    assert page().markdown() == committed.read_text(encoding="utf-8")
