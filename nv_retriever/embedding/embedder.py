"""What the embed stage needs of a model: where its vectors belong, and vectors for windows of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nv_retriever.data.dataset import Dataset
from nv_retriever.embedding.calibration import Fidelity, Recorded
from nv_retriever.search.types import FloatArray, ScoreKind
from nv_retriever.teachers.identity import Precision, Role


class TextEmbedder(Protocol):
    """Turns texts into vectors: an encoder, or a server."""

    label: str
    window_texts: int
    """Most texts that are embedded and committed at once."""

    @property
    def score_kind(self) -> ScoreKind:
        """The kind of score that inner products of its vectors are."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def space(self, precision: Precision) -> str:
        """Return the name of the vector space: what determines a vector apart from text and role."""
        ...

    def role_salt(self, role: Role) -> str:
        """Return what determines a vector of a role in this space apart from the text."""
        ...

    def settle(self, sample: Recorded, role: Role) -> tuple[Precision, Fidelity | None]:
        """Return the numeric path for texts of which `sample` is a sample."""
        ...

    def encode_windows(self, windows: Iterator[Sequence[str]], role: Role, precision: Precision) -> Iterator[FloatArray]:
        """Yield the vectors (n, dim) float32 of every window of texts; may read one window ahead."""
        ...


@runtime_checkable
class Precomputed(Protocol):
    """Has the vectors already, by id."""

    def write_part(self, folder: Path, dataset: Dataset, part: str) -> dict[str, Any]:
        """Write the vectors of `documents` or of a split's queries as an embeddings artifact; returns the counts."""
        ...
