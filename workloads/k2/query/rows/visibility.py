"""What the one who asks may see. It travels with every plan, so that no question can forget it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from k2.lake.reader import TableState
from k2.model.compute import pc
from k2.model.events import EVENT_TIME
from k2.model.topics import DataType
from k2.query.rows.errors import ForbiddenError


@dataclass(frozen=True, slots=True)
class Sight:
    """Rows that may be seen; None is no bound.

    Attributes:
        data_types: kinds of data that may be asked for at all.
        exchanges: codes of exchanges.
        symbols: symbols.
        oldest_us: no event before this instant, microseconds since 1970 UTC.
    """

    data_types: frozenset[DataType] | None = None
    exchanges: frozenset[str] | None = None
    symbols: frozenset[str] | None = None
    oldest_us: int | None = None

    @property
    def is_partial(self) -> bool:
        """Whether there may be rows of a table that are not to be seen, though others of it are."""
        return self.exchanges is not None or self.symbols is not None or self.oldest_us is not None

    def may_ask(self, data_type: DataType) -> bool:
        """Whether the kind of data may be asked for at all."""
        return self.data_types is None or data_type in self.data_types

    def check(self, data_type: DataType) -> None:
        """Raise `ForbiddenError` where the kind of data may not be asked for."""
        if not self.may_ask(data_type):
            allowed = sorted(kind.value for kind in self.data_types or ())
            raise ForbiddenError(f"This key may not see {data_type.value}", expected=" or ".join(allowed))

    def check_whole(self, what: str) -> None:
        """Raise `ForbiddenError` unless all rows of a table may be seen: for answers that cannot be made of some of them.

        Args:
            what: the answer, as a person calls it ("The audit").
        """
        if self.is_partial:
            raise ForbiddenError(
                f"{what} is about whole tables, and this key sees a part of them",
                remedy="Ask with a key that has no rules for exchanges, symbols or days",
            )

    def sees(self, symbol: str, exchange: str) -> bool:
        """Whether rows of the symbol on the exchange may be seen (from `oldest_us` on)."""
        return (self.symbols is None or symbol in self.symbols) and (
            self.exchanges is None or exchange in self.exchanges
        )

    def visible(self, rows: pa.Table) -> pa.Table:
        """The rows that may be seen of those with the columns symbol, exchange and the event's time, in their order."""
        kept: list[Any] = []
        for name, allowed in (("symbol", self.symbols), ("exchange", self.exchanges)):
            if allowed is not None:
                kept.append(pc.field(name).cast(pa.string()).isin(sorted(allowed)))
        if self.oldest_us is not None:
            time = next(name for name in EVENT_TIME.values() if name in rows.column_names)
            kept.append(pc.field(time) >= pa.scalar(self.oldest_us, pa.timestamp("us", tz="UTC")))
        for condition in kept:  # a null is not known to be allowed: the filter drops it
            rows = rows.filter(condition)
        return rows

    def redacted(self, state: TableState) -> TableState:
        """The state without what its snapshots' summaries tell of all rows: totals, offsets, topics."""
        if not self.is_partial:
            return state
        snapshots = tuple(replace(snapshot, summary={}) for snapshot in state.snapshots)
        return replace(state, snapshots=snapshots, by_id={snapshot.id: snapshot for snapshot in snapshots})


EVERYTHING = Sight()
"""All rows of all tables."""
