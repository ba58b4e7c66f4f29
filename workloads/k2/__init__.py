"""K2's data plane: from a market's ticks to an answer.

Layers, top to bottom: `cli` → `api` → `query`, `sink`, `feeds` → `bus`, `lake` → `obs` → `model`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("k2-market-data")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
