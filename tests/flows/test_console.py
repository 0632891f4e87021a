"""What people read at the end of a command."""

import io

from rich.console import Console

from flows.console import difference_cells, show_mined

COUNTS = {"triples": 1200, "queries": 310, "samples": 320, "run_id": "abc", "database": "home/triples.duckdb"}


def text(mining) -> str:
    console = Console(file=io.StringIO(), width=200)
    show_mined(console, mining)
    return console.file.getvalue()


def test_short_samples_come_with_their_reasons_in_words():
    found = text(COUNTS | {"short": 21, "short_reasons": {"exhausted": 20, "dropped: exhausted": 1}})
    assert "Mined 1,200 negatives for 310 queries; run abc in home/triples.duckdb" in found
    assert "21 of 320 samples have fewer than asked: the corpus has no more documents below their limits (20)" in found
    assert "dropped: exhausted (1)" in found and "nvr explain" in found


def test_nothing_is_said_of_shortness_where_there_is_none():
    assert "fewer" not in text(COUNTS | {"short": 0, "short_reasons": {}})


def test_a_difference_without_an_interval_is_shown_with_a_dash():
    one_query = {"nDCG@10": 0.25, "ci95": [None, None], "p": 1.0, "queries": 1}
    assert difference_cells("nDCG@10", one_query)["95 % interval"] == "–"
    several = difference_cells("nDCG@10", one_query | {"ci95": [-0.1, 0.6]})
    assert several == {"Δ nDCG@10 to base": "+0.2500", "95 % interval": "[-0.1000, +0.6000]", "p": "1"}
