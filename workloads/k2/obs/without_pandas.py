"""A process that has no use for pandas does not load it: pyarrow does with its first array, wherever pandas is installed.

That costs each process a third of a second and some 45 MiB. The images have no pandas; a developer's environment does.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class _NoPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Nothing is found elsewhere once pandas is asked for."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name=fullname)


def without_pandas() -> None:
    """From now on this process takes pandas for not installed. Call it before the first array is made."""
    if not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())
