"""Which device runs the models and whether it multiplies bf16 fast: asked without loading torch where possible."""

from __future__ import annotations

import logging
import platform
from functools import cache
from pathlib import Path
from typing import Literal

from nv_retriever.config import Runtime

logger = logging.getLogger(__name__)
Device = Literal["cpu", "cuda"]
FAST_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Without one of these, x86 processors emulate bf16 and are many times slower than in fp32, hundreds in training."""


@cache
def _cuda_works() -> bool:
    if not any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")) and platform.system() == "Linux":
        return False
    import torch

    return torch.cuda.is_available()


def device_kind(runtime: Runtime) -> Device:
    """Return where models run; raises nothing: a GPU that is asked for and missing is an error when it is used."""
    if runtime.device == "auto":
        return "cuda" if _cuda_works() else "cpu"
    return runtime.device


@cache
def fast_bf16(device: Device) -> bool:
    """Return whether bf16 products are faster than fp32 ones there; GPUs older than Ampere emulate them too."""
    if device == "cuda":
        import torch

        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    return bool(flags & (FAST_BF16_FLAGS | {"bf16"}))


def warn_of_emulation(what: str, precision: str, runtime: Runtime) -> None:
    """Log a warning where bf16 is asked for and no hardware multiplies it: nobody should wait for that unawares."""
    if precision == "bf16" and not fast_bf16(device_kind(runtime)):
        logger.warning("%s computes in bf16, as configured, which is emulated here: many times slower than fp32", what)
