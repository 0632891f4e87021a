"""Reads evaluation artifacts: the summary, and every query's value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.errors import ArtifactError, InputError
from nv_retriever.files import read_json


@dataclass(frozen=True)
class EvaluationResult:
    """One model on one split of one data set."""

    folder: Path
    info: dict[str, Any]
    """The content of evaluation.json."""

    @classmethod
    def open(cls, folder: Path) -> EvaluationResult:
        """Open an evaluation's folder; raises ArtifactError where it is incomplete."""
        try:
            info = read_json(folder / "evaluation.json")
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder} holds no readable evaluation: {error}") from error
        return cls(folder, info)

    @property
    def metrics(self) -> dict[str, float]:
        """The values over all queries, by ir_measures name."""
        return dict(self.info["metrics"])

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.info["model"])

    def per_query(self, metric: str) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.float64]]:
        """Return (query ids, values), both (n_queries,), of one metric; raises InputError for one not measured."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if metric not in self.metrics:
            raise InputError(f"evaluation of {self.model}", f"one of {', '.join(self.metrics)}", repr(metric))
        table = pq.read_table(self.folder / "per_query.parquet", filters=pc.field("metric") == metric)
        return table["query_id"].to_numpy(), table["value"].to_numpy()
