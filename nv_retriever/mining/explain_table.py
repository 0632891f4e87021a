"""An explanation as JSON and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nv_retriever.mining.explain import Explanation, Row

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLUMNS = ("#", "rank", "score", "outcome", "document", "text")


def rows_to_json(explanation: Explanation) -> dict[str, Any]:
    """Return strict JSON data: the query, its positives, what is short, and all rows."""
    data = asdict(explanation)
    return data | {"rows": [asdict(row) for row in explanation.rows]}


def render(explanation: Explanation, width: int = 96) -> Group:
    """Return rich tables, one per (positive, teacher), texts cut to `width` characters."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(("query ", "bold"), f"{explanation.query_id}: {explanation.query}")
    rule = Text.assemble(("rule ", "bold"), explanation.rule, (" selection ", "bold"), explanation.selection)
    tables = [_table(list(rows), explanation, width) for rows in _groups(explanation.rows)]
    short = [Text(f"{positive} is short: {reason}", style="yellow") for positive, reason in explanation.short.items()]
    return Group(head, rule, *tables, *short)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.positive_id, row.teacher), []).append(row)
    return list(groups.values())


def _table(rows: list[Row], explanation: Explanation, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    first = rows[0]
    limit = "none" if first.limit is None else f"{first.limit:.4f}"
    positive = _cut(explanation.positives[first.positive_id], width)
    title = f"positive {first.positive_id}: {positive}\nteacher {first.teacher} · anchor {first.anchor:.4f} · limit {limit}"
    judged = any(row.judge for row in rows)
    table = Table(title=Text(title), title_justify="left", pad_edge=False, expand=False)
    for column in (*_COLUMNS[:4], *(["judge"] if judged else []), *_COLUMNS[4:]):
        table.add_column(column, justify="right" if column in ("#", "rank", "score") else "left", overflow="fold")
    for row in rows:
        cells = [
            "" if row.position is None else str(row.position + 1),
            "" if row.rank is None else str(row.rank),
            "" if row.score is None else f"{row.score:.4f}",
            row.outcome,
            *([row.judge or ""] if judged else []),
            row.document_id,
            _cut(row.text, width),
        ]
        style = "bold green" if row.position is not None else "dim"
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
