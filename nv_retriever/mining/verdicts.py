"""Verdicts of a judge: cached by content, so that a killed run goes on and a second run asks nothing twice."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nv_retriever.files import write_aside
from nv_retriever.mining.judge import Case, Judge, Judgement
from nv_retriever.mining.types import BoolArray, Rows, Samples
from nv_retriever.progress import progress
from nv_retriever.search.types import IntArray
from nv_retriever.sqlite_file import sqlite_problem

VERDICTS = pa.schema(
    [
        ("query_id", pa.string()),
        ("positive_id", pa.string()),
        ("document_id", pa.string()),
        ("judge", pa.string()),
        ("verdict", pa.string()),
        ("score", pa.float32()),
    ]
)
logger = logging.getLogger(__name__)
_BATCH = 64
"""Cases between two commits of the cache."""


class VerdictCache:
    """A judge whose verdicts are kept in an SQLite file, keyed by judge and texts."""

    def __init__(self, judge: Judge, path: Path | str, settings: str = "") -> None:
        self.name, self._judge, self._path, self._settings = judge.name, judge, str(path), settings
        self.asked = 0
        """Cases that the judge was asked, the cached ones left out."""
        if problem := sqlite_problem(Path(path)):
            damaged = Path(path).with_suffix(".damaged")
            logger.warning("%s cannot be read (%s): it is now %s, and the judge is asked again", path, problem, damaged.name)
            Path(path).replace(damaged)
        with closing(self._open()) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, verdict TEXT, score REAL)")

    def judge(self, cases: Sequence[Case]) -> list[Judgement]:
        """Return a judgement per case; new ones are committed in batches."""
        keys = [self._key(case) for case in cases]
        with closing(self._open()) as connection:
            known = {key: row for key in set(keys) if (row := self._known(connection, key)) is not None}
            new = list({key: case for key, case in zip(keys, cases, strict=True) if key not in known}.items())
            with progress("judge", len(new), "cases") as bar:
                for start in range(0, len(new), _BATCH):
                    part = new[start : start + _BATCH]
                    said = self._judge.judge([case for _, case in part])
                    self.asked += len(part)
                    rows = [(key, one.verdict, one.score) for (key, _), one in zip(part, said, strict=True)]
                    with connection:
                        connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", rows)
                    known |= {key: one for (key, _), one in zip(part, said, strict=True)}
                    bar.advance(len(part))
        return [known[key] for key in keys]

    def _open(self) -> sqlite3.Connection:
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self._path, timeout=60)

    def _key(self, case: Case) -> str:
        text = json.dumps([self.name, self._settings, case.query, case.positive, case.candidate])
        return hashlib.sha256(text.encode()).hexdigest()

    @staticmethod
    def _known(connection: sqlite3.Connection, key: str) -> Judgement | None:
        row = connection.execute("SELECT verdict, score FROM verdicts WHERE key = ?", (key,)).fetchone()
        return Judgement(*row) if row else None


class JudgedNegatives:
    """Vetoes what a judge drops or calls a positive, and remembers all verdicts of the run."""

    def __init__(self, judge: Judge, samples: Samples, texts: Callable[[str, list[int]], list[str]]) -> None:
        """`texts(what, rows)` gives the texts of `queries` (table rows) or `documents`."""
        self._judge, self._samples, self._texts = judge, samples, texts
        self.verdicts: dict[tuple[int, int], Judgement] = {}
        """(sample, document) -> judgement."""
        self.positives: dict[int, list[int]] = {}
        """sample -> documents that were judged positives of its query."""

    def __call__(self, samples: Rows, queries: IntArray, documents: IntArray) -> BoolArray:
        """Return which pairs the judge does not keep, (n,) each."""
        pairs = list(zip(samples.tolist(), documents.tolist(), strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.verdicts]
        if new:
            said = self._judge.judge(self._cases(new))
            self.verdicts |= dict(zip(new, said, strict=True))
            for (sample, document), one in zip(new, said, strict=True):
                if one.verdict == "positive":
                    self.positives.setdefault(sample, []).append(document)
        return np.array([self.verdicts[pair].verdict != "keep" for pair in pairs], bool)

    def _cases(self, pairs: list[tuple[int, int]]) -> list[Case]:
        at = [sample for sample, _ in pairs]
        queries = self._texts("queries", self._samples.queries[at].tolist())
        positives = self._texts("documents", self._samples.positives[at].tolist())
        candidates = self._texts("documents", [document for _, document in pairs])
        return [Case(*texts) for texts in zip(queries, positives, candidates, strict=True)]

    def write(self, path: Path, queries: np.ndarray, documents: np.ndarray) -> None:
        """Write all verdicts as Parquet, by sample, then document; ids of the tables' queries and of the documents."""
        rows = sorted(self.verdicts.items())
        at = np.array([pair[0] for pair, _ in rows], np.intp)
        columns = [
            pa.array(queries[self._samples.queries[at]], pa.string()),
            pa.array(documents[self._samples.positives[at]], pa.string()),
            pa.array(documents[np.array([pair[1] for pair, _ in rows], np.intp)], pa.string()),
            pa.array([self._judge.name] * len(rows), pa.string()),
            pa.array([one.verdict for _, one in rows], pa.string()),
            pa.array([one.score for _, one in rows], pa.float32()),
        ]
        with write_aside(path) as aside:
            pq.write_table(pa.Table.from_arrays(columns, schema=VERDICTS), aside)

    def counts(self) -> dict[str, int]:
        """Return the number of verdicts of each kind."""
        said = [one.verdict for one in self.verdicts.values()]
        return {verdict: said.count(verdict) for verdict in ("keep", "drop", "positive")}
