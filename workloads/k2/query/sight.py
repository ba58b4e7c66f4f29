"""What the one who asks may see. It travels with every plan, so that no question can forget it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from k2.model.topics import DataType


@dataclass(frozen=True, slots=True)
class Sight:
    """Rows that may be seen; None is no bound.

    Attributes:
        data_types: kinds of data that may be asked for at all.
        exchanges: codes of exchanges.
        symbols: symbols.
        oldest_us: no event before this instant, microseconds since 1970 UTC.
    """

    data_types: frozenset[DataType] | None = None
    exchanges: frozenset[str] | None = None
    symbols: frozenset[str] | None = None
    oldest_us: int | None = None


EVERYTHING = Sight()
"""All rows of all tables."""
