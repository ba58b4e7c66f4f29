"""K2's data plane: from a market's ticks to an answer.

Layers, top to bottom: `cli` → `client`, `api` → `forms` → `query`, `sink`, `feeds` → `bus`, `lake` → `obs` → `model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2.client import connect, connect_async

    __version__: str

__all__ = ["__version__", "connect", "connect_async"]


def __getattr__(name: str) -> object:
    # The client is loaded by those who connect, not by every workload; the version, read from the installed package,
    # by those who tell it, not by every command.
    if name in ("connect", "connect_async"):
        from k2 import client

        return getattr(client, name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'k2' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("k2-market-data")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0"
