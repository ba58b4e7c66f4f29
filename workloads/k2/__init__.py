"""K2's data plane: from a market's ticks to an answer.

Layers, top to bottom: `cli` → `client` → `api` → `query`, `sink`, `feeds` → `bus`, `lake` → `obs` → `model`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2.client import connect, connect_async

__all__ = ["__version__", "connect", "connect_async"]

try:
    __version__ = version("k2-market-data")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> object:
    # The client is loaded by those who connect, not by every workload.
    if name in ("connect", "connect_async"):
        from k2 import client

        return getattr(client, name)
    raise AttributeError(f"module 'k2' has no attribute {name!r}")
