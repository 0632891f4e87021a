"""Which numeric path is sound for these texts: cosines between bf16 and fp32 vectors of a sample, bounded and remembered.

The choice depends on the model, the kind of hardware and the texts, never on a measured time, so that a rerun chooses the
same. The sample is the texts with the smallest keys (content hashes): independent of their order, and almost the same
after a small change of the corpus. Cosines are remembered per text, so that a rerun measures only what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nv_retriever.files import read_json, write_json
from nv_retriever.search.types import FloatArray

SAMPLE_TEXTS = 64
MIN_MEAN_COSINE = 0.9999
MIN_COSINE = 0.999


@dataclass(frozen=True)
class Fidelity:
    """Cosines between the vectors of a numeric path and those of fp32."""

    mean: float
    min: float
    texts: int

    def as_json(self) -> dict[str, float | int]:
        """Return the figures as they are recorded."""
        return {"mean_cosine": round(self.mean, 7), "min_cosine": round(self.min, 7), "texts": self.texts}


def is_faithful(fidelity: Fidelity) -> bool:
    """Return whether a path is as good as fp32: mean cosine at least 0.9999, smallest at least 0.999."""
    return fidelity.mean >= MIN_MEAN_COSINE and fidelity.min >= MIN_COSINE


def compare(vectors: FloatArray, reference: FloatArray) -> FloatArray:
    """Return the cosines of rows, (n, dim) and (n, dim) -> (n,) float32; 0 where one is not finite."""
    with np.errstate(all="ignore"):
        a, b = vectors.astype(np.float64), reference.astype(np.float64)
        cosines = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    result: FloatArray = np.where(np.isfinite(cosines), cosines, 0.0).astype(np.float32)
    return result


@dataclass(frozen=True)
class Recorded:
    """A sample of texts by key, and the file that remembers their cosines (None: nothing is remembered)."""

    texts: dict[str, str]
    path: Path | None

    @staticmethod
    def unrecorded(texts: Sequence[str]) -> Recorded:
        """Return a sample of texts that were given directly."""
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        step = max(1, len(unique) // SAMPLE_TEXTS)
        return Recorded({str(number): text for number, text in enumerate(unique[::step][:SAMPLE_TEXTS])}, None)

    def fidelity(self, measure: Callable[[Sequence[str]], FloatArray]) -> Fidelity:
        """Return the sample's fidelity; only texts whose cosine is not remembered are measured."""
        known = self._read()
        new = [key for key in self.texts if key not in known]
        if new:
            cosines = measure([self.texts[key] for key in new]).tolist()
            known.update(zip(new, (float(cosine) for cosine in cosines), strict=True))
            if self.path is not None:
                write_json(self.path, dict(sorted(known.items())))
        found = [known[key] for key in self.texts]
        return Fidelity(float(np.mean(found)), min(found), len(found)) if found else Fidelity(1.0, 1.0, 0)

    def _read(self) -> dict[str, float]:
        try:
            content = read_json(self.path) if self.path else {}
            return {str(key): float(value) for key, value in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
