"""`python -m k2_testing.killed_sink before:2 run sink`: the real command, which ends itself with SIGKILL at a chosen
point of its n-th commit: before the catalog is asked, during (metadata written, the catalog not yet switched), or after.
"""

from __future__ import annotations

import os
import signal
import sys

from pyiceberg.catalog.sql import SqlCatalog

from k2.cli import main


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: str, number: int) -> None:
    commit, write = SqlCatalog.commit_table, SqlCatalog._write_metadata
    seen = 0

    def counted(self, *args, **kwargs):
        nonlocal seen
        seen += 1
        if seen == number and point == "before":
            _die()
        done = commit(self, *args, **kwargs)
        if seen == number and point == "after":
            _die()
        return done

    def written(*args, **kwargs):
        write(*args, **kwargs)
        if seen == number and point == "during":
            _die()

    SqlCatalog.commit_table = counted
    SqlCatalog._write_metadata = staticmethod(written)


if __name__ == "__main__":
    where, _, which = sys.argv.pop(1).partition(":")
    _arm(where, int(which))
    main()
