"""What a table's own rows say of the source's sequence: which numbers are there, missing or there twice, by trading day.

Numbers are kept as intervals of consecutive ones, and a day is done with when the files that follow begin after it: memory is a
few bytes for each interval of the days under way, whatever a table holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2.lake.proof.files_audit import name_below
from k2.lake.proof.lineage import Progress, check_readable
from k2.lake.proof.runs import Ints, running_max, shifted, starts_of
from k2.lake.scan import plan_files
from k2.model.errors import DamagedError
from k2.model.exchanges import known_exchange
from k2.model.sequences import SequenceScope
from k2.model.trading_days import day_of, day_starts

MOST_LISTED = 1_000
"""Days of symbols that are listed one by one; beyond it those with the most missing, and the rest as a number."""

BATCH_ROWS = 1_000_000
MOST_PENDING = 4_000_000
"""Intervals that are held before they are merged."""

_COLUMNS = ("symbol", "exchange", "timestamp", "effective_timestamp", "source_sequence")
_DAYS = 2**31


@dataclass(frozen=True, slots=True)
class SequenceDay:
    """The numbers of one symbol (None: of all of the exchange) on one of its trading days (None: on all of them).

    Attributes:
        first, last: the lowest and the highest number.
        distinct: how many different ones there are.
        missing: numbers between the two that no row has.
        duplicated: rows beyond the first of a number.
    """

    exchange: str
    symbol: str | None
    day: date | None
    first: int
    last: int
    distinct: int
    missing: int
    duplicated: int


@dataclass(frozen=True, slots=True)
class SequenceAudit:
    """The numbers of a table's snapshot.

    Attributes:
        scope: which events were taken to be numbered together.
        rows: rows with a number.
        unnumbered: rows without (or, by symbol, without a symbol).
        missing, duplicated: of all days together.
        groups: trading days of symbols (or exchanges) that there are; without end: symbols (or exchanges).
        days: all of them by day, exchange and symbol, or the `MOST_LISTED` with the most to say.
    """

    scope: SequenceScope
    rows: int
    unnumbered: int
    missing: int
    duplicated: int
    groups: int
    days: Sequence[SequenceDay]


def audit_sequences(table: Table, scope: SequenceScope, progress: Progress | None = None) -> SequenceAudit:
    """Read the numbers of all rows of a table's current snapshot.

    Args:
        table: as it was loaded.
        scope: which events the source numbers together.
        progress: told after each file.
    """
    snapshot = table.current_snapshot()
    account = SequenceAccount(scope)
    files = plan_files(table, None if snapshot is None else snapshot.snapshot_id)
    for number, file in enumerate(files, start=1):
        account.finish_before(file.start_us)  # files come oldest first
        try:
            _add_file(account, table, file.path)
        except (OSError, pa.ArrowException, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                check_readable(table.io, file.path, error)
            raise DamagedError(
                f"The numbers cannot be read: file {name_below(table, file.path)} is missing or broken. Bring it back; "
                "k2 audit without --sequences names all such files"
            ) from error
        if progress is not None:
            progress(number, len(files))
    return account.result()


def _add_file(account: SequenceAccount, table: Table, path: str) -> None:
    with table.io.new_input(path).open() as stream:
        parquet = pq.ParquetFile(stream, read_dictionary=["symbol", "exchange"])
        there = [name for name in _COLUMNS if name in parquet.schema_arrow.names]
        for rows in parquet.iter_batches(BATCH_ROWS, columns=there, use_threads=False):
            account.add(rows)


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Consecutive numbers [low, high] of a group, and how many rows have one of them; columns of equal length."""

    group: Ints
    low: Ints
    high: Ints
    rows: Ints

    def __len__(self) -> int:
        return len(self.group)

    def of(self, chosen: npt.NDArray[np.bool_]) -> _Intervals:
        return _Intervals(self.group[chosen], self.low[chosen], self.high[chosen], self.rows[chosen])

    def merged(self) -> _Intervals:
        """The same numbers in as few intervals as there can be, ordered by group and number."""
        if not len(self):
            return self
        order = np.lexsort((self.low, self.group))
        group, low, high, rows = self.group[order], self.low[order], self.high[order], self.rows[order]
        firsts = starts_of(group)
        reached = running_max(high, firsts)
        before = shifted(reached)
        apart = (low > before) & (low - 1 != before)
        apart[firsts] = True
        begins = np.flatnonzero(apart)
        lasts = np.append(begins[1:], len(group)) - 1
        return _Intervals(group[begins], low[begins], reached[lasts], np.add.reduceat(rows, begins))


@dataclass(frozen=True, slots=True)
class _Done:
    """Groups that nothing is added to any more."""

    group: Ints
    first: Ints
    last: Ints
    distinct: npt.NDArray[np.uint64]
    rows: Ints

    @property
    def missing(self) -> npt.NDArray[np.uint64]:
        return self.last.astype(np.uint64) - self.first.astype(np.uint64) - (self.distinct - np.uint64(1))

    @property
    def duplicated(self) -> Ints:
        return self.rows - self.distinct.astype(np.int64)


@dataclass(slots=True)
class SequenceAccount:
    """Takes rows in, file by file, oldest first.

    Args:
        scope: which events are numbered together.
    """

    scope: SequenceScope
    rows: int = 0
    unnumbered: int = 0
    # A group is a symbol (or an exchange) on a trading day: number of the name * 2³¹ + number of the day.
    _names: dict[tuple[str, str | None], int] = field(default_factory=dict[tuple[str, str | None], int])
    _days: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    _pending: list[_Intervals] = field(default_factory=list[_Intervals])
    _held: int = 0
    _done: list[_Done] = field(default_factory=list[_Done])
    _over: set[int] = field(default_factory=set[int])

    def add(self, rows: pa.RecordBatch) -> None:
        """Rows with those columns of `_COLUMNS` that their file has, symbol and exchange as dictionaries."""
        names = rows.schema.names
        if "source_sequence" not in names:
            self.unnumbered += len(rows)
            return
        before = len(rows)
        for name in ("source_sequence", "exchange", *(("symbol",) if self.scope.by_symbol else ())):
            if rows.column(name).null_count:
                rows = rows.filter(rows.column(name).is_valid())
        self.rows += len(rows)
        self.unnumbered += before - len(rows)
        if not len(rows):
            return
        time = "timestamp" if "timestamp" in names else "effective_timestamp"
        group = self._groups(rows, rows.column(time).cast(pa.int64()).to_numpy())
        found = _intervals(group, rows.column("source_sequence").to_numpy())
        self._pending.append(found)
        self._held += len(found)
        if self._held > MOST_PENDING:
            self._merge()

    def finish_before(self, start_us: int) -> None:
        """No row is to come from before that instant."""
        over = {
            index
            for (exchange, day), index in self._days.items()
            if day < int(day_starts(np.array([start_us]), known_exchange(exchange))[0])
        }
        if self._pending and not over <= self._over:
            self._over = over
            self._merge()
            (held,) = self._pending
            finished = np.isin(held.group % _DAYS, list(over))
            self._done.append(_done(held.of(finished)))
            self._pending = [held.of(~finished)]
            self._held = len(self._pending[0])

    def result(self) -> SequenceAudit:
        """The account of all rows; nothing may be added afterwards."""
        self._merge()
        self._done += [_done(each) for each in self._pending]
        done = _all_of(self._done)
        missing, duplicated = done.missing, done.duplicated
        listed = np.arange(len(done.group))
        if len(listed) > MOST_LISTED:
            listed = np.lexsort((-duplicated, ~missing))[:MOST_LISTED]
        names = {index: name for name, index in self._names.items()}
        days = {index: day_of(start, known_exchange(exchange)) for (exchange, start), index in self._days.items()}
        found = [
            SequenceDay(
                *names[int(done.group[at]) // _DAYS],
                days.get(int(done.group[at]) % _DAYS),
                int(done.first[at]),
                int(done.last[at]),
                int(done.distinct[at]),
                int(missing[at]),
                int(duplicated[at]),
            )
            for at in listed.tolist()  # a bounded number of them
        ]
        return SequenceAudit(
            self.scope,
            self.rows,
            self.unnumbered,
            sum(missing.tolist()),
            int(duplicated.sum()),
            len(done.group),
            tuple(sorted(found, key=lambda each: (each.day or date.min, each.exchange, each.symbol or ""))),
        )

    def _merge(self) -> None:
        if self._pending:
            columns = [(each.group, each.low, each.high, each.rows) for each in self._pending]
            self._pending = [_Intervals(*(np.concatenate(column) for column in zip(*columns, strict=True))).merged()]
            self._held = len(self._pending[0])

    def _groups(self, rows: pa.RecordBatch, times: Ints) -> Ints:
        exchanges, symbols = rows.column("exchange"), rows.column("symbol")
        group = np.empty(len(rows), dtype=np.int64)
        codes = exchanges.indices.to_numpy()
        for code in np.unique(codes).tolist():
            chosen = slice(None) if len(exchanges.dictionary) == 1 else codes == code
            exchange = exchanges.dictionary[code].as_py()
            # Numbers without end are of one day that is never over.
            days: Ints | int = 0
            if self.scope.by_day:
                days = self._day_codes(exchange, day_starts(times[chosen], known_exchange(exchange)))
            if not self.scope.by_symbol:
                group[chosen] = self._names.setdefault((exchange, None), len(self._names)) * _DAYS + days
            else:
                of_symbol = symbols.indices.to_numpy()[chosen]
                group[chosen] = self._name_codes(exchange, symbols.dictionary, of_symbol) * _DAYS + days
        return group

    def _day_codes(self, exchange: str, starts: Ints) -> Ints:
        edges = starts_of(starts)  # few: a file's rows are of one day, or two, and in the order of time within a symbol
        different, inverse = np.unique(starts[edges], return_inverse=True)
        codes = np.array([self._days.setdefault((exchange, day), len(self._days)) for day in different.tolist()])
        return np.repeat(codes[inverse], np.diff(np.append(edges, len(starts))))

    def _name_codes(self, exchange: str, symbols: pa.Array, codes: Ints) -> Ints:
        table = np.zeros(len(symbols), dtype=np.int64)
        for code in np.flatnonzero(np.bincount(codes, minlength=len(symbols))).tolist():  # distinct symbols
            table[code] = self._names.setdefault((exchange, symbols[code].as_py()), len(self._names))
        return table[codes]


def _intervals(group: Ints, numbers: Ints) -> _Intervals:
    """Rows as intervals of consecutive numbers; files that are in the order of their numbers need no sorting."""
    step = numbers[1:] > numbers[:-1]
    if not (step | (group[1:] != group[:-1])).all() or len(starts_of(group)) != len(np.unique(group[starts_of(group)])):
        order = np.lexsort((numbers, group))
        group, numbers = group[order], numbers[order]
    begins = np.ones(len(group), dtype=bool)
    begins[1:] = (group[1:] != group[:-1]) | ((numbers[1:] != numbers[:-1]) & (numbers[1:] - 1 != numbers[:-1]))
    at = np.flatnonzero(begins)
    ends = np.append(at[1:], len(group))
    return _Intervals(group[at], numbers[at], numbers[ends - 1], ends - at)


def _done(held: _Intervals) -> _Done:
    """Merged intervals by group."""
    if not len(held):
        return _Done(held.group, held.low, held.high, np.zeros(0, dtype=np.uint64), held.rows)
    firsts = starts_of(held.group)
    ends = np.append(firsts[1:], len(held)) - 1
    width = held.high.astype(np.uint64) - held.low.astype(np.uint64) + np.uint64(1)
    return _Done(
        held.group[firsts],
        held.low[firsts],
        held.high[ends],
        np.add.reduceat(width, firsts),
        np.add.reduceat(held.rows, firsts),
    )


def _all_of(done: Sequence[_Done]) -> _Done:
    empty = np.zeros(0, dtype=np.int64)
    return _Done(
        np.concatenate([empty, *(each.group for each in done)]),
        np.concatenate([empty, *(each.first for each in done)]),
        np.concatenate([empty, *(each.last for each in done)]),
        np.concatenate([empty.astype(np.uint64), *(each.distinct for each in done)]),
        np.concatenate([empty, *(each.rows for each in done)]),
    )


def worst(found: SequenceAudit) -> list[SequenceDay]:
    """Days with something to say, those with the most missing first."""
    said = (each for each in found.days if each.missing or each.duplicated)
    return sorted(said, key=lambda each: (-each.missing, -each.duplicated))
