"""Self-contained report pages: one HTML file that asks nobody for anything, and the same content as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from nv_retriever.files import write_aside
from nv_retriever.report.table import Cell, Table

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2024;--soft:#5b6570;--line:#d9dee3;--wash:#f4f6f8;--link:#0b57a4}
@media(prefers-color-scheme:dark){:root{--paper:#14171a;--ink:#e6e9ec;--soft:#9aa5b1;--line:#343b42;--wash:#1d2226;--link:#7ab8f5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3em}
h2{font-size:1.3rem;margin:2em 0 .4em}h3{font-size:1.05rem;margin:1.4em 0 .3em}
p,ul{max-width:76ch;margin:.6em 0}a{color:var(--link)}.subtitle,figcaption{color:var(--soft)}
code{font:.9em ui-monospace,Menlo,Consolas,monospace;background:var(--wash);padding:.1em .3em;border-radius:4px;
overflow-wrap:anywhere}
figure{margin:1em 0;min-width:0}figcaption{font-size:.9rem;margin-bottom:.4em;max-width:76ch}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;max-width:max-content}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4em .8em;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
tbody th{font-weight:400}tbody tr:last-child>*{border-bottom:0}thead th{background:var(--wash);font-weight:600}
.number{text-align:right}td.prose{white-space:normal;min-width:32ch;max-width:64ch;overflow-wrap:anywhere}
tr>:first-child{position:sticky;left:0;background:var(--paper)}
thead tr>:first-child{background:var(--wash)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:8px 32px;align-items:start}
.plots svg{display:block;width:100%;height:auto;max-width:640px}
@media(max-width:560px){main{padding:20px 14px 40px}h1{font-size:1.5rem}th,td{padding:.35em .55em}
tr>:first-child{min-width:30vw;max-width:42vw;white-space:normal;overflow-wrap:break-word}
.prose thead{display:none}.prose tr{display:flex;flex-wrap:wrap;border-bottom:1px solid var(--line)}
.prose tr>*{border:0;min-width:0;max-width:none}.prose tr>:empty{display:none}
td.prose{flex-basis:100%;min-width:0;max-width:none;padding-top:0}}
@media print{.scroll{overflow:visible;border:0}}
"""


def inline(text: str) -> str:
    """Return text as HTML: everything escaped, `code`, **bold** and [links](address) of Markdown kept.

    >>> inline("**a** < `b`")
    '<strong>a</strong> &lt; <code>b</code>'
    """
    html = escape(text, quote=True)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    return re.sub(r"\[([^\]]+)\]\(((?:https?://|#|\./)[^)\s]*)\)", r'<a href="\2">\1</a>', html)


@dataclass(frozen=True)
class _Heading:
    text: str
    level: int


@dataclass(frozen=True)
class _Quote:
    text: str


@dataclass(frozen=True)
class _Plot:
    svg: str
    caption: str


_Part = str | Table | _Heading | _Quote | _Plot | tuple[str, ...]


@dataclass
class Page:
    """A report that is put together part by part: `Page("Audit").add_text(...).add_table(...).add_plot(...).write(path)`."""

    title: str
    subtitle: str = ""
    parts: list[_Part] = field(default_factory=list)

    def add_heading(self, text: str, level: int = 2) -> Page:
        """Add a heading, level 2 or 3."""
        self.parts.append(_Heading(text, min(max(level, 2), 3)))
        return self

    def add_text(self, text: str) -> Page:
        """Add a paragraph; `code`, **bold** and [links](address) of Markdown are understood, HTML is shown as it is."""
        self.parts.append(text)
        return self

    def add_quote(self, text: str) -> Page:
        """Add a paragraph of somebody else's words: all of it is shown as it is, links and stars of Markdown too."""
        self.parts.append(_Quote(text))
        return self

    def add_list(self, items: Sequence[str]) -> Page:
        """Add a list of short texts, written as for `add_text`."""
        self.parts.append(tuple(items))
        return self

    def add_table(self, table: Table | Sequence[str], rows: Sequence[Sequence[Cell]] = (), caption: str = "") -> Page:
        """Add a table: a `Table`, or its columns and rows."""
        self.parts.append(table if isinstance(table, Table) else Table(table, rows, caption))
        return self

    def add_plot(self, svg: str, caption: str = "") -> Page:
        """Add a plot: an <svg> of `report.plots`; neighbours stand side by side where the page is wide enough."""
        self.parts.append(_Plot(svg, caption))
        return self

    def html(self) -> str:
        """Return the page: styles and plots inside it, no script, no address of anything else."""
        body: list[str] = []
        plots: list[str] = []
        for part in self.parts:
            if isinstance(part, _Plot):
                caption = f"<figcaption>{inline(part.caption)}</figcaption>" if part.caption else ""
                plots.append(f"<figure>{caption}{part.svg}</figure>")
                continue
            if plots:
                body.append(f'<div class="plots">{"".join(plots)}</div>')
                plots = []
            body.append(_part_html(part))
        if plots:
            body.append(f'<div class="plots">{"".join(plots)}</div>')
        subtitle = f'<p class="subtitle">{inline(self.subtitle)}</p>' if self.subtitle else ""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">\n'
            f"<style>{_STYLE}</style></head><body><main>\n<h1>{escape(self.title)}</h1>{subtitle}\n"
            + "\n".join(body)
            + "\n</main></body></html>\n"
        )

    def markdown(self, plot_names: Sequence[str] = ()) -> str:
        """Return the page as Markdown; `plot_names` are the addresses of its plots, in order."""
        lines, names = [f"# {self.title}", ""], iter(plot_names)
        if self.subtitle:
            lines += [self.subtitle, ""]
        for part in self.parts:
            if isinstance(part, _Heading):
                lines += ["#" * part.level + f" {part.text}", ""]
            elif isinstance(part, _Quote):
                lines += [re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(part.text.split())), ""]
            elif isinstance(part, Table):
                lines += [part.markdown()]
            elif isinstance(part, _Plot):
                name = next(names, "")
                lines += [f"![{part.caption or 'plot'}]({name})", ""] if name else []
            elif isinstance(part, tuple):
                lines += [f"- {item}" for item in part] + [""]
            else:
                lines += [part, ""]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, path: Path) -> Path:
        """Write the HTML page; returns its path."""
        with write_aside(path) as aside:
            aside.write_text(self.html(), encoding="utf-8")
        return path

    def write_markdown(self, path: Path) -> Path:
        """Write the page as Markdown, its plots as SVG files beside it (NAME-1.svg, …); returns its path."""
        names: list[str] = []
        for part in self.parts:
            if isinstance(part, _Plot):
                names.append(f"{path.stem}-{len(names) + 1}.svg")
                with write_aside(path.with_name(names[-1])) as aside:
                    aside.write_text(part.svg + "\n", encoding="utf-8")
        with write_aside(path) as aside:
            aside.write_text(self.markdown(names), encoding="utf-8")
        return path


def _part_html(part: _Part) -> str:
    if isinstance(part, _Heading):
        return f"<h{part.level}>{escape(part.text)}</h{part.level}>"
    if isinstance(part, _Quote):
        return f"<p>{escape(part.text)}</p>"
    if isinstance(part, Table):
        return part.html()
    if isinstance(part, tuple):
        return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in part) + "</ul>"
    assert isinstance(part, str)
    return f"<p>{inline(part)}</p>"
