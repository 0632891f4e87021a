"""What every benchmark says of its machine, and the peak memory of its process."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any


def describe(threads: int) -> dict[str, Any]:
    """Describe the processor, without names of places."""
    lines = _read("/proc/cpuinfo")
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    wide = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    return {"processor": model, "features": wide, "threads": threads, "load": os.getloadavg()[0]}


def peak_mb() -> float:
    """Return this process's peak resident memory, in MiB."""
    # On Linux getrusage counts what the parent held when it started this process.
    line = next((line for line in _read("/proc/self/status") if line.startswith("VmHWM")), None)
    if line:
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
