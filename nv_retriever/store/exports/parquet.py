"""Everything as Parquet: the triples with all their columns and texts, the shortfall, the judge's verdicts, run.json."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.store.exports.format import Format, Written
from nv_retriever.store.exports.source import Source
from nv_retriever.store.mining_artifact import RUN, SHORTFALL, TRIPLES, VERDICTS


def write(source: Source, folder: Path) -> Written:
    """Write triples.parquet: its columns, then the texts query, positive, negative; and the artifact's other files."""
    written = Written()
    mining = source.artifact.folder
    schema = pq.read_schema(mining / TRIPLES)
    for name in ("query", "positive", "negative"):
        schema = schema.append(pa.field(name, pa.large_string()))
    with pq.ParquetWriter(folder / TRIPLES, schema, compression="zstd") as writer:
        for table in source.blocks():
            writer.write_table(table.cast(schema))
            written.rows += table.num_rows
    for name in (RUN, SHORTFALL, VERDICTS):
        if (mining / name).exists():
            shutil.copyfile(mining / name, folder / name)
    return written


FORMAT = Format(
    name="parquet",
    main=TRIPLES,
    write=write,
    usage='`pyarrow.parquet.read_table("{path}/triples.parquet")`, `duckdb.sql("from \'{path}/triples.parquet\'")`, or '
    '`datasets.load_dataset("{path}", split="train")`.',
    alone=(".parquet",),
    parts={"default": TRIPLES},
)
