"""A process does without what libraries load where it is installed, and nothing here needs. The images do not have it at all.

pyarrow loads pandas with its first array, wherever pandas is installed: a third of a second and some 45 MiB for each process of a
developer's environment. httpx loads a command line of its own, with all that colors it; kopf every client of Kubernetes that it finds.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

_NOT_NEEDED = frozenset({"pandas", "httpx._main", "pykube"})


class _WithoutExtras(MetaPathFinder):
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Nothing is found elsewhere once one of these is asked for."""
        del path, target
        if fullname in _NOT_NEEDED:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def without_extras() -> None:
    """From now on this process takes these for not installed. Call it before the first array is made."""
    if not any(isinstance(finder, _WithoutExtras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutExtras())
