"""Open a teacher: what embeds for it, and what scores pairs and retrieves with it."""

from __future__ import annotations

from pathlib import Path

from nv_retriever.config import Runtime
from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.embedder import Precomputed, TextEmbedder
from nv_retriever.errors import InputError
from nv_retriever.search.types import Scorer
from nv_retriever.teachers.config import EncoderConfig, TeacherConfig
from nv_retriever.teachers.names import check_teacher, target, vectors_folder


def open_embedder(
    source: str, encoder: EncoderConfig, folder: Path | str | None = None, runtime: Runtime | None = None
) -> TextEmbedder | Precomputed:
    """Return what embeds for a teacher's name: an encoder (or `folder`, a workflow's own model), a server, given vectors."""
    from nv_retriever.teachers.encoder import open_encoder

    if folder is not None or not source:
        return open_encoder(encoder, folder, runtime)
    teacher = TeacherConfig(name=source, encoder=encoder)
    check_teacher(teacher)
    if teacher.kind == "endpoint":
        from nv_retriever.teachers.endpoint import EndpointEmbedder

        return EndpointEmbedder.of(teacher)
    if teacher.kind == "vectors":
        from nv_retriever.teachers.precomputed import PrecomputedVectors

        return PrecomputedVectors(vectors_folder(teacher), encoder.normalize)
    if teacher.kind != "encoder":
        raise InputError(f"teacher {source}", "a teacher with vectors", f"{teacher.kind}, which scores texts directly")
    return open_encoder(teacher.encoder_config(), runtime=runtime)


def open_scorer(
    teacher: TeacherConfig,
    dataset: Dataset,
    split: str,
    documents: Path | None = None,
    queries: Path | None = None,
    first: Path | None = None,
    runtime: Runtime | None = None,
    scores_root: Path | None = None,
) -> Scorer:
    """Return the scorer of a teacher over the data set's documents and the split's queries.

    `documents` and `queries` are its embeddings artifacts, `first` the candidates artifact that a cross-encoder rescores,
    whose scores are kept by content below `scores_root`.
    Raises InputError where one that it needs is missing.
    """
    runtime = runtime or Runtime()
    if documents is not None and queries is not None:
        from nv_retriever.embedding.shards import Vectors
        from nv_retriever.search.vectors import VectorScorer

        of_queries, of_documents = Vectors.open(queries), Vectors.open(documents)
        return VectorScorer(of_queries, of_documents, of_documents.score_kind, runtime)
    check_teacher(teacher)
    if teacher.kind == "bm25":
        from nv_retriever.teachers.bm25 import BM25Scorer

        return BM25Scorer(dataset, split, teacher.bm25)
    if teacher.kind == "cross-encoder":
        from nv_retriever.search.candidate_table import Candidates
        from nv_retriever.teachers.cross_encoder import CrossEncoderScorer

        if first is None:
            hint = "name another teacher before it, e.g. --teacher minilm"
            raise InputError(f"teacher {teacher.name}", "the candidates of a first teacher to rescore", "none", hint)
        table = Candidates.open(first)
        return CrossEncoderScorer(target(teacher), teacher.encoder, dataset, split, table, runtime, scores_root)
    raise InputError(f"teacher {teacher.name}", "embeddings of its documents and queries", "none")
