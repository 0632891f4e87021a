"""A study's cells as one file: every trained model's value of every query, from which all tables can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.evaluation.ablation import Ablation, Cell
from nv_retriever.files import write_aside

CELLS = pa.schema(
    [
        ("question", pa.dictionary(pa.int32(), pa.string())),
        ("method", pa.dictionary(pa.int32(), pa.string())),
        ("teacher", pa.dictionary(pa.int32(), pa.string())),
        ("seed", pa.int32()),
        ("dataset", pa.dictionary(pa.int32(), pa.string())),
        ("query_id", pa.string()),
        ("value", pa.float32()),
    ]
)


def write_cells(path: Path, questions: Mapping[str, Ablation]) -> None:
    """Write {question: its cells} as Parquet, in their order; values are rounded to float32."""
    tables = [_table(name, cell) for name, ablation in questions.items() for cell in ablation.cells()]
    with write_aside(path) as aside:
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), aside, compression="zstd")


def read_cells(path: Path) -> dict[str, list[Cell]]:
    """Return {question: its cells} of a file that `write_cells` wrote."""
    frame = pq.read_table(path).to_pandas()
    keys = ["question", "method", "teacher", "seed", "dataset"]
    found: dict[str, list[Cell]] = {}
    for (question, method, teacher, seed, dataset), rows in frame.groupby(keys, sort=False, observed=True):
        values = rows["value"].to_numpy(np.float64)
        found.setdefault(question, []).append(Cell(method, teacher, int(seed), dataset, tuple(rows["query_id"]), values))
    return found


def merged(studies: Mapping[str, Iterable[Cell]]) -> list[Cell]:
    """Return the cells of {training set: cells} as one study, whose data sets are named `training set → data set`."""
    return [
        Cell(cell.method, cell.teacher, cell.seed, f"{trained} → {cell.dataset}", cell.query_ids, cell.values)
        for trained, cells in studies.items()
        for cell in cells
    ]


def _table(question: str, cell: Cell) -> pa.Table:
    n = len(cell.query_ids)
    constant = [question, cell.method, cell.teacher, cell.seed, cell.dataset]
    columns = [pa.array([value] * n) for value in constant] + [pa.array(cell.query_ids), pa.array(cell.values)]
    return pa.Table.from_arrays(
        [
            column.cast(field.type) if not pa.types.is_dictionary(field.type) else column.dictionary_encode()
            for column, field in zip(columns, CELLS, strict=True)
        ],
        schema=CELLS,
    )
