"""An explanation as JSON, as tables for a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nv_retriever.errors import printable
from nv_retriever.mining.explain import Explanation
from nv_retriever.mining.explain_rows import Row

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from nv_retriever.report.html import Page

_COLUMNS = ("#", "rank", "score", "outcome", "document", "text")
_TERMINAL_WIDTH, _PAGE_WIDTH = 96, 400
"""Characters to which texts are cut."""


def rows_to_json(explanation: Explanation) -> dict[str, Any]:
    """Return strict JSON data: the query, its positives, what is short, and all rows."""
    data = asdict(explanation)
    return data | {"rows": [asdict(row) for row in explanation.rows]}


def render(explanation: Explanation) -> Group:
    """Return rich tables for a terminal, one per (positive, teacher), texts cut short."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(("query ", "bold"), printable(f"{explanation.query_id}: {explanation.query}"))
    rule = Text.assemble(("rule ", "bold"), explanation.rule, (" selection ", "bold"), explanation.selection)
    tables = [_table(rows, explanation) for rows in _groups(explanation.rows)]
    short = [
        Text(printable(f"{positive} is short: {reason}"), style="yellow") for positive, reason in explanation.short.items()
    ]
    return Group(head, rule, *tables, *short)


def page(explanation: Explanation) -> Page:
    """Return a page with a table for each (positive, teacher), kept ones bold, texts cut less short."""
    from nv_retriever.report.html import Page
    from nv_retriever.report.table import Table

    found = Page(f"Query {explanation.query_id}").add_quote(explanation.query)
    found.add_text(f"Rule `{explanation.rule}`, selection `{explanation.selection}`.")
    for rows in _groups(explanation.rows):
        kind, text = _positive(rows[0], explanation)
        found.add_heading(f"{kind.capitalize()} {rows[0].positive_id}").add_quote(_cut(text, _PAGE_WIDTH))
        columns = _columns(rows)
        body = [_cells(row, columns, _PAGE_WIDTH) for row in rows]
        kept = [(i, column) for i, row in enumerate(rows) if row.position is not None for column in range(len(columns))]
        found.add_table(Table(columns, body, _caption(rows[0]), strong=kept))
    for positive, reason in explanation.short.items():
        found.add_quote(f"{positive} is short: {reason}")
    return found


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.positive_id, row.teacher), []).append(row)
    return list(groups.values())


def _columns(rows: list[Row]) -> tuple[str, ...]:
    judged = any(row.judge for row in rows)
    return (*_COLUMNS[:4], *(["judge"] if judged else []), *_COLUMNS[4:])


def _cells(row: Row, columns: tuple[str, ...], width: int) -> list[str]:
    cells = {
        "#": "" if row.position is None else str(row.position + 1),
        "rank": "" if row.rank is None else str(row.rank),
        "score": "" if row.score is None else f"{row.score:.4f}",
        "outcome": row.outcome,
        "judge": row.judge or "",
        "document": row.document_id,
        "text": _cut(row.text, width),
    }
    return [cells[column] for column in columns]


def _caption(row: Row) -> str:
    limit = "none" if row.limit is None else f"{row.limit:.4f}"
    return f"teacher {row.teacher} · anchor {row.anchor:.4f} · limit {limit}"


def _positive(row: Row, explanation: Explanation) -> tuple[str, str]:
    """Return what the positive of a row is, and its text."""
    if row.positive_id in explanation.positives:
        return "positive", explanation.positives[row.positive_id]
    return "judged positive", explanation.relabelled[row.positive_id]


def _table(rows: list[Row], explanation: Explanation) -> Table:
    from rich.table import Table
    from rich.text import Text

    kind, text = _positive(rows[0], explanation)
    title = f"{kind} {rows[0].positive_id}: {_cut(text, _TERMINAL_WIDTH)}\n{_caption(rows[0])}"
    table = Table(title=Text(printable(title)), title_justify="left", pad_edge=False, expand=False)
    columns = _columns(rows)
    for column in columns:
        table.add_column(column, justify="right" if column in ("#", "rank", "score") else "left", overflow="fold")
    for row in rows:
        style = "bold green" if row.position is not None else "dim"
        table.add_row(*(Text(printable(cell)) for cell in _cells(row, columns, _TERMINAL_WIDTH)), style=style)
    return table


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
