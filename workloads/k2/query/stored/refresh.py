"""A table of stored bars brought to the newest snapshot of its trades.

A bar is a function of (snapshot of the trades, definition): bars are computed anew from trades, never added to. What they are of
stands in the summary of the snapshot that has them. The next refresh compares the data files of that snapshot with those of the newest:
the UTC days that a file which came, went or lost rows reaches into are computed again, whatever their age, and so are days
with bars that were not complete. Of these days the rows that differ make the day's files be written anew, in one commit for all days.

The snapshot that is covered is pinned, so that its list of files stays; where it is gone, or the definition has changed, every day
is computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from k2.lake.pins import hold, release
from k2.lake.reader import SnapshotInfo, TableState
from k2.lake.scan import DataFileRef
from k2.lake.tables import ensure_table
from k2.lake.upkeep.derived import DerivedTable
from k2.model.bar_tables import BAR_KEYS, BAR_US, bar_table
from k2.model.errors import K2Error, UserError
from k2.model.events import Decimals
from k2.model.exchanges import Session, known
from k2.model.times import DAY_US, iso
from k2.obs.logging import get_logger
from k2.query.asked.profiles import profiles_described
from k2.query.asked.requests import At, Window
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource, Statement
from k2.query.stored.minutes import TradesRead, bars_of_day

_VERSION = 1
"""Of what is computed: another one makes every table be computed anew."""

_OPERATION = "bars"
_NOW = At(hybrid=False)
_KEPT_FOR = timedelta(days=30)
_MOST_DAYS = 100_000
_log = get_logger(__name__)

Told = Callable[[int, int], None]
"""Is called with the days that are done and that there are."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a run did, or would do.

    Attributes:
        table: of bars.
        of: the table of trades.
        snapshot_id: of the trades, that the bars are of now.
        days: computed.
        bars_new: bars that were not there.
        bars_revised: bars that are other than they were.
        bars_gone: bars without any trade left.
        why: what made it compute so many days.
        committed: the snapshot of the bars that the run made; None: none.
    """

    table: str
    of: str
    snapshot_id: int | None
    days: int
    bars_new: int = 0
    bars_revised: int = 0
    bars_gone: int = 0
    why: str = ""
    committed: int | None = None

    @property
    def differ(self) -> int:
        """How many bars are not what the trades say."""
        return self.bars_new + self.bars_revised + self.bars_gone


@dataclass(slots=True)
class _Run:
    """What a run has found so far."""

    new: int = 0
    revised: int = 0
    gone: int = 0
    changed: set[int] = field(default_factory=set[int])


class StoredBars:
    """The one-minute bars of a table of trades, in a table of their own.

    Args:
        planner: finds the files of both.
        engine: reads them.
        of: the table of trades.
        table: of the bars; made where it is not there.
        sessions: which bars there are of each minute.
    """

    def __init__(
        self, planner: Planner, engine: RowSource, of: str, table: str, sessions: Sequence[Session] = tuple(Session)
    ) -> None:
        if of == table:
            raise UserError("The bars would be written into the table of trades", found=table, expected="another table")
        self._planner, self._engine = planner, engine
        self._of, self._table, self._sessions = of, table, tuple(dict.fromkeys(sessions))

    def refresh(
        self, *, everything: bool = False, dry_run: bool = False, check: bool = False, told: Told | None = None
    ) -> Refreshed:
        """Bring the bars to the newest snapshot of the trades.

        Args:
            everything: compute every day again.
            dry_run: only find which days would be computed.
            check: compute every day, compare, and write nothing.
            told: is told how far it is.

        Raises:
            UserError: the trades are no table of trades.
            WorldError: somebody else wrote bars meanwhile, or a file or the catalog cannot be read. Nothing has changed.
        """
        pinned = self._planner.pin_table(self._of, _NOW)
        decimals = _decimals(pinned, self._of)
        snapshot = pinned.tables[0].snapshot
        if snapshot is None:
            return Refreshed(self._table, self._of, None, 0, why="there are no trades yet")
        with self._planner.reader.another_catalog() as catalog:
            if not dry_run and not check:
                ensure_table(catalog, bar_table(self._table, decimals))
            elif self._table not in self._planner.reader.tables(self._table.rpartition(".")[0]):
                raise UserError(
                    f"There is no table {self._table} yet",
                    remedy="Run it without --dry-run and --check: the first run makes it",
                )
            stored = DerivedTable(catalog, self._table)
            held = self._planner.pin_table(self._table, _NOW)
            days, why = self._due(pinned, held, stored, everything=everything or check)
            if dry_run:
                return Refreshed(self._table, self._of, snapshot.id, len(days), why=why)
            run = _Run()
            try:
                for number, day in enumerate(days):
                    self._day(day, pinned, held, (stored, run), write=not check)
                    if told is not None:
                        told(number + 1, len(days))
                made = None
                if not check and (run.changed or self._said(snapshot) != stored.derivation.said):
                    made = self._commit(held, stored, run, snapshot)
            except BaseException:
                stored.discard()
                raise
            if made is not None:
                self._keep(catalog, stored.derivation.said, snapshot)
        return Refreshed(self._table, self._of, snapshot.id, len(days), run.new, run.revised, run.gone, why, made)

    def _due(self, pinned: Pinned, held: Pinned, stored: DerivedTable, *, everything: bool) -> tuple[list[int], str]:
        """The days to be computed, and why these."""
        table, said = pinned.tables[0], _read(stored.derivation.said)
        covered = table.state.by_id.get(int(said.get("snapshot", 0)))
        now, bars = table.files.files, held.tables[0].files.files
        if held.tables[0].state.current_id != stored.derivation.snapshot_id:
            raise UserError(f"Somebody else committed to {self._table} a moment ago", remedy="Run it again")
        whole = _days([*now, *bars])
        if everything:
            return whole, "all days were asked for"
        if not said:
            return whole, "nothing is known of what the bars are of"
        if (said.get("table"), said.get("definition")) != (table.state.uuid, self._definition()):
            return (
                whole,
                "the definition of the bars, a calendar or a profile has changed, or the trades are another table",
            )
        if covered is None:
            return whole, "the snapshot of the trades that the bars are of is not retained any more"
        assert table.snapshot is not None
        changed: list[DataFileRef] = []
        if not _only_replaced(table.state, covered, table.snapshot):
            before = {file.identity: file for file in self._planner.reader.files(table.state, covered.id).files}
            after = {file.identity: file for file in now}
            changed = [
                file for names in (before, after) for key, file in names.items() if (key in before) != (key in after)
            ]
        if any(not _is_bounded(file) for file in changed):
            return whole, "a file says nothing of the times in it"
        days = {*_days(changed), *self._incomplete(held)}
        return sorted(days), f"{len(changed)} files of trades came, went or lost rows"

    def _day(self, day: int, pinned: Pinned, held: Pinned, into: tuple[DerivedTable, _Run], *, write: bool) -> None:
        stored, run = into
        trades = TradesRead(self._planner.plan(pinned, (), None, Window()), pinned.newest_us)
        fresh = list(bars_of_day(self._engine, trades, day, self._sessions))
        old = self._stored(held, Window(day * DAY_US, (day + 1) * DAY_US))
        new = pa.concat_tables(fresh) if fresh else old.slice(0, 0)
        rows = self._revised(old, new)
        kept, state = rows.drop_columns(["k2_state"]), rows["k2_state"].to_pylist()
        gone = old.num_rows - (len(state) - state.count("new"))
        run.new, run.revised, run.gone = (
            run.new + state.count("new"),
            run.revised + state.count("revised"),
            run.gone + gone,
        )
        if gone or any(each != "same" for each in state):
            run.changed.add(day)
            if write:
                stored.write(kept)

    def _revised(self, old: pa.Table, new: pa.Table) -> pa.Table:
        """The new bars with their revisions, by the order of the table; `k2_state`: new, revised, told (complete by now) or same."""
        figures = [name for name in new.column_names if name not in (*BAR_KEYS, "complete", "revision")]
        same = " AND ".join(f'n."{name}" IS NOT DISTINCT FROM o."{name}"' for name in figures)
        # DuckDB hands a join's times to Arrow's own filters by way of a module that K2 does not bring: numbers need none.
        new, old = (each.append_column("k2_us", each["start"].cast(pa.int64())) for each in (new, old))
        keys = " AND ".join(f'n."{name}" = o."{name}"' for name in (*BAR_KEYS[:-1], "k2_us"))
        columns = ", ".join(f'n."{name}"' for name in new.column_names if name not in ("revision", "k2_us"))
        text = (
            f"SELECT {columns}, (coalesce(o.revision, 0) + CASE WHEN {same} THEN 0 ELSE 1 END)::INTEGER AS revision, "
            f"CASE WHEN o.symbol IS NULL THEN 'new' WHEN NOT ({same}) THEN 'revised' "
            "WHEN n.complete <> o.complete THEN 'told' ELSE 'same' END AS k2_state "
            f'FROM k2_new n LEFT JOIN k2_old o ON {keys} ORDER BY n.symbol, n.exchange, n.session, n."start"'
        )
        return self._engine.fetch("bars", Statement(text, {}, tails={"k2_new": new, "k2_old": old}))

    def _stored(self, held: Pinned, window: Window, files: Iterable[DataFileRef] | None = None) -> pa.Table:
        """Stored bars that start in the window (of these files), as they are in the table."""
        whole = self._planner.plan(held, (), None, Window())
        start_us, end_us = window.start_us or 0, window.end_us or 0
        among = whole.files if files is None else files
        relation = whole.of([file for file in among if file.end_us >= start_us and file.start_us < end_us])
        condition = f"\"start\" >= TIMESTAMPTZ '{iso(start_us)}' AND \"start\" < TIMESTAMPTZ '{iso(end_us)}'"
        return self._read(relation, condition)

    def _read(self, relation: Relation, condition: str) -> pa.Table:
        if not relation:
            return _empty(relation)
        names = ", ".join(f'"{column.name}"' for column in relation.columns)
        text = (
            f'SELECT {names} FROM {sql.source(relation)} WHERE {condition} ORDER BY symbol, exchange, session, "start"'
        )
        return self._engine.fetch("bars", sql.statement(text, {}, relation))

    def _incomplete(self, held: Pinned) -> set[int]:
        """The days of bars that the trades had not passed."""
        relation = self._planner.plan(held, (), None, Window())
        if not relation:
            return set()
        source = sql.source(relation, names={"start", "complete"})
        text = f'SELECT DISTINCT (epoch_us("start") // {DAY_US})::BIGINT AS day FROM {source} WHERE NOT complete'
        return set(self._engine.fetch("bars", sql.statement(text, {}, relation))["day"].to_pylist())

    def _commit(self, held: Pinned, stored: DerivedTable, run: _Run, snapshot: SnapshotInfo) -> int:
        files = held.tables[0].files.files
        old = [file for file in files if run.changed & set(_days([file], 0))]
        # A file that somebody made of several days' has rows of days that did not change: they are written as they are.
        for day in sorted(set(_days(old, 0)) - run.changed):
            stored.write(self._stored(held, Window(day * DAY_US, (day + 1) * DAY_US), old))
        made = stored.commit([file.path for file in old], self._said(snapshot), _OPERATION)
        _log.info("bars.refreshed", table=self._table, of=self._of, snapshot=snapshot.id, days=len(run.changed))
        return made

    def _keep(self, catalog: Any, before: str | None, snapshot: SnapshotInfo) -> None:
        """Pin what is covered now, and let go of what was. Without it the next run computes every day: no reason to fail."""
        earlier = _read(before).get("snapshot")
        if earlier == snapshot.id:
            return
        try:
            hold(catalog, self._of, snapshot.id, self._pin(snapshot.id), datetime.now(UTC) + _KEPT_FOR)
            if earlier:
                release(catalog, self._of, self._pin(int(earlier)))
        except K2Error as error:
            _log.warning("bars.not_pinned", table=self._table, of=self._of, snapshot=snapshot.id, error=str(error))

    def _pin(self, snapshot_id: int) -> str:
        return hashlib.sha256(f"{self._table} {snapshot_id}".encode()).hexdigest()[:16]

    def _said(self, snapshot: SnapshotInfo) -> str:
        uuid = self._planner.reader.state(self._of).uuid
        told = {"of": self._of, "table": uuid, "snapshot": snapshot.id, "definition": self._definition()}
        return json.dumps(told, separators=(",", ":"))

    def _definition(self) -> str:
        """What decides the bars beside the trades: what is computed, sessions, calendars and profiles."""
        markets = sorted((each.code, each.time_zone, each.calendar.title) for each in known().values())
        told = repr((_VERSION, BAR_US, [each.value for each in self._sessions], markets, profiles_described()))
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read(said: str | None) -> dict[str, Any]:
    return {} if said is None else json.loads(said)


def _decimals(pinned: Pinned, identifier: str) -> Decimals:
    kinds = {column.name: column.type for column in pinned.columns}
    if not {"symbol", "exchange", "timestamp", "price", "quantity"} <= kinds.keys():
        raise UserError(
            f"{identifier} is no table of trades",
            found=", ".join(kinds),
            expected="symbol, exchange, timestamp, price and quantity among its columns",
        )
    return Decimals.WIDE if kinds["price"] == "decimal(38, 18)" else Decimals.STANDARD


def _only_replaced(state: TableState, covered: SnapshotInfo, now: SnapshotInfo) -> bool:
    """Whether from one snapshot to the other there were only ones that put files in place of others with the same rows."""
    at: SnapshotInfo | None = now
    while at is not None and at.id != covered.id:
        if at.operation != "replace":
            return False
        at = None if at.parent_id is None else state.by_id.get(at.parent_id)
    return at is not None


def _is_bounded(file: DataFileRef) -> bool:
    return file.start_us > -(2**62) and file.end_us < 2**62


def _days(files: Iterable[DataFileRef], before_us: int = BAR_US) -> list[int]:
    """The UTC days on which buckets start that the files' events lie in."""
    found: set[int] = set()
    for file in files:
        if not _is_bounded(file) or (file.end_us - file.start_us) // DAY_US > _MOST_DAYS:
            raise UserError(
                "A file of the table says nothing of the times in it",
                found=file.path,
                expected="statistics of its time column",
                remedy="Compact the table: k2 upkeep compact",
            )
        found |= set(range((file.start_us - before_us) // DAY_US, file.end_us // DAY_US + 1))
    return sorted(found)


def _empty(relation: Relation) -> pa.Table:
    from k2.query.rows.schema import arrow_schema

    return arrow_schema(relation.columns).empty_table()
