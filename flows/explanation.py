"""Why this negative, why not that one: read from the stored candidates, without a flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nv_retriever.artifacts import ArtifactStore
from nv_retriever.errors import InputError
from nv_retriever.plan.config import PipelineConfig
from nv_retriever.plan.specifications import mining_spec
from nv_retriever.search.candidate_table import Candidates

Json = dict[str, Any]


def explain_query(
    query_id: str, config: PipelineConfig, home: str, html: Path | None = None, document_id: str | None = None
) -> tuple[Json, Callable[[Json], None]]:
    """Return the explanation as JSON data, and how to show it; raises InputError where nothing was mined yet.

    With `html` it is also written there, as one self-contained page; with `document_id` it is about that document alone.
    """
    from nv_retriever.mining.explain import explain
    from nv_retriever.mining.explain_table import page, render, rows_to_json
    from tasks.opening import open_dataset, open_scorer, verdict_cache

    store = ArtifactStore(home)
    spec = mining_spec(config)
    missing = [candidates.ref for candidates in spec.candidates if not store.is_complete(candidates.ref)]
    if missing or not store.is_complete(spec.dataset.ref):
        raise InputError(home, "candidates of this configuration", "none", "run `nvr mine` with the same options first")
    explanation = explain(
        open_dataset(spec.dataset, store),
        spec.split,
        [Candidates.open(store.open(candidates.ref)) for candidates in spec.candidates],
        spec.configured,
        query_id,
        seed=spec.seed,
        open_scorer=lambda teacher: open_scorer(spec.candidates[teacher], store, config.runtime),
        verdicts=verdict_cache(store),
        document_id=document_id,
    )

    if html is not None:
        page(explanation).write(html)

    def show(_: Json) -> None:
        from flows.console import open_console

        open_console().print(render(explanation))

    return rows_to_json(explanation), show
