"""One table, three outputs: Markdown, HTML, plain rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

Cell = str | int | float | None
PROSE = 60
"""Characters from which on a cell is text to read: its column breaks lines in HTML."""


def format_cell(value: Cell, digits: int = 4) -> str:
    """Return a cell as text: floats with `digits` decimals, whole numbers in groups of three, nothing as a dash.

    >>> format_cell(0.64508), format_cell(728160), format_cell(None), format_cell(float("nan"))
    ('0.6451', '728,160', '–', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.{digits}f}".replace("-", "−")
    return str(value)


def format_interval(low: float | None, high: float | None, signed: bool = True) -> str:
    """Return an interval as text.

    >>> format_interval(-0.001, 0.0123)
    '[−0.0010, +0.0123]'
    """
    if low is None or high is None:
        return "–"
    sign = "+" if signed else ""
    return f"[{low:{sign}.4f}, {high:{sign}.4f}]".replace("-", "−")


def format_p(p: float | None) -> str:
    """Return a p-value as text.

    >>> format_p(0.00004), format_p(0.0312), format_p(None)
    ('< 0.0001', '0.0312', '–')
    """
    if p is None or math.isnan(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


@dataclass(frozen=True)
class Table:
    """Columns, rows of plain values, and what to say about them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    digits: int = 4
    """Decimals of floats."""
    strong: Collection[tuple[int, int]] = ()
    """(row, column) of the cells to stress, such as the best of a column."""

    def __post_init__(self) -> None:
        wrong = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if wrong is not None:
            raise ValueError(f"a row of {len(wrong)} cells in a table of {len(self.columns)} columns: {wrong}")

    def texts(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[format_cell(cell, self.digits) for cell in row] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Return whether a column holds numbers (or nothing) only, and at least one: it is set flush right."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)

    def markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table, the caption above it."""
        rows = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in self.texts()]
        for row, column in self.strong:
            rows[row][column] = f"**{rows[row][column]}**"
        head = "| " + " | ".join(name.replace("|", "\\|") for name in self.columns) + " |"
        rule = "|" + "|".join(" ---: " if self.numeric(index) else " --- " for index in range(len(self.columns))) + "|"
        body = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join(([f"{self.caption}", ""] if self.caption else []) + [head, rule, *body]) + "\n"

    def html(self) -> str:
        """Return a <figure> with the table; where the page is narrow it scrolls, or rows of prose become blocks."""
        texts = self.texts()
        classes = [' class="number"' if self.numeric(index) else "" for index in range(len(self.columns))]
        for column in range(1, len(self.columns)):
            if any(len(row[column]) > PROSE for row in texts):
                classes[column] = ' class="prose"'
        head = "".join(
            f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(self.columns, classes, strict=True)
        )
        body = []
        for number, row in enumerate(texts):
            cells = []
            for column, (text, kind) in enumerate(zip(row, classes, strict=True)):
                inner = f"<strong>{escape(text)}</strong>" if text and (number, column) in self.strong else escape(text)
                cells.append(f'<th scope="row">{inner}</th>' if column == 0 else f"<td{kind}>{inner}</td>")
            body.append(f"<tr>{''.join(cells)}</tr>")
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        kind = "scroll prose" if ' class="prose"' in classes else "scroll"
        return f'<figure>{caption}<div class="{kind}" tabindex="0">{table}</div></figure>'
