"""The finaliser of SplitMix64 (Steele, Lea, Flood 2014): random numbers that depend on keys alone, on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64Array = npt.NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""What keys are moved on (or multiplied) by, so that neighbours and zero come out unlike each other."""


def scramble(values: U64Array) -> U64Array:
    """Return a bijective scrambling of 64-bit values, of any shape."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
