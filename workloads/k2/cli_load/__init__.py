"""`k2 load`: files into a topic, and on request the wait until they are in the table. docs/feeds.md is its manual.

`commands` is what a person types and what follows, `printing` what they are told of it.
"""

from k2.cli_load.commands import register
from k2.cli_load.printing import SOME_REJECTED

__all__ = ["SOME_REJECTED", "register"]
