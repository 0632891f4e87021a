"""The first records of files, checked as ingestion checks them all: what a plan can say of an input in no time."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from nv_retriever.data.beir import BeirFolder
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.open import open_source
from nv_retriever.data.pair_files import PairFiles
from nv_retriever.data.records import Problems
from nv_retriever.data.staging import Staging
from nv_retriever.data.text import TextView
from nv_retriever.errors import InputError

FIRST = 100
"""Documents, queries and labels that are looked at."""


def check_head(config: DatasetConfig) -> None:
    """Raise the InputError of ingestion where the first records of a folder or file tell it; other sources pass.

    An array in a .json file is read as a whole, as ingestion does.
    """
    source = open_source(config)
    if not isinstance(source, BeirFolder | PairFiles):
        return
    problems = Problems()
    with TemporaryDirectory() as folder:
        staging = Staging(Path(folder), TextView(config.document_template), config.on_empty)
        documents = list(islice(source.documents(problems), FIRST))
        staging.documents(documents, problems)
        queries = list(islice(source.queries(problems), FIRST))
        staging.queries(queries, problems)
        staging.labels(islice(source.labels(problems), FIRST), problems)
    for kind, records in (("documents", documents), ("queries", queries)):
        if not records:
            raise InputError(config.source, f"at least one of its {kind}", "none")
