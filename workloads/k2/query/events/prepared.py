"""A question about events, prepared: the snapshot that answers, the files to read, the condition. Nothing is read yet.

Only the exchanges of its symbols may be: they are looked up, and remembered, where the question names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from k2.lake.reader import ColumnInfo
from k2.model.errors import UserError
from k2.query.asked.requests import At, EventsQuery
from k2.query.plan import changes
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.venue import check_exchanges, checked_on, one_exchange
from k2.query.rows import sql
from k2.query.rows.relation import Relation


@dataclass(frozen=True, slots=True)
class PreparedEvents:
    """What is to be read for a question.

    Attributes:
        query: the question.
        pinned: the tables at the snapshots that answer.
        relation: what of them may hold such rows.
        which: the condition.
        one_series: whether all rows that match are of one symbol of one exchange.
    """

    query: EventsQuery
    pinned: Pinned
    relation: Relation
    which: sql.Filter
    one_series: bool

    @property
    def provenance(self) -> Provenance:
        """What an answer is read from."""
        return replace(self.pinned.provenance((self.relation,), self.which.prints), calendars=self.query.window.by)

    def first(self, rows: int) -> PreparedEvents:
        """The same question for no more than so many rows."""
        return replace(self, query=replace(self.query, limit=min(self.query.limit, rows)))


def prepare(planner: Planner, directory: SymbolDirectory, query: EventsQuery, pinned: Pinned) -> PreparedEvents:
    """Find out what is to be read of the tables at the snapshots that answer.

    Raises:
        UserError: no table has such a field, or the snapshots of a difference are of two tables.
        AmbiguousSymbolError: a symbol is traded on several exchanges in that window, and none was asked for.
        SnapshotGoneError: the snapshot or time is not retained.
    """
    earlier = None
    if query.since is not None:  # of one table, which its snapshot names
        earlier = planner.pin(query.data_type, At(snapshot=query.since)).tables[0]
        pinned = pinned.only(earlier.state.identifier)
    _check_fields(pinned.columns, query.fields)
    window = query.window
    if query.after and isinstance(instant := query.after[0][1], int):
        # Files that end before the page begins need not be looked at.
        window = window.starting(instant)
    which = sql.Filter(query.symbols, query.exchange, *window.bounds, query.after, within=window.within)
    which = replace(which, before=pinned.clipped(query.at), prints=query.prints)
    relation = planner.plan(pinned, query.symbols, query.exchange, window)
    venue = query.exchange
    if venue is None and len(query.symbols) == 1:
        venue = one_exchange(directory, relation, query.symbols[0], window)
        if venue is not None and len(relation.tables) > 1:  # tables of other exchanges need not be asked
            relation = planner.plan(pinned, query.symbols, venue, window)
    elif venue is None:
        check_exchanges(directory, relation, query.symbols, window)
    if venue is not None:
        which = replace(which, prints=checked_on(query.prints, venue))
    relation = relation.having(pinned.columns, query.fields)
    if earlier is not None:
        relation, beyond = changes.added(earlier, pinned.tables[0], relation)
        which = replace(which, beyond=beyond)
    return PreparedEvents(query, pinned, relation, which, len(query.symbols) == 1 and venue is not None)


def _check_fields(columns: Sequence[ColumnInfo], fields: Sequence[str]) -> None:
    known = [column.name for column in columns if sql.duck_type(column) is not None]
    for name in fields:
        if name not in known:
            raise UserError("Unknown field", found=name, expected=f"one of {', '.join(known)}")
