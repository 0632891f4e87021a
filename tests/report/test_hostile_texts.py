"""Texts, ids and names that somebody wrote to harm who reads them: terminals and pages show all of it and obey none."""

import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from flows.console import show_plan
from nv_retriever.errors import printable
from nv_retriever.mining.explain import Explanation
from nv_retriever.mining.explain_rows import Row
from nv_retriever.mining.explain_table import page, render
from nv_retriever.report.html import Page

HARM = {
    "erases the screen": "\x1b[2J",
    "names the window": "\x1b]0;owned\x07",
    "one byte's escape": "\x9b31m",
    "goes back": "harmless\rharm",
    "turns the direction": "\u202egnp.exe",
}
MARKDOWN = "[here](https://example.org) **bold** `code` <script>alert(1)</script> \" ' <img src=x onerror=alert(2)>"


def explanation(text):
    row = Row(text, text, text, rank=1, score=0.5, anchor=0.9, limit=0.8, position=0, outcome="kept", text=text)
    return Explanation(text, text, "topk", "top(4)", {text: text}, {}, {text: "exhausted"}, (row,))


@pytest.mark.parametrize("name", HARM)
def test_a_terminal_shows_an_explanation_and_obeys_none_of_it(name, capsys):
    Console(width=200, force_terminal=False).print(render(explanation(HARM[name])))
    found = capsys.readouterr().out
    assert not set(HARM[name]) & set("\x1b\x07\x9b\r\u202e") & set(found)
    assert printable(HARM[name]) in found


def test_a_terminal_shows_a_plan_and_obeys_none_of_it(capsys):
    stage = {"stage": "ingest", "what": "\x1b[2Jdata", "artifact": f"dataset/{'0' * 32}", "cached": False, "why": "\x9b31m"}
    show_plan({"stages": [stage]})
    found = capsys.readouterr().out
    assert "\\x1b[2Jdata" in found and "\\x9b31m" in found and "\x1b" not in found


class _Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.found += [(tag, name) for name, _ in attributes] or [(tag, None)]

    def handle_data(self, data):
        self.text += data


def test_a_page_shows_texts_ids_and_names_as_they_are():
    elements = _Elements()
    elements.feed(page(explanation(MARKDOWN)).html())
    assert not {tag for tag, _ in elements.found} & {"script", "img", "a"}
    assert not {name for _, name in elements.found if name and name.startswith("on")}
    assert elements.text.count(MARKDOWN) == 9  # title, heading 1, query, heading 2, text, caption, document, text, shortage


def test_markdown_of_others_is_no_markdown():
    written = Page("t").add_quote(MARKDOWN).markdown()
    assert re.sub(r"\\(.)", r"\1", written) == f"# t\n\n{MARKDOWN}\n"
    assert not re.search(r"(?<!\\)[`*<\[\]]", written)
