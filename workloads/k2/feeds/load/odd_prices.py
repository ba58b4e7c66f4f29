"""A unit that makes prices absurd: the first rows of a load held against the last prices that the table has of their symbols."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa

from k2.feeds.load.chunks import FiniteSource
from k2.model.compute import pc
from k2.model.topics import DataType

TIMES = 100
"""So many times more or less than the last price is no market any more."""
_SYMBOLS = 10


def odd_prices(source: FiniteSource, last: Callable[[DataType, str], Decimal | None]) -> list[str]:
    """A sentence for each symbol of the first rows whose prices are far from its last one.

    Args:
        source: what is to be loaded; its beginning is parsed for this alone.
        last: the last known price of a symbol, or None.

    Raises:
        UserError: the source cannot be used.
    """
    for chunk in source.chunks():
        for data_type, batch in chunk.events:
            if data_type is DataType.REFERENCE_DATA:
                return []
            return list(_odd(data_type, batch, last))
    return []


def _odd(data_type: DataType, batch: pa.RecordBatch, last: Callable[[DataType, str], Decimal | None]) -> list[str]:
    prices = batch.column("price" if data_type is DataType.TRADES else "bid_price")
    symbols = batch.column("symbol")
    told: list[str] = []
    for symbol in pc.unique(symbols).to_pylist()[:_SYMBOLS]:
        own = prices.filter(pc.equal(symbols, symbol)).drop_null()
        known = last(data_type, symbol) if len(own) else None
        if not known:
            continue
        usual = own.take(pc.sort_indices(own))[len(own) // 2].as_py()
        if usual and not 1 / TIMES < abs(usual / known) < TIMES:
            ratio = abs(usual / known) if abs(usual) > abs(known) else abs(known / usual)
            told.append(
                f"prices of {symbol} are about {usual.normalize():f} in the first rows, and the table's last is "
                f"{known.normalize():f}: {ratio:,.0f} times {'more' if abs(usual) > abs(known) else 'less'}. "
                "Look at the unit of prices (docs/mappings.md)"
            )
    return told
