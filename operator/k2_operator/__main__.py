"""`python -m k2_operator`: the operator, in a process that loads what it needs."""

from __future__ import annotations

import sys

from k2.obs.without_extras import without_extras


def main() -> int:
    """Entry point; the exit code is 2 for a mistake in the settings, 1 for anything else."""
    without_extras()  # before anything else is imported
    from k2_operator.process import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
