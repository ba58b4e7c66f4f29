"""What a shell is given for a Tab: symbols that the service knows, and fields. Never an error, never a word too many."""

from __future__ import annotations

import contextlib


def symbols(incomplete: str) -> list[str]:
    """Symbols of trades that begin so, in any case."""
    from k2.cli_query.options import opened
    from k2.model.errors import K2Error

    begun = incomplete.casefold()
    # A shell that gets an error prints it into the line that is typed.
    with contextlib.suppress(K2Error, OSError), opened(local=False, url=None) as client:
        found = client.symbols({"table": "trades"})["data"]
        return sorted({each["symbol"] for each in found if each["symbol"].casefold().startswith(begun)})
    return []


def fields(incomplete: str) -> list[str]:
    """Columns of trades and quotes that begin so; of a list with commas its last."""
    from k2.model.events import COLUMNS
    from k2.model.topics import DataType

    before, comma, begun = incomplete.rpartition(",")
    names = dict.fromkeys(column.name for kind in (DataType.TRADES, DataType.QUOTES) for column in COLUMNS[kind])
    return [f"{before}{comma}{name}" for name in names if name.startswith(begun)]
