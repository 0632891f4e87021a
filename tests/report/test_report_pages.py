from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nv_retriever.report.html import Page
from nv_retriever.report.plots import Series, interval_plot, line_plot, scatter_plot, ticks
from nv_retriever.report.table import Table, format_cell, format_interval, format_p

PLOTS = {
    "lines": lambda: line_plot(
        [Series("a", [0, 1, 2], [1, 2, 3], [0, 1, 2], [2, 3, 4]), Series("b<", [0, 1], [1, 1])], "x", "y"
    ),
    "points": lambda: scatter_plot([Series("a", [0, 1], [5, 6])], "x & y", "y", "title <b>"),
    "intervals": lambda: interval_plot(
        ["a", "b" * 80], [0.1, 0.2], [0.0, None], [0.2, None], "x", zero=True, references=[0.3, None]
    ),
    "empty lines": lambda: line_plot([], "x", "y"),
    "one point": lambda: line_plot([Series("", [3], [0.0])], "x", "y"),
    "missing values": lambda: line_plot([Series("a", [0, 1, 2], [1, math.nan, 2])], "x", "y"),
    "no intervals": lambda: interval_plot([], [], [], [], "x"),
    "small numbers": lambda: interval_plot(["a"], [0.0001], [0.0], [0.0001], "x"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_well_formed_and_inside_their_frame(name):
    svg = PLOTS[name]()
    root = ET.fromstring(svg)
    width, height = map(float, root.get("viewBox").split()[2:])
    assert "nan" not in svg and "inf" not in svg
    for mark in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(mark.get("cx")) <= width
        assert 0 <= float(mark.get("cy")) <= height
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        if text.get("text-anchor") == "middle" and text.get("x"):
            assert float(text.get("x")) + 3.6 * len(text.text) <= width


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@settings(max_examples=100, deadline=None)
def test_ticks_cover_the_data_with_few_round_steps(low, spread):
    found = ticks(low, low + spread)
    assert found[0] <= low + 1e-6 * max(abs(low), spread, 1)
    assert found[-1] >= low + spread - 1e-6 * max(abs(low), spread, 1)
    assert 2 <= len(found) <= 9
    assert all(b > a for a, b in pairwise(found))


def page():
    built = (
        Page("A <report>", "of **tests**")
        .add_heading("One")
        .add_text("a `code` & <script>alert(1)</script> [x](https://e.org)")
    )
    built.add_table(["name", "value"], [["a|b", 0.5], ["<i>", None]], "caption").add_plot(PLOTS["lines"](), "plot")
    return built.add_list(["first", "second"])


def test_the_page_asks_nobody_for_anything_and_shows_no_foreign_markup():
    html = page().html()
    assert not re.search(r"<(script|link (?!rel=\"icon\" href=\"data:)|img|iframe|object)", html)
    assert not re.search(r"(src|@import|url\()", html.replace("<title>", ""))
    assert "&lt;script&gt;" in html and "&lt;i&gt;" in html and "A &lt;report&gt;" in html
    assert "<strong>tests</strong>" in html and '<a href="https://e.org">x</a>' in html


def test_dangerous_links_stay_text():
    assert "<a" not in Page("t").add_text("[x](javascript:alert(1))").html().split("<main>")[1]


def test_markdown_and_files(tmp_path):
    text = page().write_markdown(tmp_path / "r.md").read_text()
    assert text.startswith("# A <report>\n")
    assert "| a\\|b | 0.5000 |" in text
    assert "![plot](r-1.svg)" in text
    ET.fromstring((tmp_path / "r-1.svg").read_text())
    assert page().write(tmp_path / "r.html").read_text() == page().html()


def test_tables():
    table = Table(["name", "share", "count"], [["a", 0.12345, 1234567], ["b", None, 2]], digits=2, strong={(0, 1)})
    assert table.markdown().splitlines() == [
        "| name | share | count |",
        "| --- | ---: | ---: |",
        "| a | **0.12** | 1,234,567 |",
        "| b | – | 2 |",
    ]
    assert '<td class="number"><strong>0.12</strong></td>' in table.html()
    with pytest.raises(ValueError, match="2 columns"):
        Table(["a", "b"], [[1]])


def test_cells():
    assert format_cell(-0.5, 1) == "−0.5"
    assert format_cell(True) == "yes"
    assert format_interval(None, 1.0) == "–"
    assert (format_p(0.5), format_p(math.nan)) == ("0.5000", "–")
