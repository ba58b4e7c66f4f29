"""The parameters of bars and as-of joins, with what the reference says of each."""

from __future__ import annotations

from pydantic import Field, StrictInt

from k2.forms.formats import Format
from k2.forms.parameters import DATE, TIME, AdjustedParams, DatesParams, LiveBody, LiveParams, NamesParams
from k2.forms.print_parameters import PrintParams
from k2.model.exchanges import Session
from k2.query.asked.bar_requests import MOST_BARS, Empty, Interval
from k2.query.asked.requests import DEFAULT_LIMIT, MOST_ROWS, MOST_SYMBOLS

_EXCHANGE = "Needed where a symbol is traded on several."
_START = f"Bars that start from this instant on. {TIME}"
_END = f"Bars that start before this instant. {TIME}"
_LAST_DATE = "With date: the last of several trading dates."
_SESSION = "All prints of a trading date, or those of the exchange's regular session."
_EMPTY = "Buckets without trades: left out, null, or at the last price of the same trading date."


class BarsParams(LiveParams, PrintParams, AdjustedParams):
    """Parameters of /v1/bars."""

    interval: Interval = Field(default=Interval.MINUTE, description="Length of a bucket.", examples=["5m"])
    exchange: str | None = Field(default=None, description=_EXCHANGE, examples=["ASX"])
    start: str | None = Field(default=None, description=_START)
    end: str | None = Field(default=None, description=_END)
    date: str | None = Field(default=None, description=DATE, examples=["2014-03-10"])
    last_date: str | None = Field(default=None, description=_LAST_DATE, examples=["2014-03-14"])
    session: Session = Field(default=Session.ALL, description=_SESSION, examples=["regular"])
    empty: Empty = Field(default=Empty.SKIP, description=_EMPTY, examples=["skip"])
    limit: int = Field(default=MOST_BARS, ge=1, le=MOST_ROWS, description="Most bars.")


class NamedBarsParams(BarsParams, NamesParams):
    """Parameters of /v1/bars where no path says the symbol."""


class AggregationsBody(LiveBody, PrintParams, AdjustedParams):
    """Body of /v1/aggregations."""

    symbols: list[str] = Field(
        min_length=1, max_length=MOST_SYMBOLS, description="Bars of each of these.", examples=[["BHP", "DVN"]]
    )
    interval: Interval = Field(default=Interval.MINUTE, description="Length of a bucket.", examples=["15m"])
    exchange: str | None = Field(default=None, description=_EXCHANGE, examples=["ASX"])
    start: str | StrictInt | None = Field(default=None, description=_START)
    end: str | StrictInt | None = Field(default=None, description=_END)
    date: str | None = Field(default=None, description=DATE, examples=["2014-03-10"])
    last_date: str | None = Field(default=None, description=_LAST_DATE, examples=["2014-03-14"])
    session: Session = Field(default=Session.ALL, description=_SESSION, examples=["regular"])
    empty: Empty = Field(default=Empty.SKIP, description=_EMPTY, examples=["carry"])
    limit: int = Field(default=MOST_BARS, ge=1, le=MOST_ROWS, description="Most bars of all symbols.", examples=[1000])
    format: Format | None = Field(default=None, description="Instead of the Accept header.", examples=["json"])


class AsofParams(LiveParams, NamesParams, DatesParams, PrintParams, AdjustedParams):
    """Parameters of /v1/asof."""

    exchange: str | None = Field(default=None, description=_EXCHANGE, examples=["ASX"])
    start: str | None = Field(
        default=None, description=f"First instant of trades. {TIME}", examples=["2014-03-09T23:00:00Z"]
    )
    end: str | None = Field(
        default=None, description=f"First instant no more. {TIME}", examples=["2014-03-10T06:00:00Z"]
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MOST_ROWS, description="Most trades.")
    lookback: str | None = Field(
        default=None,
        description="How old a quote may be that still prevails: a number with ms, s, m, h or d; or `day`, the default: of "
        "the trade's own trading date.",
        examples=["30m"],
    )
    fields: list[str] | None = Field(
        default=None,
        description="Columns of the answer, of the trade, the quote and the join, in this order. Repeated, or with commas.",
        examples=[["timestamp,price,bid_price,ask_price,inferred_side"]],
    )
