"""The questions that a desk asks, each answered from one snapshot: find the snapshot, plan its files, read, add up.

Threads share one `Questions`. Every answer says which snapshot it was read from and up to when that is complete.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from k2.lake.offsets import OffsetMap
from k2.lake.reader import ColumnInfo, SnapshotInfo, TableMissingError, TableReader, TableState
from k2.lake.scan import DataFileRef, SnapshotFiles
from k2.model.errors import UserError
from k2.model.exchanges import exchange as exchange_of
from k2.model.topics import DataType
from k2.obs import metrics
from k2.query import replay, sql
from k2.query.directory import SymbolDirectory
from k2.query.engine import Engine, OverflowingError
from k2.query.errors import (
    AmbiguousSymbolError,
    EngineBusyError,
    NotFoundError,
    QueryTimeoutError,
    UnreadableError,
)
from k2.query.pins import resolve
from k2.query.requests import CURRENT, At, EventsQuery, SummaryQuery, Window, iso
from k2.query.results import (
    Events,
    Provenance,
    Summary,
    SymbolInfo,
    Symbols,
    TableStats,
    TopicProgress,
    arrow_schema,
    has_ties,
    vwap,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
# A trading date in the zones furthest from UTC lies within these of its UTC date.
_EAST_US, _WEST_US = 15 * 3_600_000_000, 13 * 3_600_000_000


@dataclass(frozen=True, slots=True)
class Pinned:
    """A table at the snapshot that answers a question."""

    state: TableState
    snapshot: SnapshotInfo | None
    files: SnapshotFiles

    @property
    def columns(self) -> tuple[ColumnInfo, ...]:
        """The columns as they were at that snapshot."""
        return self.state.columns(self.snapshot)

    def provenance(self, chosen: Sequence[DataFileRef] = ()) -> Provenance:
        """What an answer from the chosen files was read from."""
        return Provenance(
            self.state.identifier,
            self.snapshot,
            self.files.newest_us,
            len(chosen),
            len(self.files.files) - len(chosen),
        )


class Questions:
    """Answers questions about the tables of one catalog.

    Args:
        reader: reads the tables' metadata.
        engine: reads their files.
        tables: which table holds each type of data.
    """

    def __init__(self, reader: TableReader, engine: Engine, tables: Mapping[DataType, str]) -> None:
        self._reader = reader
        self._engine = engine
        self._tables = dict(tables)
        self._directory = SymbolDirectory(engine)

    def events(self, query: EventsQuery) -> Events:
        """Trades or quotes, oldest first, in the total order.

        Raises:
            AmbiguousSymbolError: a symbol is traded on several exchanges in that window, and none was asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            QueryTimeoutError, EngineBusyError, TooLargeError: see `Engine.fetch`.
        """
        with _measured(query.data_type.value):
            pinned = self._pin(query.data_type, query.at)
            files = self._plan(pinned, query.symbols, query.exchange, query.window)
            venue = query.exchange
            if venue is None:
                found = {self._one_exchange(pinned, symbol, files) for symbol in query.symbols}
                venue = found.pop() if len(found) == 1 else None
            rows = self._in_order(pinned, query, files, venue)
            more = rows.num_rows > query.limit
            rows = rows.slice(0, query.limit)
            note = self._why_nothing(pinned, query) if not rows.num_rows else None
            metrics.QUERY_ROWS.labels(query.data_type.value).inc(rows.num_rows)
            return Events(rows, more, pinned.provenance(files), note)

    def summary(self, query: SummaryQuery) -> Summary:
        """OHLCV and VWAP of all prints of a trading date (midnight to midnight in the exchange's time zone), exact.

        Raises:
            NotFoundError: no trade of the symbol on that date.
            AmbiguousSymbolError: the symbol is traded on several exchanges around that date, and none was asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            QueryTimeoutError, EngineBusyError, TooLargeError: see `Engine.fetch`.
        """
        with _measured("summary"):
            pinned = self._pin(DataType.TRADES, query.at)
            code = query.exchange
            if code is None:
                midnight = (query.day - _EPOCH.date()).days * _DAY_US
                around = Window(midnight - _EAST_US, midnight + _DAY_US + _WEST_US)
                code = self._one_exchange(pinned, query.symbol, self._plan(pinned, (query.symbol,), None, around))
                if code is None:
                    raise self._no_trades(pinned, query, "")
            market = exchange_of(code)
            start, end = (_micros(bound) for bound in market.trading_day(query.day))
            files = self._plan(pinned, (query.symbol,), market.code, Window(start, end))
            # Where the files prove their exchange, comparing each row's again would cost a tenth of the answer's time.
            proven = all(file.exchange == market.code for file in files)
            which = sql.Filter((query.symbol,), None if proven else market.code, start, end)
            row: dict[str, Any] = self._summary_row(pinned, files, which) if files else {"trade_count": 0}
            if not row["trade_count"]:
                raise self._no_trades(pinned, query, f" on {market.code}")
            notional: Decimal = row["notional"] + row["notional_fraction"]
            return Summary(
                symbol=query.symbol,
                exchange=market.code,
                day=query.day,
                time_zone=market.time_zone,
                currency=row["currency"],
                open=row["open"],
                high=row["high"],
                low=row["low"],
                close=row["close"],
                volume=row["volume"],
                vwap=vwap(notional, row["volume"]),
                trade_count=row["trade_count"],
                first_us=_micros(min(row["first_times"])),
                last_us=_micros(max(row["last_times"])),
                provenance=pinned.provenance(files),
            )

    def symbols(self, data_type: DataType, at: At = CURRENT, exchange: str | None = None) -> Symbols:
        """Every symbol of a table with its exchange, number of rows, first and last time."""
        with _measured("symbols"):
            pinned = self._pin(data_type, at)
            files = self._plan(pinned, (), exchange, Window())
            found = self._directory.symbols(pinned.state, pinned.columns, files)
            wanted = [info for info in found if exchange is None or info.exchange == exchange]
            return Symbols(wanted, pinned.provenance(files))

    def date_range(self, data_type: DataType, symbol: str, exchange: str | None = None, at: At = CURRENT) -> SymbolInfo:
        """First and last event of a symbol; `NotFoundError` when there is none, `AmbiguousSymbolError` as for events."""
        with _measured("date_range"):
            pinned = self._pin(data_type, at)
            files = self._plan(pinned, (symbol,), exchange, Window())
            found = [
                info
                for info in self._directory.symbols(pinned.state, pinned.columns, files)
                if info.symbol == symbol and exchange in (None, info.exchange)
            ]
            if not found:
                raise _unknown_symbol(pinned, symbol, exchange)
            if len(found) > 1:
                raise _ambiguous(symbol, {info.exchange for info in found})
            return found[0]

    def all_stats(self, at: At = CURRENT) -> list[TableStats]:
        """`stats` of the tables of trades and quotes that exist; `TableMissingError` when neither does."""
        found: list[TableStats] = []
        missing: TableMissingError | None = None
        for data_type in (DataType.TRADES, DataType.QUOTES):
            try:
                found.append(self.stats(data_type, at))
            except TableMissingError as error:
                missing = error
        if missing is not None and not found:
            raise missing
        return found

    def stats(self, data_type: DataType, at: At = CURRENT) -> TableStats:
        """Size and reach of a table, from its metadata alone."""
        with _measured("stats"):
            pinned = self._pin(data_type, at)
            held = OffsetMap() if pinned.snapshot is None else pinned.snapshot.offsets
            return TableStats(
                rows=pinned.files.rows,
                files=len(pinned.files.files),
                bytes=pinned.files.bytes,
                snapshots=len(pinned.state.snapshots),
                oldest_us=pinned.files.oldest_us,
                newest_us=pinned.files.newest_us,
                topics=[TopicProgress(topic, held.next_of(topic)) for topic in sorted(held.topics)],
                provenance=pinned.provenance(),
            )

    def snapshots(self, data_type: DataType) -> TableState:
        """The table's retained snapshots, oldest first, and which one is current."""
        with _measured("snapshots"):
            return self._reader.state(self._tables[data_type])

    def replay(
        self, query: EventsQuery, *, batch_rows: int = 65_536, lineage: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """All events that match, in the total order, in batches; the query's limit is not used.

        Reads one snapshot from the first batch to the last. Memory is bounded by the batch and the engine's limit.
        Errors come when the first batch is asked for; see `events`.
        """
        pinned = self._pin(query.data_type, query.at)
        files = self._plan(pinned, query.symbols, query.exchange, query.window)
        which = _filter(query)
        schema = arrow_schema(pinned.columns, lineage=lineage)
        for window in replay.windows(self._engine, pinned.state.roots, pinned.columns, files, which):
            statement = sql.events(pinned.columns, window.files, window.which, lineage=lineage)
            for batch in self._engine.stream(
                "replay", statement.sql, statement.params, pinned.state.roots, batch_rows=batch_rows
            ):
                metrics.QUERY_ROWS.labels("replay").inc(batch.num_rows)
                yield batch.cast(schema)

    def ready(self) -> tuple[bool, str]:
        """Whether the tables of trades and quotes are there, and what is missing; raises as `TableReader.state` does."""
        names = [self._reader.state(self._tables[kind]).identifier for kind in (DataType.TRADES, DataType.QUOTES)]
        return True, f"{' and '.join(names)} can be read"

    def _pin(self, data_type: DataType, at: At) -> Pinned:
        started = time.perf_counter()
        state = self._reader.state(self._tables[data_type])
        snapshot = resolve(state, at)
        files = SnapshotFiles(()) if snapshot is None else self._reader.files(state, snapshot.id)
        metrics.PLAN_DURATION.observe(time.perf_counter() - started)
        return Pinned(state, snapshot, files)

    def _plan(
        self, pinned: Pinned, symbols: tuple[str, ...], exchange: str | None, window: Window
    ) -> tuple[DataFileRef, ...]:
        files = pinned.files.select(
            symbols=symbols or None,
            start_us=window.start_us,
            end_us=window.end_us,
            exchanges=None if exchange is None else (exchange,),
        )
        if any(file.has_deletes for file in files):
            raise UnreadableError(
                f"{pinned.state.identifier} has delete files, which this version does not read",
                found=next(file.path for file in files if file.has_deletes),
                expected="data files alone",
                remedy="Compact the table with the engine that deleted the rows",
            )
        metrics.QUERY_FILES_SCANNED.labels(pinned.state.identifier).inc(len(files))
        metrics.QUERY_FILES_SKIPPED.labels(pinned.state.identifier).inc(len(pinned.files.files) - len(files))
        return files

    def _in_order(
        self, pinned: Pinned, query: EventsQuery, files: Sequence[DataFileRef], venue: str | None
    ) -> pa.Table:
        """The first `limit` + 1 rows: read from the oldest stretch of files on, until there are enough."""
        schema = arrow_schema(pinned.columns)
        parts = [schema.empty_table()]
        missing = query.limit + 1
        by = sql.SHORT_ORDER if venue is not None and len(query.symbols) == 1 else sql.ORDER
        for stretch in replay.stretches(files):
            rows = self._first_rows(pinned, query, stretch, missing, by)
            if by is sql.SHORT_ORDER and has_ties(rows):
                rows = self._first_rows(pinned, query, stretch, missing, sql.ORDER)
            parts.append(rows.cast(schema))
            missing -= rows.num_rows
            if missing <= 0:
                break
        return pa.concat_tables(parts)

    def _first_rows(
        self, pinned: Pinned, query: EventsQuery, files: Sequence[DataFileRef], limit: int, by: Sequence[str]
    ) -> pa.Table:
        statement = sql.events(pinned.columns, files, _filter(query), limit=limit, by=by)
        return self._engine.fetch(query.data_type.value, statement.sql, statement.params, pinned.state.roots)

    def _summary_row(self, pinned: Pinned, files: Sequence[DataFileRef], which: sql.Filter) -> dict[str, Any]:
        roots = pinned.state.roots
        statement = sql.summary(pinned.columns, files, which)
        try:
            row = self._engine.fetch("summary", statement.sql, statement.params, roots).to_pylist()[0]
        except OverflowingError:
            statement = sql.summary(pinned.columns, files, which, wide=True)
            row = self._engine.fetch("summary", statement.sql, statement.params, roots).to_pylist()[0]
        for name, times, last in (("open", row["first_times"], False), ("close", row["last_times"], True)):
            if row["trade_count"] > 1 and times[0] == times[1]:
                row[name] = self._edge_price(pinned, files, which, _micros(times[0]), last=last)
        return row

    def _edge_price(
        self, pinned: Pinned, files: Sequence[DataFileRef], which: sql.Filter, instant_us: int, *, last: bool
    ) -> Decimal:
        """Price of the first or last of several trades at one instant: their order decides."""
        there = [file for file in files if file.start_us <= instant_us <= file.end_us]
        at_instant = replace(which, start_us=instant_us, end_us=instant_us + 1)
        statement = sql.edge(pinned.columns, there, at_instant, last=last)
        price: Decimal = self._engine.fetch("summary", statement.sql, statement.params, pinned.state.roots).to_pylist()[
            0
        ]["price"]
        return price

    def _one_exchange(self, pinned: Pinned, symbol: str, files: Sequence[DataFileRef]) -> str | None:
        """The exchange that the files have the symbol of; None when they have none; an error when there are several."""
        chosen = [file for file in files if _may_hold(file, symbol)]
        proven = {file.exchange for file in chosen}
        if len(proven) == 1 and (only := next(iter(proven))) is not None:
            return only
        found = self._directory.exchanges(pinned.state, pinned.columns, chosen, [symbol]).get(symbol, set())
        if len(found) > 1:
            raise _ambiguous(symbol, found)
        return next(iter(found), None)

    def _why_nothing(self, pinned: Pinned, query: EventsQuery) -> str:
        if pinned.snapshot is None:
            return f"{pinned.state.identifier} has no data yet"
        everywhere = self._plan(pinned, query.symbols, query.exchange, Window())
        if query.symbols and not everywhere:
            return str(_unknown_symbol(pinned, ", ".join(query.symbols), query.exchange))
        oldest, newest = pinned.files.oldest_us, pinned.files.newest_us
        reach = "" if oldest is None or newest is None else f"; the table reaches from {iso(oldest)} to {iso(newest)}"
        return f"No {query.data_type.value} match{reach}"

    def _no_trades(self, pinned: Pinned, query: SummaryQuery, where: str) -> UserError:
        return NotFoundError(
            f"{pinned.state.identifier} has no trades of {query.symbol}{where} on {query.day.isoformat()}",
            remedy="The list of symbols says from when to when each was traded; a date is one of the exchange's time zone",
        )


def _filter(query: EventsQuery) -> sql.Filter:
    return sql.Filter(query.symbols, query.exchange, query.window.start_us, query.window.end_us)


def _may_hold(file: DataFileRef, symbol: str) -> bool:
    lower, upper = file.symbols
    return (lower is None or lower <= symbol) and (upper is None or symbol <= upper)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _ambiguous(symbol: str, exchanges: set[str]) -> AmbiguousSymbolError:
    return AmbiguousSymbolError(
        f"{symbol} is traded on several exchanges",
        found=", ".join(sorted(exchanges)),
        expected="one of them",
        remedy=f"Ask with exchange={min(exchanges)}",
    )


def _unknown_symbol(pinned: Pinned, symbol: str, exchange: str | None) -> NotFoundError:
    where = "" if exchange is None else f" on {exchange}"
    return NotFoundError(
        f"{pinned.state.identifier} has nothing of {symbol}{where}", remedy="The list of symbols says what there is"
    )


@contextmanager
def _measured(label: str) -> Generator[None, None, None]:
    started = time.perf_counter()
    outcome = "error"
    try:
        yield
        outcome = "ok"
    except UserError:
        outcome = "user_error"
        raise
    except QueryTimeoutError:
        outcome = "timeout"
        raise
    except EngineBusyError:
        outcome = "busy"
        raise
    finally:
        metrics.QUERY_EXECUTIONS.labels(label, outcome).inc()
        metrics.QUERY_DURATION.labels(label).observe(time.perf_counter() - started)
