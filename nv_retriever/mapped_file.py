"""Arrays that are filled through a memory map: they lie on disk, and their space is taken before they are filled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nv_retriever.disk import place_named


def create_mapped(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[Any]]:
    """Return the array of a new .npy file, for writing; raises OSError where the disk has no room for it.

    In a file with holes a page that finds no room would end the process by SIGBUS, without a word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with place_named(path), path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
