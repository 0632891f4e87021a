"""What a teacher's name means: whether it is complete, where its model or vectors lie, and what identifies its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nv_retriever.errors import InputError
from nv_retriever.fingerprint import fingerprint
from nv_retriever.teachers.config import BM25Config, TeacherConfig
from nv_retriever.teachers.model_folder import check_model_name

if TYPE_CHECKING:
    from nv_retriever.search.types import ScoreKind


def check_teacher(teacher: TeacherConfig) -> None:
    """Raise InputError where a teacher's name lacks a part."""
    where, name = f"teacher {teacher.name!r}", teacher.name
    if not name.strip():
        raise InputError("teacher", "MODEL, bm25, cross-encoder:MODEL, endpoint:URL#MODEL or vectors:FOLDER", "nothing")
    if teacher.kind == "bm25" and name != "bm25":
        raise InputError(where, "`bm25`", repr(name))
    if teacher.kind in ("cross-encoder", "vectors") and not target(teacher):
        raise InputError(
            where, f"{teacher.kind}:{'MODEL' if teacher.kind == 'cross-encoder' else 'FOLDER'}", "nothing after the colon"
        )
    if teacher.kind == "endpoint":
        endpoint_parts(teacher)


def check_place(teacher: TeacherConfig) -> None:
    """Raise InputError where a teacher's name lacks a part, or is of a folder that is not there; the hub is not asked."""
    check_teacher(teacher)
    if teacher.kind in ("encoder", "cross-encoder"):
        check_model_name(target(teacher))
    if teacher.kind == "vectors" and not vectors_folder(teacher).is_dir():
        raise InputError(f"teacher {teacher.name!r}", "a folder of vectors", "no such folder")


def check_labels(teachers: Sequence[TeacherConfig]) -> None:
    """Raise InputError for two teachers of one label: triples, tables and exports tell them apart by it."""
    labels = [teacher.label for teacher in teachers]
    for place, label in enumerate(labels):
        if label in labels[:place]:
            hint = f"name one of them: teachers.{place}.alias (in a file, or --set teachers.{place}.alias=NAME)"
            raise InputError("teachers", "every name once", f"{label} more than once", hint)


def target(teacher: TeacherConfig) -> str:
    """Return what follows the kind in a teacher's name: a model or a folder."""
    return (teacher.name if teacher.kind == "encoder" else teacher.name.partition(":")[2]).strip()


def vectors_folder(teacher: TeacherConfig) -> Path:
    """Return the folder of a teacher of precomputed vectors."""
    return Path(target(teacher)).expanduser()  # no shell does so behind `vectors:`


def endpoint_parts(teacher: TeacherConfig) -> tuple[str, str]:
    """Return the URL and the model of `endpoint:URL#MODEL`."""
    url, _, model = target(teacher).rpartition("#")
    try:
        host = urlsplit(url).netloc
    except ValueError:  # as of [::1
        host = ""
    if not url.startswith(("http://", "https://")) or not host or not model:
        raise InputError(f"teacher {teacher.name!r}", "endpoint:URL#MODEL with an http(s) URL", repr(target(teacher)))
    if "@" in host:  # the name of a teacher stands in tables, logs and reports
        where = f"teacher endpoint:…#{model}"
        raise InputError(where, "a URL without a password", "one with", "set NVR_ENDPOINT_KEY for a key")
    return url, model


def teacher_digest(teacher: TeacherConfig) -> str:
    """Return what identifies a teacher's scores: its settings, and the content of its weights or files."""
    check_teacher(teacher)
    if teacher.kind == "bm25":
        if teacher.bm25 != BM25Config():  # that its words are known needs an import, and is known by default
            from nv_retriever.teachers.bm25 import open_tokenizer

            open_tokenizer(teacher.bm25)
        return fingerprint({"bm25": teacher.bm25})
    if teacher.kind == "cross-encoder":
        from nv_retriever.teachers.cross_encoder import resolve_cross_encoder

        return fingerprint({"cross-encoder": resolve_cross_encoder(target(teacher), teacher.encoder)})
    if teacher.kind == "endpoint":
        from nv_retriever.teachers.endpoint import EndpointIdentity

        return fingerprint({"endpoint": EndpointIdentity.of(teacher)})
    if teacher.kind == "vectors":
        from nv_retriever.teachers.precomputed import precomputed_digest

        return fingerprint({"vectors": precomputed_digest(vectors_folder(teacher)), "normalize": teacher.encoder.normalize})
    from nv_retriever.teachers.encoder import resolve_encoder

    return fingerprint({"encoder": resolve_encoder(teacher.encoder_config())})


def score_kind(teacher: TeacherConfig) -> ScoreKind:
    """Return what a teacher's scores are, without its weights."""
    if teacher.kind == "bm25":
        return "bm25"
    if teacher.kind == "cross-encoder":
        return "logit"
    if teacher.kind == "vectors":
        from nv_retriever.teachers.precomputed import PrecomputedVectors

        return PrecomputedVectors(vectors_folder(teacher), teacher.encoder.normalize).score_kind
    if teacher.kind == "endpoint":
        from nv_retriever.teachers.endpoint import EndpointEmbedder

        return EndpointEmbedder.of(teacher).score_kind
    from nv_retriever.teachers.encoder import resolve_encoder

    return resolve_encoder(teacher.encoder_config()).score_kind
