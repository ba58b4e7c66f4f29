"""Bars of many symbols side by side: a row for each bucket, a column for each symbol. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from k2.model.compute import pc
from k2.model.errors import UserError

Layout = Literal["wide", "long"]
BarField = Literal["open", "high", "low", "close", "volume", "vwap", "twap", "trade_count"]


def wide(bars: pa.Table, symbols: Sequence[str], field: str, *, daily: bool) -> pa.Table:
    """`field` of bars, by the start of their bucket (`start`; of days `date`, which is the same day on every exchange).

    Args:
        bars: as /v1/aggregations gives them.
        symbols: the columns, in this order, each once; one without any bar has nulls alone.
        field: a column of the bars.
        daily: the bars are of days.

    Raises:
        UserError: bars have no such field, or a symbol is called as the column of times is.
    """
    time = "date" if daily else "start"
    names = list(dict.fromkeys(symbols))
    if field not in bars.schema.names:
        raise UserError("Bars have no such field", found=field, expected="open, high, low, close, volume, vwap, …")
    if time in names:
        raise UserError(f"A symbol is called {time}, as the column of times is", remedy='Ask with layout="long"')
    times = bars.column(time).combine_chunks()
    starts = pc.unique(times)
    starts = starts.take(pc.sort_indices(starts))
    row = pc.index_in(times, starts).to_numpy(zero_copy_only=False)
    held = bars.column("symbol").combine_chunks()
    values = bars.column(field).combine_chunks()
    columns: dict[str, pa.Array] = {time: starts}
    for name in names:
        own = np.flatnonzero(pc.equal(held, name).to_numpy(zero_copy_only=False))
        place = np.full(len(starts), -1)
        place[row[own]] = own
        columns[name] = values.take(pa.array(place, mask=place < 0))
    return pa.table(columns)
