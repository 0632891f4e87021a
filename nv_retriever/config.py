"""The base of every configuration model, and the settings that cannot change a result."""

from __future__ import annotations

import os
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nv_retriever.errors import InputError

MOST_SEED = 2**31 - 1
"""Numpy takes seeds of 32 bits, and a study's table of cells holds them as int32."""


class Frozen(BaseModel):
    """An immutable model that refuses unknown keys; attribute docstrings are the fields' descriptions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, values: Any) -> Any:
        """Refuse what YAML makes of yes, no, on and off where a number is wanted: it would be 1 or 0."""
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool) and name in cls.model_fields and not _takes_bool(cls.model_fields[name].annotation):
                raise InputError(name, "a value that is no yes or no (text in quotes)", repr(value))
        return values

    def differs(self, name: str) -> bool:
        """Return whether a setting has another value than by default."""
        return bool(getattr(self, name) != type(self).model_fields[name].default)


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_bool, get_args(annotation)))


class Unfingerprinted(Frozen):
    """Settings that cannot change a result: values of this type are left out of every fingerprint."""


class Runtime(Unfingerprinted):
    """How a run is carried out: nothing here changes a result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run and exact search multiplies; auto takes a GPU where there is one."""
    batch_tokens: int = Field(default=2048, ge=16)
    """Tokens (padding included) in one encoder batch."""
    memory_budget_mb: int | None = Field(default=None, ge=16)
    """Memory that search may use, in MiB; by default a quarter of the machine's."""
    workers: int | None = Field(default=None, ge=1)
    """Threads of the numerical libraries; by default theirs."""
    runner: Literal["local", "dask", "ray"] = "local"
    """Where texts are embedded and queries searched: in this process, or in parts by the workers of a cluster."""
    cluster: str | None = None
    """Address of a running cluster (Dask: tcp://HOST:8786, Ray: HOST:6379); without one, workers start on this machine."""
    processes: int = Field(default=2, ge=1)
    """Workers of a cluster that is started on this machine."""
    parts: int = Field(default=8, ge=1)
    """Parts that a stage is cut into on a cluster; a lost worker costs the part that it had."""

    @model_validator(mode="after")
    def _a_cluster_has_a_runner(self) -> Self:
        if self.runner == "local" and self.cluster:
            raise InputError("runtime.cluster", "runner dask or ray", "runner local, which would not use it")
        return self

    def memory_budget_bytes(self) -> int:
        """Return the memory budget in bytes."""
        if self.memory_budget_mb is not None:
            return self.memory_budget_mb * 2**20
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
