"""The questions that a desk asks, each answered from a snapshot of each table: find it, plan its files, read, add up.

Threads share one `Questions`. Every answer says which snapshots it was read from and up to when these are complete.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from k2.lake.offsets import OffsetMap
from k2.lake.reader import TableMissingError, TableState
from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.exchanges import exchange as exchange_of
from k2.model.lru import Lru
from k2.model.prints import on_exchange
from k2.model.sequences import SequenceScope
from k2.model.topics import DataType, TopicName
from k2.obs.tally import count_rows
from k2.query.adjust.adjusting import AdjustedRows, Adjuster
from k2.query.adjust.closes import MOST_CLOSES, Closes
from k2.query.adjust.replays import KnownFactors
from k2.query.aggregates.asof import Asof, asof_of
from k2.query.aggregates.bars import Bars, bars_of
from k2.query.aggregates.last_in_files import LastInFiles
from k2.query.aggregates.lasts import Last, last_of
from k2.query.aggregates.summaries import Summary, summary_of
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.last_requests import LastQuery
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import CURRENT, At, EventsQuery, SummaryQuery, TableSnapshots, Window
from k2.query.engine.background import Background
from k2.query.engine.engine import Engine
from k2.query.events import paging
from k2.query.events.paging import Events, EventStream
from k2.query.events.prepared import PreparedEvents, prepare
from k2.query.events.replay import Replay
from k2.query.measuring import measured
from k2.query.plan import absence, audits, pins
from k2.query.plan.audits import Audited
from k2.query.plan.dates import session_window, window_of_dates
from k2.query.plan.directory import SymbolDirectory, SymbolInfo, Symbols
from k2.query.plan.pinned import Pinned
from k2.query.plan.pins import PinRecord
from k2.query.plan.planner import Planner
from k2.query.plan.table_stats import TableStats, TopicProgress
from k2.query.plan.venue import ambiguous, checked_on, one_exchange
from k2.query.reference.records import Reference, reference_of
from k2.query.rows import sql
from k2.query.rows.errors import NotFoundError, SnapshotGoneError
from k2.query.rows.letters import LetterCounts
from k2.query.rows.visibility import Sight

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept between questions, whoever asks them: each of it is of files and snapshots, which never change, and bounded."""

    directory: SymbolDirectory
    lasts: LastInFiles
    closes: Closes = field(default_factory=lambda: Lru(MOST_CLOSES))


class Questions:
    """Answers questions about the tables of one catalog.

    Args:
        planner: chooses snapshots and files.
        engine: reads the files.
        remembered: what is kept between questions; None: nothing yet.
    """

    def __init__(self, planner: Planner, engine: Engine, remembered: Remembered | None = None) -> None:
        self._planner = planner
        self._engine = engine
        self._remembered = remembered or Remembered(SymbolDirectory(engine), LastInFiles(engine))
        self._directory = self._remembered.directory

    @property
    def planner(self) -> Planner:
        """What chooses snapshots and files."""
        return self._planner

    @property
    def background(self) -> Background:
        """Where long answers are to be made."""
        return self._engine.background

    def seen_by(self, sight: Sight) -> Questions:
        """The same questions asked by one who may see no more than `sight`."""
        if sight == self._planner.sight:
            return self
        planner = replace(self._planner, sight=sight, directory=self._directory)
        return Questions(planner, self._engine, self._remembered)

    def events(self, query: EventsQuery) -> Events:
        """Trades or quotes, oldest first, in the total order.

        Raises:
            AmbiguousSymbolError: a symbol is traded on several exchanges in that window, and none was asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            QueryTimeoutError, EngineBusyError, TooLargeError: see `Engine.fetch`.
        """
        label = query.data_type.value
        with measured(label):
            asked = self._prepared(query)
            rows, last = paging.page(self._engine, label, asked)
            note = self._why_nothing(asked) if not rows.num_rows else None
            count_rows(label, rows.num_rows)
            return Events(rows, bool(last), asked.provenance, note, last)

    def stream(self, query: EventsQuery, *, batch_rows: int = 65_536) -> EventStream:
        """The answer of `events` for any limit, read while it is taken; raises as `events` does, from its batches too."""
        label = query.data_type.value
        with measured(label):
            asked = self._prepared(query)
            head, last = paging.page(self._engine, label, asked.first(paging.HEAD_ROWS))
            rest = None
            if last and query.limit > head.num_rows:
                following = replace(query, limit=query.limit - head.num_rows)
                left = paging.after(asked.relation, asked.which, last)
                rest = paging.in_order(self._engine, *left, following, batch_rows=batch_rows)
            return EventStream(
                schema=head.schema,
                provenance=asked.provenance,
                label=label,
                limit=query.limit,
                order=sql.order_of(asked.relation),
                head=head,
                rest=rest,
                note=self._why_nothing(asked) if not head.num_rows else None,
                last=last if rest is None else (),
            )

    def _prepared(self, query: EventsQuery) -> PreparedEvents:
        pinned = self._planner.pin(query.data_type, query.at)
        rows = AdjustedRows(query.data_type, query.symbols, query.exchange, query.window, query.at)
        return prepare(self._planner, self._directory, query, self._adjusted(pinned, rows, query.adjusted))

    def _adjusted(self, pinned: Pinned, rows: AdjustedRows, how: Adjusting | None) -> Pinned:
        now_us = time.time_ns() // 1000
        adjuster = Adjuster(self._engine, self._planner, self._directory, self._remembered.closes, now_us)
        return adjuster.adjusted(pinned, rows, how)

    def _why_nothing(self, asked: PreparedEvents) -> str:
        query = asked.query
        is_whole = query.window == Window() and query.since is None and not query.after and not query.prints
        return absence.why_nothing(self._planner, self._directory, asked.pinned, query, at_any_time=is_whole)

    def window_of(
        self,
        tables: Mapping[DataType, At],
        symbols: tuple[str, ...],
        exchange: str | None,
        period: Window | Dates,
        session: Session = Session.ALL,
    ) -> Window:
        """The instants of a period of events: trading dates are those of their exchange; raises as `window_of_dates` does."""
        if isinstance(period, Dates):
            return window_of_dates(self._planner, self._directory, tables, symbols, exchange, period, session)
        if session is not Session.ALL:
            raise UserError("session is of a trading date", found=session.value, expected="date with it")
        return period

    def is_hybrid(self, at: At) -> bool:
        """Whether answers hold more than a snapshot."""
        return self._planner.tails_for(at) is not None

    def close(self) -> None:
        """Stop following topics."""
        if self._planner.tails is not None:
            self._planner.tails.close()

    def summary(self, query: SummaryQuery) -> Summary:
        """OHLCV and VWAP of a trading date, exact: of all its prints, or of those in the regular session.

        Raises:
            NotFoundError: no trade of the symbol on that date.
            AmbiguousSymbolError: the symbol is traded on several exchanges around that date, and none was asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            QueryTimeoutError, EngineBusyError, TooLargeError: see `Engine.fetch`.
        """
        with measured("summary"):
            pinned = self._planner.pin(DataType.TRADES, query.at)
            code = query.exchange
            if code is None:
                around = Window.around(query.day, query.day)
                near = self._planner.plan(pinned, (query.symbol,), None, around)
                code = one_exchange(self._directory, near, query.symbol, around)
                if code is None:
                    raise absence.no_trades(self._planner, self._directory, pinned, query, "")
            market = exchange_of(code).of(query.symbol)
            prints = checked_on(query.prints, market.code)
            window = session_window(market, Dates(query.day, query.day), query.session)
            rows = AdjustedRows(DataType.TRADES, (query.symbol,), market.code, window, query.at)
            pinned = self._adjusted(pinned, rows, query.adjusted)
            relation = self._planner.plan(pinned, (query.symbol,), market.code, window)
            # Where the files prove their exchange, comparing each row's again would cost a tenth of the answer's time.
            proven = relation.tail is None and all(file.exchange == market.code for file in relation.files)
            which = sql.Filter(
                (query.symbol,),
                None if proven else market.code,
                *window.bounds,
                within=window.within,
                prints=on_exchange(prints, market.code),
            )
            provenance = replace(pinned.provenance((relation,), prints), calendars=window.by)
            found = summary_of(self._engine, relation, which, query, market, provenance)
            if found is None:
                raise absence.no_trades(self._planner, self._directory, pinned, query, f" on {market.code}")
            return found

    def bars(self, query: BarsQuery) -> Bars:
        """Bars of trades for each bucket of time: OHLCV, VWAP and TWAP, exact.

        Raises:
            AmbiguousSymbolError: a symbol is traded on several exchanges at that time, and none was asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            QueryTimeoutError, EngineBusyError, TooLargeError: see `Engine.fetch`.
        """
        with measured("bars"):
            pinned = self._planner.pin(DataType.TRADES, query.at)
            rows = AdjustedRows(DataType.TRADES, query.symbols, query.exchange, query.around, query.at)
            pinned = self._adjusted(pinned, rows, query.adjusted)
            found = bars_of(self._engine, self._planner, self._directory, pinned, query, time.time_ns() // 1000)
            count_rows("bars", found.rows.num_rows)
            if found.rows.num_rows:
                return found
            why = absence.why_nothing(
                self._planner,
                self._directory,
                pinned,
                EventsQuery(DataType.TRADES, query.symbols, query.exchange, prints=query.prints),
            )
            return replace(found, note=why)

    def asof(self, query: AsofQuery) -> Asof:
        """Trades, oldest first, each with the quote that prevailed: the last one strictly before it.

        At a snapshot, which is of one table of trades, the quotes are as they were at its time. Raises as `events` does.
        """
        with measured("asof"):
            trades = self._planner.pin(DataType.TRADES, query.at)
            at, chosen = query.at, trades.tables[0].snapshot
            if at.snapshot is not None and chosen is not None:
                at = At(as_of_us=chosen.time_us)
            quotes = self._planner.pin(DataType.QUOTES, at)
            rows = AdjustedRows(DataType.TRADES, query.symbols, query.exchange, query.window, query.at)
            trades = self._adjusted(trades, rows, query.adjusted)
            if trades.factors is not None:  # the same records and closes count for the quotes
                venues = trades.factors.venues
                rows = AdjustedRows(DataType.QUOTES, tuple(venues), query.exchange, query.around_quotes, at, venues)
                quotes = self._adjusted(quotes, rows, trades.factors.how)
            pinned = (trades, quotes)
            found = asof_of(self._engine, self._planner, self._directory, pinned, query)
            count_rows("asof", found.rows.num_rows)
            if found.rows.num_rows:
                return found
            why = absence.why_nothing(
                self._planner,
                self._directory,
                trades,
                EventsQuery(DataType.TRADES, query.symbols, query.exchange, prints=query.prints),
            )
            return replace(found, note=why)

    def reference(self, query: ReferenceQuery) -> Reference:
        """What is known of companies: of each thing the record that was taken in last, or all of them.

        Raises as `Planner.pin` and `Engine.fetch` do.
        """
        with measured("reference"):
            pinned = self._planner.pin(DataType.REFERENCE_DATA, query.at)
            found = reference_of(self._engine, self._planner, pinned, query)
            count_rows("reference", found.rows.num_rows)
            return found

    def last(self, query: LastQuery) -> Last:
        """The newest trade and quote of each symbol, the last of each in the total order.

        At a snapshot the quotes are as `asof` has them. Without a table of quotes there are none. Raises as `events` does.
        """
        with measured("last"):
            trades = self._planner.pin(DataType.TRADES, query.at)
            quotes = self._quotes_beside(trades, query.at)
            found = last_of(self._remembered.lasts, self._planner, self._directory, (trades, quotes), query)
            count_rows("last", found.rows.num_rows)
            return found

    def _quotes_beside(self, trades: Pinned, at: At) -> Pinned | None:
        """The quotes as they were when the trades were; None where there is no table of them."""
        chosen = trades.tables[0].snapshot
        if at.snapshot is not None and chosen is not None:
            at = At(as_of_us=chosen.time_us)
        try:
            return self._planner.pin(DataType.QUOTES, at)
        except TableMissingError:
            return None

    def symbols(self, data_type: DataType, at: At = CURRENT, exchange: str | None = None) -> Symbols:
        """Every symbol of a data type's tables with its exchange, number of rows, first and last time."""
        with measured("symbols"):
            pinned = self._planner.pin(data_type, at.in_files())
            relation = self._planner.plan(pinned, (), exchange, Window())
            found = self._directory.symbols(relation)
            wanted = [info for info in found if exchange is None or info.exchange == exchange]
            return Symbols(wanted, pinned.provenance((relation,)))

    def date_range(self, data_type: DataType, symbol: str, exchange: str | None = None, at: At = CURRENT) -> SymbolInfo:
        """First and last event of a symbol; `NotFoundError` when there is none, `AmbiguousSymbolError` as for events."""
        with measured("date_range"):
            pinned = self._planner.pin(data_type, at.in_files())
            relation = self._planner.plan(pinned, (symbol,), exchange, Window())
            found = [
                info
                for info in self._directory.symbols(relation)
                if info.symbol == symbol and exchange in (None, info.exchange)
            ]
            if not found:
                known = absence.known_symbols(self._planner, self._directory, pinned, exchange)
                raise absence.unknown_symbol(pinned, (symbol,), exchange, known)
            if len(found) > 1:
                raise ambiguous(symbol, {info.exchange for info in found})
            return found[0]

    def all_stats(self, at: At = CURRENT) -> list[TableStats]:
        """`stats` of the tables that are there and were at that time.

        Those of reference data only for one who may see all rows: many of its rows name no symbol to count them by.

        Raises:
            TableMissingError, SnapshotGoneError: none is.
        """
        found: list[TableStats] = []
        missing: TableMissingError | SnapshotGoneError | None = None
        sight = self._planner.sight
        kinds = [kind for kind in DataType if kind is not DataType.REFERENCE_DATA or not sight.is_partial]
        for data_type in [kind for kind in kinds if sight.may_ask(kind)] or kinds:
            try:
                found += self.stats(data_type, at)
            except (TableMissingError, SnapshotGoneError) as error:
                missing = missing or error
        if missing is not None and not found:
            raise missing
        return found

    def stats(self, data_type: DataType, at: At = CURRENT) -> list[TableStats]:
        """Size and reach of each table, from its metadata alone; of the visible rows where the sight leaves some out."""
        with measured("stats"):
            pinned = self._planner.pin(data_type, at.in_files())
            return [self._stats(data_type, pinned.only(each.state.identifier)) for each in pinned.tables]

    def _stats(self, data_type: DataType, pinned: Pinned) -> TableStats:
        [table] = pinned.tables
        oldest_us, newest_us, retained = pinned.oldest_us, pinned.newest_us, len(table.state.snapshots)
        if pinned.sight.is_partial:
            rows = sum(info.rows for info in self._directory.symbols(self._planner.plan(pinned, (), None, Window())))
            return TableStats(data_type, rows, None, None, retained, oldest_us, newest_us, None, pinned.provenance())
        held = OffsetMap() if table.snapshot is None else table.snapshot.offsets
        topics = [TopicProgress(topic, held.next_of(topic)) for topic in sorted(held.topics)]
        files, provenance = table.files, pinned.provenance()
        return TableStats(
            data_type,
            files.rows,
            len(files.files),
            files.bytes,
            retained,
            oldest_us,
            newest_us,
            topics,
            provenance,
        )

    def snapshots(self, data_type: DataType) -> list[TableState]:
        """Each table's retained snapshots, oldest first, and which one is current; totals only where all may be seen."""
        with measured("snapshots"):
            return [self._planner.sight.redacted(state) for state in self._planner.states(data_type)]

    def answering(self, data_type: DataType, at: At = CURRENT) -> TableSnapshots:
        """The snapshots that would answer; raises as `Planner.pin` does."""
        return self._planner.snapshots(data_type, at)

    @property
    def sight(self) -> Sight:
        """What may be seen."""
        return self._planner.sight

    def make_pin(self, data_types: Sequence[DataType], at: Mapping[DataType, At], lasts: timedelta) -> PinRecord:
        """See `pins.make_pin`."""
        with measured("pins"):
            return pins.make_pin(self._planner, data_types, at, lasts, datetime.now(UTC))

    def pins(self) -> list[PinRecord]:
        """See `pins.all_pins`."""
        with measured("pins"):
            return pins.all_pins(self._planner, datetime.now(UTC))

    def delete_pin(self, pin: str) -> None:
        """See `pins.delete_pin`."""
        with measured("pins"):
            pins.delete_pin(self._planner, pin, datetime.now(UTC))

    def audits(self, data_type: DataType | None = None, sequences: SequenceScope | None = None) -> list[Audited]:
        """The audits of a data type's tables, or of all that are there; raises as `audits.audit` does, and `ForbiddenError`."""
        with measured("audit"):
            planner = self._planner
            planner.sight.check_whole("The audit")
            may_see = [each for each in planner.tables if planner.sight.may_ask(each)]
            found: list[Audited] = []
            for identifier in (
                name for each in ([data_type] if data_type is not None else may_see) for name in planner.names(each)
            ):
                try:
                    found.append(audits.audit(planner.reader, identifier, planner.tails, sequences))
                except TableMissingError:
                    if data_type is not None:
                        raise
            return found

    def dead_letters(self, topic: TopicName, most: int, reason: str | None = None) -> LetterCounts:
        """The newest letters of a topic, counted.

        Raises:
            ForbiddenError: the key does not see all of that kind of data.
            NotFoundError: the topic has no dead-letter topic, or the service knows no Kafka.
            WorldError: Kafka cannot be reached.
        """
        with measured("dead_letters"):
            self._planner.sight.check(topic.data_type)
            self._planner.sight.check_whole("The list of dead letters")
            if self._planner.letters is None:
                raise NotFoundError("This service knows no Kafka, and so no dead letters")
            return self._planner.letters.newest(topic, most, reason)

    def replay_merged(self, query: ReplayQuery) -> Replay:
        """Quotes and trades in one order of events, from the beginning; raises as `Replay.begin` does."""
        return Replay.begin(self._planner, self._engine, query, self._factors())

    def replay_from(self, cursor: Cursor) -> Replay:
        """The rest of a replay; raises `SnapshotGoneError` when what it read is not retained, once it is read."""
        return Replay(self._planner, self._engine, cursor, factors=self._factors())

    def _factors(self) -> KnownFactors:
        return KnownFactors(self._engine, self._planner, self._directory, self._remembered.closes)

    def ready(self) -> tuple[bool, str]:
        """Whether the tables of trades and quotes are there, and what is missing; raises as `TableReader.state` does."""
        kinds = (DataType.TRADES, DataType.QUOTES)
        names = [state.identifier for kind in kinds for state in self._planner.states(kind)]
        return True, f"{' and '.join(names)} can be read"
