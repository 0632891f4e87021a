"""The first records of files, checked as ingestion checks them all: what can be said of an input before anything starts."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from nv_retriever.data.beir import BeirFolder
from nv_retriever.data.config import DatasetConfig
from nv_retriever.data.open import empty_policy, is_path, open_source
from nv_retriever.data.pair_files import PairFiles, is_array
from nv_retriever.data.records import Problems
from nv_retriever.data.staging import Staging
from nv_retriever.data.text import TextView
from nv_retriever.errors import InputError

FIRST = 100
"""Documents, queries and labels that are looked at."""
LARGE = 1 << 24
"""Bytes of a JSON array, which has to be read as a whole, that are too many to look into."""


def check_head(config: DatasetConfig) -> None:
    """Raise the InputError of ingestion where the first records of a folder or file tell it; other sources pass."""
    if not is_path(config.source):
        return
    source = open_source(config)
    if not isinstance(source, BeirFolder | PairFiles):
        return
    files = source.files if isinstance(source, PairFiles) else []
    if any(is_array(file) and file.stat().st_size > LARGE for file in files):
        return
    problems = Problems()
    with TemporaryDirectory() as folder:
        staging = Staging(Path(folder), TextView(config.document_template), empty_policy(config))
        documents = list(islice(source.documents(problems), FIRST))
        staging.documents(documents, problems)
        queries = list(islice(source.queries(problems), FIRST))
        staging.queries(queries, problems)
        staging.labels(islice(source.labels(problems), FIRST), problems)
    for kind, records in (("documents", documents), ("queries", queries)):
        if not records:
            raise InputError(config.source, f"at least one of its {kind}", "none")
