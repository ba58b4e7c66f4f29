"""How much a run asks: `make test` takes a sample of the seeds and sizes of `make test-full`, with the same assertions."""

from __future__ import annotations

import os
from typing import TypeVar

FULL = os.environ.get("K2_TEST_FULL") == "1"
"""Whether this is `make test-full`: all seeds and sizes, and times as docs/benchmarks.md and docs/operator.md state them."""


Number = TypeVar("Number", int, float)


def sized(sample: Number, full: Number) -> Number:
    """How many, or how long: `sample` in an ordinary run, `full` in `make test-full`."""
    return full if FULL else sample
