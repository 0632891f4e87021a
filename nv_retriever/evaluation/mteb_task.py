"""mteb itself, where it is installed: runs its evaluator on a local data set, as a second opinion on our numbers."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nv_retriever.errors import InputError
from nv_retriever.evaluation.beir import find_beir_set, mteb_task_name
from nv_retriever.teachers.config import TeacherConfig

if TYPE_CHECKING:
    from nv_retriever.data.dataset import Dataset
    from nv_retriever.teachers.identity import EncoderIdentity


def check_for_mteb(teacher: TeacherConfig) -> EncoderIdentity:
    """Return what mteb is to measure; raises InputError where that cannot be, before anything is embedded.

    It has to be an encoder whose settings a SentenceTransformer of the same folder takes, and mteb has to be installed.
    """
    from nv_retriever.teachers.encoder import resolve_encoder

    if find_spec("mteb") is None:
        hint = 'pip install "mteb>=2.10,<3" (the extra `mteb`; its result files are written without it)'
        raise InputError("mteb", "an installed package", "none", hint)
    if teacher.kind != "encoder":
        raise InputError("--with-mteb", "an encoder: a folder or a hub name", teacher.name)
    if teacher.encoder.pooling is not None or teacher.encoder.normalize is not None:
        raise InputError("--with-mteb", "the model's own pooling and normalisation", "others in the settings")
    identity = resolve_encoder(teacher.encoder_config())
    lengths = identity.query_max_length, identity.document_max_length
    if lengths[0] != lengths[1]:
        raise InputError("--with-mteb", "one length of queries and documents", f"{lengths[0]}, {lengths[1]}")
    return identity


def open_for_mteb(teacher: TeacherConfig) -> Any:
    """Return the SentenceTransformer of an encoder with the prompts and lengths that our evaluation encodes with.

    Raises InputError as `check_for_mteb` does.
    """
    from sentence_transformers import SentenceTransformer

    from nv_retriever.teachers.model_folder import locate_model

    identity, config = check_for_mteb(teacher), teacher.encoder_config()
    path = locate_model(config.model, config.revision, config.trust_remote_code)
    prompts = {"query": identity.query_prompt, "document": identity.document_prompt}
    model = SentenceTransformer(
        str(path),
        prompts=prompts,
        trust_remote_code=config.trust_remote_code,
        local_files_only=not config.trust_remote_code,  # code may lie in a repository of its own
        model_kwargs={"use_safetensors": True},
    )
    if identity.query_max_length:
        model.max_seq_length = identity.query_max_length
    return model


def evaluate_with_mteb(
    model: Any, dataset: Dataset, split: str, results_folder: Path, ignore_identical_ids: bool = False
) -> dict[str, float]:
    """Evaluate a SentenceTransformer, or anything that mteb encodes with, on a split; returns mteb's scores {name: value}.

    The task takes mteb's name and metadata where the data set is one of BEIR. mteb's own files (loaded by
    `mteb.ResultCache`) go to `results_folder`. The texts of the corpus are held in memory.
    """
    import mteb

    logging.getLogger("mteb").setLevel(logging.WARNING)
    task = _task(dataset, split, ignore_identical_ids)
    cache = mteb.ResultCache(cache_path=results_folder)
    found = mteb.evaluate(
        model, [task], cache=cache, encode_kwargs={"batch_size": 32}, overwrite_strategy="always", co2_tracker=False
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
