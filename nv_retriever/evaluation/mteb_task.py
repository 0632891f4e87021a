"""mteb itself, where it is installed: runs its evaluator on a local data set, as a second opinion on our numbers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import find_beir_set, mteb_task_name
from nv_retriever.teachers.config import EncoderConfig

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset


def open_for_mteb(config: EncoderConfig) -> Any:
    """Return the SentenceTransformer of an encoder with the prompts and lengths that our evaluation encodes with.

    Raises InputError for settings that a SentenceTransformer of the same folder does not take.
    """
    from sentence_transformers import SentenceTransformer

    from nv_retriever.teachers.encoder import resolve_encoder
    from nv_retriever.teachers.model_folder import locate_model

    if config.pooling is not None or config.normalize is not None:
        raise InputError("--with-mteb", "the model's own pooling and normalisation", "others in the settings")
    identity = resolve_encoder(config)
    length = identity.query_max_length
    if length != identity.document_max_length:
        raise InputError("--with-mteb", "one length of queries and documents", f"{length}, {identity.document_max_length}")
    path = locate_model(config.model, config.revision, config.trust_remote_code)
    prompts = {"query": identity.query_prompt, "document": identity.document_prompt}
    model = SentenceTransformer(str(path), prompts=prompts, trust_remote_code=config.trust_remote_code)
    if length:
        model.max_seq_length = length
    return model


def evaluate_with_mteb(
    model: Any,
    dataset: Dataset,
    split: str,
    results_folder: Path,
    ignore_identical_ids: bool = False,
    batch_size: int = 32,
) -> dict[str, float]:
    """Evaluate a SentenceTransformer, or anything that mteb encodes with, on a split; returns mteb's scores {name: value}.

    The task takes mteb's name and metadata where the data set is one of BEIR. mteb's own files (loaded by
    `mteb.ResultCache`) go to `results_folder`. The texts of the corpus are held in memory. Raises InputError where mteb is
    not installed.
    """
    logging.getLogger("mteb").setLevel(logging.WARNING)
    try:
        import mteb
    except ImportError:
        hint = 'pip install "mteb>=2.10,<3" (the extra `mteb`; its result files are written without it)'
        raise InputError("mteb", "an installed package", "none", hint) from None
    task = _task(dataset, split, ignore_identical_ids)
    cache = mteb.ResultCache(cache_path=results_folder)
    found = mteb.evaluate(
        model, [task], cache=cache, encode_kwargs={"batch_size": batch_size}, overwrite_strategy="always", co2_tracker=False
    )
    entry = found.task_results[0].scores[split][0]
    return {name: float(value) for name, value in entry.items() if isinstance(value, int | float)}


def _task(dataset: Dataset, split: str, ignore: bool) -> Any:
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    name = mteb_task_name(dataset.name)
    described = _described(name) if find_beir_set(dataset.name) else None
    if described is None:
        digest = str(dataset.info.get("digest") or "unknown")
        described = TaskMetadata(
            name=name,
            description=f"The data set {dataset.name}, evaluated locally.",
            dataset={"path": dataset.name, "revision": digest},
            type="Retrieval",
            eval_langs=["eng-Latn"],
            eval_splits=[split],
            main_score="ndcg_at_10",
        )

    class LocalRetrieval(AbsTaskRetrieval):  # type: ignore[misc]
        """The data set behind mteb's interface."""

        metadata = described
        ignore_identical_ids = ignore

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            """Hand the local data set to mteb."""
            self.dataset = {"default": {split: _split_data(dataset, split)}}
            self.data_loaded = True

    return LocalRetrieval().filter_eval_splits([split])


def _described(name: str) -> Any:
    import mteb

    try:
        return mteb.get_task(name).metadata
    except KeyError:
        return None


def _split_data(dataset: Dataset, split: str) -> dict[str, Any]:
    """Return a split as mteb's loaders give it: the text view is the document's text, the title is in it already."""
    from datasets import Dataset as HubDataset

    rows = dataset.query_rows(split)
    qrels = dataset.qrels(split)
    queries = set(rows.tolist())
    relevant: dict[str, dict[str, int]] = {}
    for query, document, grade in zip(qrels.query_rows, qrels.document_rows, qrels.grades, strict=True):
        if int(query) in queries:
            relevant.setdefault(dataset.query_ids[query], {})[dataset.document_ids[document]] = int(grade)
    texts = dataset.document_texts()
    corpus = {"id": dataset.document_ids.tolist(), "title": [""] * len(texts), "text": texts}
    asked = {"id": dataset.query_ids[rows].tolist(), "text": dataset.query_texts(rows)}
    return {
        "corpus": HubDataset.from_dict(corpus),
        "queries": HubDataset.from_dict(asked),
        "relevant_docs": relevant,
        "top_ranked": None,
    }
