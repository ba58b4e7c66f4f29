"""The last row of each symbol in the data files of a snapshot: read once, and remembered, for what a snapshot's files hold never changes.

Files are looked at newest first, until none is left that may end later than what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from k2.model.lru import Lru
from k2.query.asked.requests import TableSnapshots
from k2.query.rows import sql
from k2.query.rows.last_rows import last_rows, last_times
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema
from k2.query.rows.statement import RowSource

_MOST_ENTRIES = 4_096
_FILES_AT_FIRST = 1


@dataclass(frozen=True, slots=True)
class SnapshotRows:
    """The rows of the files of some tables, each at its snapshot, as one who may see so much of them is given them."""

    snapshots: TableSnapshots
    relation: Relation

    @property
    def identity(self) -> tuple[Any, ...]:
        """What may be remembered of them may be remembered under this."""
        left_out = tuple(each.left_out for each in self.relation.tables)
        return (self.snapshots, self.relation.sight, self.relation.columns, left_out)


class LastInFiles:
    """Remembers last rows, least recently used forgotten first, 4,096 of them at most. Threads share it."""

    def __init__(self, engine: RowSource) -> None:
        self._engine = engine
        self._held: Lru[tuple[Any, ...], pa.Table] = Lru(_MOST_ENTRIES)

    def rows(self, of: SnapshotRows, which: sql.Filter, names: Sequence[str]) -> list[pa.Table]:
        """Of each symbol of the condition, which has no other but an exchange, its last row with these columns; one table each.

        A symbol without rows has none. Raises as `RowSource.fetch` does.
        """
        common = (of.identity, which.exchange, tuple(names))
        found: dict[str, pa.Table] = {}
        for symbol in which.symbols:
            if (held := self._held.get((common, symbol))) is not None:
                found[symbol] = held
        missing = tuple(symbol for symbol in which.symbols if symbol not in found)
        if missing:
            rows = _read(self._engine, of.relation, replace(which, symbols=missing), names)
            at = {name: number for number, name in enumerate(rows.column("symbol").to_pylist())}
            for symbol in missing:
                row = rows.slice(at[symbol], 1) if symbol in at else rows.slice(0, 0)
                found[symbol] = self._held.put((common, symbol), row)
        return [row for row in found.values() if row.num_rows]


def _read(engine: RowSource, relation: Relation, which: sql.Filter, names: Sequence[str]) -> pa.Table:
    times: dict[str, int] = {}
    left = sorted(relation.files, key=lambda file: file.end_us)
    at_once = _FILES_AT_FIRST
    while left:
        # What ties with the last row decides with it, so a file that may reach its instant is still to be looked at.
        open_still = tuple(name for name in which.symbols if name not in times or times[name] <= left[-1].end_us)
        if not open_still:
            break
        left, chosen = left[:-at_once], left[-at_once:]
        at_once *= 2
        looked = last_times(relation.of(chosen), replace(which, symbols=open_still))
        for row in engine.fetch("last", looked).to_pylist():
            name, us = str(row["symbol"]), int(row["us"])
            times[name] = max(times.get(name, us), us)
    schema = arrow_schema(relation.columns, names=names)
    if not times:
        return schema.empty_table()
    instants = sorted(set(times.values()))
    files = [file for file in relation.files if any(file.start_us <= us <= file.end_us for us in instants)]
    within = tuple((us, us + 1) for us in instants)
    only = replace(which, start_us=instants[0], end_us=instants[-1] + 1, within=within if len(within) > 1 else ())
    # Where one symbol's instant is another's earlier one, that one's last row is later still: the last of all is the last.
    return engine.fetch("last", last_rows(relation.of(files), only, names)).cast(schema)
