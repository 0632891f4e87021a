"""The audit stage: an `audit` artifact with audit.json, table.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nv_retriever.audit.audit import AuditResult, audit
from nv_retriever.audit.config import AuditConfig
from nv_retriever.audit.report import calibration_table, headline, judged_table, page, rows_table
from nv_retriever.data.dataset import Dataset
from nv_retriever.files import write_aside, write_json
from nv_retriever.search.candidate_table import Candidates
from nv_retriever.search.types import Scorer

JSON, TABLE, REPORT = "audit.json", "table.md", "report.html"


def write_audit(
    folder: Path,
    dataset: Dataset,
    split: str,
    candidates: Sequence[Candidates],
    config: AuditConfig | None = None,
    scorers: Sequence[Scorer | None] = (),
) -> dict[str, Any]:
    """Audit a split, write the three files and return audit.json's content.

    No gate is applied here, so that a run that fails it leaves its report.
    """
    result = audit(dataset, split, candidates, config, scorers)
    folder.mkdir(parents=True, exist_ok=True)
    page(result).write(folder / REPORT)
    with write_aside(folder / TABLE) as aside:
        aside.write_text(markdown(result), encoding="utf-8")
    content = {**result.to_json(), "report": REPORT}
    write_json(folder / JSON, content)
    return content


def markdown(result: AuditResult) -> str:
    """Return the tables of all teachers as Markdown."""
    parts = []
    for teacher in result.teachers:
        tables = [rows_table(teacher)]
        if teacher.calibration:
            tables.append(calibration_table(teacher))
        if teacher.agreement:
            tables.append(judged_table(teacher))
        parts += [headline(teacher) + "\n", *(table.markdown() for table in tables)]
    return "\n".join(parts)
