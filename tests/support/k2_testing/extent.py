"""How much a run asks: `make test` takes a sample of the seeds and sizes of `make test-full`, with the same assertions."""

from __future__ import annotations

import os

FULL = os.environ.get("K2_TEST_FULL") == "1"
"""Whether this is `make test-full`: all seeds and sizes, and times as docs/benchmarks.md and docs/operator.md state them."""


def sized(sample: int, full: int) -> int:
    """How many: `sample` in an ordinary run, `full` in `make test-full`."""
    return full if FULL else sample
