"""NV-Retriever: positive-aware hard-negative mining, and everything around it that makes a retriever better.

>>> from nv_retriever import mine
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nv_retriever.mining.library import mine

__all__ = ["mine"]


def __getattr__(name: str) -> Any:
    """Load `mine` on first use, so that importing the package stays cheap."""
    if name == "mine":
        from nv_retriever.mining.library import mine

        return mine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
