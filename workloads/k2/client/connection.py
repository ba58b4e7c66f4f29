"""The questions as a quant asks them from Python: the same against a running service and against a catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal, Self, Unpack

from k2.client.answer import Answer
from k2.client.asking import (
    PrintOptions,
    Session,
    Symbols,
    Time,
    TradeOptions,
    at,
    events,
    listed,
    parted,
    pin_id,
    prints,
    text,
    when,
)
from k2.client.panel import BarField, Layout, wide
from k2.client.pin import Pin
from k2.client.protocol import Client, Playback, SqlAsking
from k2.client.records import CALENDAR, SNAPSHOTS, SYMBOLS, records
from k2.client.shape import Shape, Shaped
from k2.client.summary import DaySummary
from k2.model.errors import UserError
from k2.model.topics import DataType

Events = Literal["trades", "quotes"]
Tables = Literal["trades", "quotes", "reference_data", "gaps"]
Interval = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"]
Empty = Literal["skip", "null", "carry"]
Adjusted = Literal["splits", "all"]
Kind = Literal["company", "dividend", "split", "merger"]

# What one answer of a service holds unless it is set up otherwise: it is joined as a whole, not streamed.
_MOST_JOINED = 1_000_000


class Connection:
    """Questions about market data. Made by `k2.connect`; close it, or use it as a context manager. Threads may share it.

    Which rows answer is chosen alike everywhere: `snapshot` (an id), `as_of` (as was known at a time) or `pin` (see `pin`);
    without them the current snapshot, and with `hybrid` also what is in the topics beyond it (a service's default where it
    knows of Kafka). `exchange` is needed where a symbol is traded on several. Times without an offset are of the zone `tz`
    ("Australia/Sydney"), UTC without it; dates are the exchange's own, and `session="regular"` is that of each date.
    `adjusted="splits"` (and mergers), or `"all"` (prices for dividends too), multiplies by what reference data says, as known there.

    Every method raises `UserError` (what was found, what was expected, how to mend it) and `WorldError` (nobody answers).
    """

    def __init__(self, client: Client, shape: Shape | None = None) -> None:
        self._client = client
        self._shape = shape or Shape()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection, or of the engine."""
        self._client.__exit__()

    def trades(
        self,
        symbols: Symbols = (),
        *,
        start: Time | None = None,
        end: Time | None = None,
        date: str | date | None = None,
        last_date: str | date | None = None,
        session: Session = "all",
        tz: str | None = None,
        exchange: str | None = None,
        fields: Sequence[str] = (),
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **options: Unpack[TradeOptions],
    ) -> Answer:
        """Trades of the symbols (none: of all) from `start` to before `end`, or of trading dates (`date` to `last_date`), oldest first; no `limit`: all of them.

        `options` say which trades count (`PrintOptions`): `exclude_conditions=["3"]`, `min_quantity=100`, …
        """
        only, shaped = parted(options)
        asked = events(symbols, exchange, fields, limit) | when(start, end, date, last_date, session, tz)
        asked |= at(snapshot, as_of, pin, hybrid) | {"adjusted": adjusted}
        return self._shaped(self._client.events(DataType.TRADES, asked | prints(only)), shaped)

    def quotes(
        self,
        symbols: Symbols = (),
        *,
        start: Time | None = None,
        end: Time | None = None,
        date: str | date | None = None,
        last_date: str | date | None = None,
        session: Session = "all",
        tz: str | None = None,
        exchange: str | None = None,
        fields: Sequence[str] = (),
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **shaped: Unpack[Shaped],
    ) -> Answer:
        """Quotes of the symbols (none: of all) from `start` to before `end`, or of trading dates (`date` to `last_date`), oldest first; no `limit`: all of them."""
        asked = events(symbols, exchange, fields, limit) | when(start, end, date, last_date, session, tz)
        asked |= at(snapshot, as_of, pin, hybrid) | {"adjusted": adjusted}
        return self._shaped(self._client.events(DataType.QUOTES, asked), shaped)

    def bars(
        self,
        symbols: Symbols,
        *,
        interval: Interval = "1m",
        date: str | date | None = None,
        last_date: str | date | None = None,
        start: Time | None = None,
        end: Time | None = None,
        tz: str | None = None,
        exchange: str | None = None,
        session: Session = "all",
        empty: Empty = "skip",
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **options: Unpack[TradeOptions],
    ) -> Answer:
        """OHLCV, VWAP and TWAP of each bucket: of trading dates (`date` to `last_date`) or between two instants.

        `options` say of which trades (`PrintOptions`).
        """
        asked = {
            "interval": interval,
            "exchange": exchange,
            "empty": empty,
            "limit": limit,
            "adjusted": adjusted,
        }
        asked |= when(start, end, date, last_date, session, tz)
        only, shaped = parted(options)
        found = self._client.bars(tuple(listed(symbols)), asked | prints(only) | at(snapshot, as_of, pin, hybrid))
        found.warn = limit is None
        return self._shaped(found, shaped)

    def panel(
        self,
        symbols: Symbols,
        interval: Interval = "1d",
        *,
        field: BarField = "close",
        layout: Layout = "wide",
        date: str | date | None = None,
        last_date: str | date | None = None,
        start: Time | None = None,
        end: Time | None = None,
        tz: str | None = None,
        exchange: str | None = None,
        session: Session = "all",
        empty: Empty = "skip",
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **options: Unpack[TradeOptions],
    ) -> Answer:
        """Bars of many symbols in one answer and one frame, by time; as index where nothing else is said.

        "wide": a row for each bucket that any of them has, a column of `field` for each symbol as asked for, null where it has no
        bar. "long": the bars as `bars` gives them.
        """
        asked = {
            "interval": interval,
            "exchange": exchange,
            "empty": empty,
            "limit": _MOST_JOINED,
            "adjusted": adjusted,
        }
        asked |= when(start, end, date, last_date, session, tz)
        names = listed(symbols)
        only, shaped = parted(options)
        found = self._client.bars(tuple(names), asked | prints(only) | at(snapshot, as_of, pin, hybrid))
        found.warn = True
        said: Shaped = {"index": "time", **shaped}
        if layout == "long":
            return self._shaped(found, said)
        if layout != "wide":
            raise UserError("layout cannot be used", found=layout, expected="wide or long")
        told: Shaped = {"progress": said.get("progress", self._shape.progress)}
        rows = wide(found.shaped(Shape().over(told)).arrow(), names, field, daily=interval == "1d")
        whole = Answer(rows.schema, iter(rows.to_batches()), {**found.envelope, "count": rows.num_rows})
        return self._shaped(whole, {**said, "progress": False})

    def asof(
        self,
        symbols: Symbols,
        *,
        start: Time | None = None,
        end: Time | None = None,
        date: str | date | None = None,
        last_date: str | date | None = None,
        session: Session = "all",
        tz: str | None = None,
        exchange: str | None = None,
        lookback: str | None = None,
        fields: Sequence[str] = (),
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **options: Unpack[TradeOptions],
    ) -> Answer:
        """Trades, each with the quote that prevailed: the last strictly before it, not older than `lookback` ("30m", "day").

        With spreads and the side that began each trade (Lee and Ready, 1991). `options` say which trades (`PrintOptions`);
        the quotes, and the prices that a trade's side is told from, are all.
        """
        asked = events(symbols, exchange, fields, limit) | when(start, end, date, last_date, session, tz)
        asked |= {"lookback": lookback, "adjusted": adjusted}
        asked["limit"] = _MOST_JOINED if limit is None else limit
        only, shaped = parted(options)
        found = self._client.asof(asked | prints(only) | at(snapshot, as_of, pin, hybrid))
        found.warn = limit is None
        return self._shaped(found, shaped)

    def last(
        self,
        symbols: Symbols,
        *,
        exchange: str | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        **shaped: Unpack[Shaped],
    ) -> Answer:
        """The newest trade (`timestamp`, `price`, …) and quote (`quote_timestamp`, `bid_price`, …) of each symbol, a row a symbol."""
        asked = {"symbols": listed(symbols) or None, "exchange": exchange} | at(snapshot, as_of, pin, hybrid)
        return self._shaped(self._client.last(asked), shaped)

    def summary(
        self,
        symbol: str,
        date: str | date,
        *,
        exchange: str | None = None,
        session: Session = "all",
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        **options: Unpack[PrintOptions],
    ) -> DaySummary:
        """OHLCV and VWAP of a trading date in the exchange's own time zone; an error where there is no trade.

        `options` say of which trades (`PrintOptions`).
        """
        asked = (
            {"exchange": exchange, "session": session, "adjusted": adjusted}
            | prints(options)
            | at(snapshot, as_of, pin, hybrid)
        )
        day = text(date)
        assert day is not None
        return DaySummary.read(self._client.summary(symbol, day, asked))

    def reference(
        self,
        symbols: Symbols = (),
        *,
        company_id: Symbols = (),
        kind: Kind | Sequence[Kind] = (),
        date: str | date | None = None,
        history: bool = False,
        exchange: str | None = None,
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
    ) -> Answer:
        """Companies, dividends, splits and mergers of companies by symbol or id (neither: of all): the newest record of each.

        `date`: a symbol means the company that it belonged to then. `history`: also records that newer ones took the place of.
        """
        asked = {
            "symbols": listed(symbols) or None,
            "company_id": listed(company_id) or None,
            "kind": listed(kind) or None,
            "date": text(date),
            "history": history or None,
            "exchange": exchange,
            "limit": limit,
        }
        found = self._client.reference(asked | at(snapshot, as_of, pin, hybrid))
        found.warn = limit is None
        return found

    def sql(
        self,
        query: str,
        values: Sequence[Any] | Mapping[str, Any] = (),
        *,
        frames: Mapping[str, Any] | None = None,
        limit: int | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        **shaped: Unpack[Shaped],
    ) -> Answer:
        """The rows of the last statement of a query in DuckDB's SQL, run in this process: of a catalog only, never of a service.

        It reads `trades`, `quotes`, `reference_data` and every other table of their namespace as they were at one moment, and files
        that this process may read. A snapshot's id is of one of the tables; the others are as they were at its time. What it makes
        (CREATE TABLE) stays as long as the connection. Ctrl-C stops it.

        Args:
            query: one statement, or several with `;` between.
            values: of its `?`, or by the names of its `$name`.
            frames: what else it may read, by name: Arrow tables, data frames of pandas or polars.
            limit: most rows of the answer.
            snapshot: as everywhere.
            as_of: as everywhere.
            pin: as everywhere.
            hybrid: as everywhere.
            shaped: `progress=True` also tells how much of it is done before the first row comes.

        Raises:
            UserError: the SQL is wrong (DuckDB's words, and which tables and columns there are), or this is a service.
        """
        shape = self._shape.over(shaped)
        asking = SqlAsking(values, frames or {}, limit, shape.percent())
        return self._client.sql(query, at(snapshot, as_of, pin, hybrid), asking).shaped(shape)

    def symbols(
        self,
        table: Events = "trades",
        *,
        exchange: str | None = None,
        snapshot: str | int | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
    ) -> Answer:
        """Every symbol of a table with its exchange, number of rows, first and last time."""
        asked = {"table": table, "exchange": exchange} | at(snapshot, as_of, pin, None)
        said = self._client.symbols({name: value for name, value in asked.items() if name != "hybrid"})
        return records(said, SYMBOLS)

    def calendar(
        self,
        exchange: str,
        start: str | date | None = None,
        end: str | date | None = None,
        *,
        symbol: str | None = None,
    ) -> Answer:
        """Trading dates of an exchange from `start` (now's) to `end` (30 days later), both included.

        Columns: `date`, `status` (regular, special, closed, unknown), `opens`, `closes`, `pauses` (ISO 8601 intervals), and when the
        date itself `begins` and `ends`; times UTC. `symbol`: whose calendar, where some symbols have another.
        """
        said = self._client.calendar(exchange, {"start": text(start), "end": text(end), "symbol": symbol})
        return records(said, CALENDAR)

    def snapshots(self, table: Tables = "trades", *, limit: int = 100) -> Answer:
        """Retained snapshots of a table, newest first: what each added, and the totals after it."""
        said = self._client.snapshots({"table": table, "limit": limit})
        return records(said, SNAPSHOTS)

    def diff(
        self,
        table: Events,
        since: str | int,
        to: str | int | None = None,
        *,
        symbols: Symbols = (),
        start: Time | None = None,
        end: Time | None = None,
        date: str | date | None = None,
        last_date: str | date | None = None,
        session: Session = "all",
        exchange: str | None = None,
        fields: Sequence[str] = (),
        limit: int | None = None,
        tz: str | None = None,
        **options: Unpack[TradeOptions],
    ) -> Answer:
        """Events that a table got between two snapshots (`to`: the current one), whatever compaction did in between.

        `options` say which trades (`PrintOptions`).
        """
        asked = events(symbols, exchange, fields, limit) | when(start, end, date, last_date, session, tz)
        only, shaped = parted(options)
        between = {"table": table, "from": str(since), "to": None if to is None else str(to)}
        return self._shaped(self._client.diff(asked | prints(only) | between), shaped)

    def _shaped(self, found: Answer, said: Shaped) -> Answer:
        return found.shaped(self._shape.over(said))

    def stats(self, *, as_of: Time | None = None) -> dict[str, Any]:
        """Size and reach of the tables, and how far they have taken their topics: the API's object."""
        return self._client.stats({"as_of": text(as_of)})

    def audit(
        self,
        table: Tables | None = None,
        *,
        sequences: Literal["symbol", "exchange", "symbol-continuous", "exchange-continuous"] | None = None,
    ) -> dict[str, Any]:
        """Whether every offset that the tables record is in them once: the API's object; `ok` sums it up.

        `sequences`: also which numbers of the source's own sequence are missing or there twice, by trading day; it says
        which events the source numbers together.
        """
        return self._client.audit({"table": table, "sequences": sequences})

    def pin(
        self,
        *,
        tables: Sequence[Tables] = ("trades", "quotes"),
        as_of: Time | None = None,
        snapshots: Mapping[Tables, str | int] | None = None,
        ttl: timedelta = timedelta(days=1),
    ) -> Pin:
        """Fix the snapshots of several tables at one moment, and keep them for `ttl` (1 minute to 30 days)."""
        body = {
            "tables": list(tables),
            "as_of": text(as_of),
            "snapshots": {name: str(each) for name, each in (snapshots or {}).items()},
            "ttl_seconds": round(ttl.total_seconds()),
        }
        return Pin.read(self._client.make_pin(body), self._client)

    def pins(self) -> list[Pin]:
        """Pins that have not lapsed, the first to lapse first; whoever made them."""
        return [Pin.read(said, self._client) for said in self._client.pins()["data"]]

    def replay(
        self,
        symbols: Symbols = (),
        *,
        tables: Sequence[Events] = ("quotes", "trades"),
        start: Time | None = None,
        end: Time | None = None,
        date: str | date | None = None,
        last_date: str | date | None = None,
        session: Session = "all",
        tz: str | None = None,
        exchange: str | None = None,
        speed: float | None = None,
        rate: float | None = None,
        follow: bool = False,
        batch_rows: int | None = None,
        snapshots: Mapping[Events, str | int] | None = None,
        as_of: Time | None = None,
        pin: Pin | str | None = None,
        hybrid: bool | None = None,
        adjusted: Adjusted | None = None,
        cursor: str | None = None,
        **options: Unpack[PrintOptions],
    ) -> Playback:
        """Quotes and trades in one order of events, in batches, each when it is due.

        Args:
            symbols: any of these; none: all.
            tables: quotes, trades, or both in one order.
            start: first instant.
            end: first instant no more.
            date: a trading date of the exchange, instead of these.
            last_date: the last of several.
            session: of the date: all of it, or the regular session.
            tz: of times without an offset; None: UTC.
            exchange: only this one.
            speed: times the events' own pace; neither it nor `rate`: as fast as can be.
            rate: events a second.
            follow: go on with what comes in when history is at its end.
            batch_rows: most rows of a batch.
            snapshots: answer from these, by table.
            as_of: answer as was known at this time.
            pin: answer from what this pin fixes.
            hybrid: with what is in the topics beyond the tables.
            adjusted: history as known when the replay begins, what comes in later as known then.
            cursor: go on where another replay stood (`Playback.cursor`); it says all but speed, rate and batch_rows.
            options: which of the trades (`PrintOptions`); quotes come all.
        """
        paced = {"speed": speed, "rate": rate, "batch_rows": batch_rows}
        if cursor is not None:
            return self._client.replay(paced | {"cursor": cursor})
        asked = {
            "symbols": listed(symbols),
            "tables": list(tables),
            "exchange": exchange,
            "snapshots": {name: str(each) for name, each in (snapshots or {}).items()} or None,
            "as_of": text(as_of),
            "pin": pin_id(pin),
            "hybrid": hybrid,
            "follow": follow,
            "adjusted": adjusted,
        }
        return self._client.replay(asked | prints(options) | when(start, end, date, last_date, session, tz) | paced)
