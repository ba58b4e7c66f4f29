"""Pages of events: rows up to a limit, and the place in the order where they end, from which the next page goes on.

The place is a key of the order (keyset): a page costs the same however far it is, and rows that are added meanwhile neither
move nor repeat others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain

import pyarrow as pa

from k2.model.events import SortKey
from k2.obs.tally import count_rows
from k2.query.asked.requests import EventsQuery
from k2.query.events.first_rows import first_rows
from k2.query.events.prepared import PreparedEvents
from k2.query.events.windows import ReplayWindow, windows_of
from k2.query.plan.provenance import Provenance
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema
from k2.query.rows.statement import RowSource

_WINDOW_ROWS = 1_000_000
"""Rows that one sort holds at most, unless more of them lie within a second. The engine's memory limit spills to disk."""

HEAD_ROWS = 20_000
"""Rows that are read at once: an answer of no more is whole before its first byte is sent."""


@dataclass(frozen=True, slots=True)
class Events:
    """Rows in the total order; `more` when the limit cut off others; `note` says why there are none.

    `last`: where in the order the rows end, when there are more: what comes after it is the next page.
    """

    rows: pa.Table
    more: bool
    provenance: Provenance
    note: str | None = None
    last: SortKey = ()


def page(engine: RowSource, label: str, asked: PreparedEvents) -> tuple[pa.Table, SortKey]:
    """The rows of the answer, at most the question's limit, and where they end; no key when there are no more."""
    relation, which, query, one_series = asked.relation, asked.which, asked.query, asked.one_series
    rows = first_rows(engine, label, relation, which, query.limit + 1, one_series=one_series, fields=query.fields)
    last: SortKey = ()
    if rows.num_rows > query.limit:
        last = _last_key(engine, label, relation, which, rows, query.limit, one_series=one_series)
        rows = rows.slice(0, query.limit)
    names = query.fields or [name for name in rows.column_names if name not in sql.LINEAGE]
    return (rows if len(names) == rows.num_columns else rows.select(names)), last


def _last_key(
    engine: RowSource,
    label: str,
    relation: Relation,
    which: sql.Filter,
    rows: pa.Table,
    limit: int,
    *,
    one_series: bool,
) -> SortKey:
    """The key of row `limit - 1`. Of one series few columns are enough, unless the row after it has the same ones."""
    order = sql.series_order(relation) if one_series else sql.order_of(relation)
    last = _key(rows, limit - 1, order)
    if len(order) > len(sql.SHORT_ORDER) or last != _key(rows, limit, order):
        return last
    instant = last[0][1]
    assert isinstance(instant, int)
    whole = sql.order_of(relation)
    # What this page has of the instant is its first rows after the page's own beginning: the last of these is the key.
    same = 1
    while same < limit and _key(rows, limit - 1 - same, order[:1]) == last[:1]:
        same += 1
    at_instant = replace(which, start_us=instant, end_us=instant + 1)
    statement = sql.events(relation, at_instant, limit=same, fields=whole)
    return _key(engine.fetch(label, statement), same - 1, whole)


def _key(rows: pa.Table | pa.RecordBatch, number: int, order: Sequence[str]) -> SortKey:
    return tuple((name, _plain(rows.column(name)[number])) for name in order)


def _plain(value: pa.Scalar) -> int | str | None:
    if pa.types.is_timestamp(value.type):
        return value.cast(pa.timestamp("us", value.type.tz)).value
    return value.as_py()


@dataclass(slots=True)
class EventStream:
    """An answer that is read while it is sent, in memory that does not grow with it.

    Attributes:
        schema: of every batch.
        provenance: what it is read from.
        label: the kind of question.
        limit: most rows.
        order: the columns of the order.
        head: the first rows, read already.
        rest: what comes after these, where the limit may end it with the columns of the order; None: there is no more.
        note: why there is none.
        rows: how many were given so far.
        last: when the limit cut others off and the batches are at their end: where they ended in the order.
    """

    schema: pa.Schema
    provenance: Provenance
    label: str
    limit: int
    order: tuple[str, ...]
    head: pa.Table
    rest: Iterator[pa.RecordBatch] | None = None
    note: str | None = None
    rows: int = 0
    last: SortKey = field(default=())

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows. Closing the iterator stops the query."""
        self.rows = self.head.num_rows
        count_rows(self.label, self.rows)
        yield from self.head.to_batches()
        before: SortKey = ()
        for batch in self.rest or ():
            left = self.limit - self.rows
            if not left and batch.num_rows:
                self.last = before
                return
            given = batch.slice(0, left)
            if given.num_rows:
                self.rows += given.num_rows
                count_rows(self.label, given.num_rows)
                if set(self.order) <= set(given.schema.names):
                    before = _key(given, given.num_rows - 1, self.order)
                yield given.select(self.schema.names)
            if batch.num_rows > left:
                self.last = before
                return


def after(relation: Relation, which: sql.Filter, last: SortKey) -> tuple[Relation, sql.Filter]:
    """What comes after a row of that key, and the files that may hold it."""
    instant = last[0][1]
    assert isinstance(instant, int)
    files = tuple(file for file in relation.files if file.end_us >= instant)
    return replace(relation, files=files), replace(which, start_us=instant, after=last)


def in_order(
    engine: RowSource, relation: Relation, which: sql.Filter, query: EventsQuery, *, batch_rows: int
) -> Generator[pa.RecordBatch]:
    """Rows that match in the total order, at most `query.limit` and one more of each window.

    Where the limit may cut the answer off they have the columns of the order too, for the key of the next page; before that
    nobody needs these (measured: of three columns a tenth more rows a second without them).
    """
    order = sql.order_of(relation)
    wanted = query.fields or arrow_schema(relation.columns).names

    def rows_of(window: ReplayWindow, *, may_end: bool) -> Generator[pa.RecordBatch]:
        names = tuple(dict.fromkeys((*wanted, *order) if may_end else wanted))
        schema = arrow_schema(relation.columns, names=names)
        limit = query.limit + 1 if may_end else None
        statement = sql.events(window.relation, window.which, limit=limit, fields=names)
        with closing(engine.stream(query.data_type.value, statement, batch_rows=batch_rows)) as batches:
            for batch in batches:
                yield batch.cast(schema)

    windows = windows_of(engine, relation, which, _WINDOW_ROWS)
    late: list[ReplayWindow] = []

    def early() -> Iterator[Generator[pa.RecordBatch]]:
        most = 0
        for window in windows:
            most += window.relation.most_rows
            if most >= query.limit:
                late.append(window)
                return
            yield rows_of(window, may_end=False)

    # DuckDB sorts a window with all threads and hands it out with one: meanwhile the others sort the next, as long as it will
    # be wanted (measured: 1.4 times the rows a second).
    yield from engine.ahead(early())
    for window in chain(late, windows):
        yield from rows_of(window, may_end=True)
