"""What a table of stored bars is: one row for each minute in which a symbol was traded in a session. Pure."""

from __future__ import annotations

from k2.model.events import Decimals
from k2.model.tables import PartitionBy, SortBy, TableColumn, TableSpec

BAR_KEYS = ("exchange", "symbol", "session", "start")
"""They name a bar."""

BAR_US = 60_000_000
"""Microseconds of a bucket."""


def bar_table(identifier: str, decimals: Decimals) -> TableSpec:
    """The table of the one-minute bars of a table of trades with these decimals."""
    places = decimals.scale
    price, amount = f"decimal({decimals.precision}, {places})", f"decimal(38, {places})"
    columns = (
        ("symbol", "string", "Symbol on its exchange."),
        ("exchange", "string", "Code of the exchange."),
        ("session", "string", "all: every trade of a trading date; regular: the exchange's hours and default profile."),
        ("date", "date", "Trading date of the exchange."),
        ("start", "timestamptz", "When the bucket starts."),
        ("end", "timestamptz", "When it ends, exclusive."),
        ("open", price, "Price of the first trade."),
        ("high", price, "Highest price."),
        ("low", price, "Lowest price."),
        ("close", price, "Price of the last trade."),
        ("volume", amount, "Sum of the quantities."),
        ("notional", amount, "Sum of price times quantity, cut to the places of prices: with notional_rest exact."),
        ("notional_rest", f"decimal(38, {2 * places})", "What notional was cut by."),
        (
            "price_time",
            amount,
            "Price times the microseconds that it was the last one, from the first trade to the last.",
        ),
        ("vwap", price, "notional by volume, half to even; null where the volume is zero."),
        ("trade_count", "long", "Number of trades."),
        ("first_time", "timestamptz", "Time of the first trade."),
        ("last_time", "timestamptz", "Time of the last trade."),
        ("complete", "boolean", "Whether the trades reach to the bucket's end, or beyond."),
        ("revision", "int", "1, and one more each time that later trades or deletes changed the bar."),
    )
    return TableSpec(
        identifier=identifier,
        data_type=None,
        columns=tuple(TableColumn(name, kind, doc=doc) for name, kind, doc in columns),
        partition_by=(PartitionBy("start", "month", "start_month"),),
        sort_by=(SortBy("symbol"), SortBy("exchange"), SortBy("session"), SortBy("start")),
        decimals=decimals,
    )
