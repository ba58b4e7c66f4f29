"""The close before an ex-date: the last trade of the regular session of the date before it, read with a statement for all dates.

What the files of a snapshot have of a date is remembered: nothing changes it but rows that a tail has beside them.

Where that session had no trade it is that of the date before, up to ten dates back; where none had one, the last trade of any
time of these dates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from k2.model.exchanges import Exchange, Session
from k2.model.lru import Lru
from k2.model.times import iso
from k2.query.adjust.factors import Close
from k2.query.adjust.histories import FactorChange
from k2.query.asked.requests import Window
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource, Statement

DATES_BACK = 10
"""So many dates before an ex-date a close is looked for."""

Closes = Lru[tuple[Any, ...], tuple[Close | None]]
"""What is remembered: the last trade of a stretch of time in the files of a snapshot, or that there is none."""

MOST_CLOSES = 65_536
"""So many are remembered: twenty years of four dividends a year, of a few hundred symbols."""

_LAST_SEQUENCE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Trades:
    """Where closes are read, of one exchange; `before`: no row from these offsets on; `kept`: what is remembered."""

    engine: RowSource
    planner: Planner
    pinned: Pinned
    market: Exchange
    before: tuple[tuple[str, int, int], ...]
    kept: Closes

    def closes(self, symbol: str, changes: Sequence[FactorChange]) -> dict[FactorChange, Close]:
        """The close before each change; a change without a trade before it is absent. Raises as `RowSource.fetch` does."""
        found: dict[FactorChange, Close] = {}
        for session in (Session.REGULAR, Session.ALL):
            for back in range(1, DATES_BACK + 1):
                stretches: dict[tuple[int, int], FactorChange] = {}
                for change in changes:
                    bounds = _bounds(self.market.of(symbol), change.day - timedelta(days=back), session)
                    if change not in found and bounds is not None:
                        stretches[bounds] = change
                for start_us, close in self._last_within(symbol, sorted(stretches)).items():
                    found |= {change: close for (start, _), change in stretches.items() if start == start_us}
        return found

    def _last_within(self, symbol: str, stretches: Sequence[tuple[int, int]]) -> dict[int, Close]:
        """The last trade of each stretch that has one, by the stretch's start."""
        if not stretches:
            return {}
        relation = self._planned(symbol, stretches)
        if relation.tail is not None and relation.tail.num_rows:
            return self._read(relation, symbol, stretches)
        left_out = tuple(each.left_out for each in relation.tables)
        of_files = (self.pinned.snapshots, self.pinned.sight, left_out, self.before, self.market.code, symbol)
        known = {stretch: held for stretch in stretches if (held := self.kept.get((of_files, stretch))) is not None}
        if missing := [stretch for stretch in stretches if stretch not in known]:
            found = self._read(self._planned(symbol, missing), symbol, missing)
            known |= {each: self.kept.put((of_files, each), (found.get(each[0]),)) for each in missing}
        return {start_us: close for (start_us, _), (close,) in known.items() if close is not None}

    def _planned(self, symbol: str, stretches: Sequence[tuple[int, int]]) -> Relation:
        return self.planner.plan(self.pinned, (symbol,), self.market.code, Window.of(stretches))

    def _read(self, relation: Relation, symbol: str, stretches: Sequence[tuple[int, int]]) -> dict[int, Close]:
        if not relation:
            return {}
        window = Window.of(stretches)
        which = sql.Filter((symbol,), self.market.code, *window.bounds, before=self.before, within=window.within)
        rows = self.engine.fetch("closes", _statement(relation, which, stretches))
        return {row["start_us"]: Close(row["price"], row["currency"], row["us"]) for row in rows.to_pylist()}


def _bounds(market: Exchange, day: date, session: Session) -> tuple[int, int] | None:
    """The date, or its regular session (beyond what the calendar knows the usual one); None: there is none."""
    if session is Session.ALL:
        return market.bounds(day, session)
    parts = market.calendar.usual_session(day)
    return (parts[0][0], parts[-1][1]) if parts else None


def _statement(relation: Relation, which: sql.Filter, stretches: Sequence[tuple[int, int]]) -> Statement:
    condition, params = sql.where(relation, which)
    order = ", ".join(
        f'coalesce("{name}", {_LAST_SEQUENCE})' if name == "source_sequence" else f'"{name}"'
        for name in sql.order_of(relation)
    )
    source = sql.source(relation, names={"price", "currency", "symbol", "exchange", *sql.order_of(relation)})
    text = (
        f"SELECT {_start(stretches)} AS start_us, arg_max(price, k2_place) AS price, "
        'arg_max(currency, k2_place) AS currency, epoch_us(max("timestamp")) AS us '
        f"FROM (SELECT *, row({order}) AS k2_place FROM {source}{condition}) GROUP BY 1"
    )
    return sql.statement(text, params, relation)


def _start(stretches: Sequence[tuple[int, int]]) -> str:
    """When the stretch begins that a time lies in, as a search by halves."""
    if len(stretches) == 1:
        return f"{stretches[0][0]}::BIGINT"
    middle = len(stretches) // 2
    left, right = _start(stretches[:middle]), _start(stretches[middle:])
    return f"CASE WHEN \"timestamp\" < TIMESTAMPTZ '{iso(stretches[middle][0])}' THEN {left} ELSE {right} END"
