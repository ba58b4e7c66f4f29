"""Answers as JSON objects: decimals and snapshot ids are strings (JavaScript's numbers lose digits), times ISO 8601 in UTC.

The command line prints the same objects. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from k2.forms import print_parameters, sources
from k2.lake.reader import SnapshotInfo, TableState
from k2.model.times import iso
from k2.query.aggregates.summaries import Summary
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.cursor import Cursor
from k2.query.events.paging import Events
from k2.query.plan.directory import SymbolInfo
from k2.query.plan.pins import PinRecord
from k2.query.plan.provenance import Provenance
from k2.query.plan.table_stats import TableStats


def provenance(found: Provenance) -> dict[str, Any]:
    """Which snapshot answered, and up to when that is complete.

    Where several tables did there is no one snapshot: `sources` has that of each.
    """
    snapshot = found.snapshot
    return {
        "snapshot_id": None if snapshot is None else str(snapshot.id),
        "snapshot_time": None if snapshot is None else iso(snapshot.time_us),
        "complete_until": _time(found.complete_until_us),
        **({"calendars": calendars(found.followed)} if found.followed else {}),
        **sources.members(found),
    }


def calendars(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Exchange → the calendar (or the calendars) that its dates were found by, with its version."""
    titles: dict[str, list[str]] = {}
    for code, title in found:
        titles.setdefault(code, []).append(title)
    return {code: ", ".join(each) for code, each in titles.items()}


def events_envelope(found: Events) -> dict[str, Any]:
    """What stands beside the rows."""
    return {
        "count": found.rows.num_rows,
        "more": found.more,
        **provenance(found.provenance),
        **({} if found.note is None else {"note": found.note}),
    }


def summary(found: Summary) -> dict[str, Any]:
    """OHLCV and VWAP of a trading date."""
    return {
        "symbol": found.symbol,
        "exchange": found.exchange,
        "date": found.day.isoformat(),
        "time_zone": found.time_zone,
        "session": found.session.value,
        "currency": found.currency,
        "open": _plain(found.open),
        "high": _plain(found.high),
        "low": _plain(found.low),
        "close": _plain(found.close),
        "volume": _plain(found.volume),
        "vwap": None if found.vwap is None else _plain(found.vwap),
        "trade_count": found.trade_count,
        "first_time": iso(found.first_us),
        "last_time": iso(found.last_us),
        **provenance(found.provenance),
    }


def symbol(found: SymbolInfo) -> dict[str, Any]:
    """One symbol of an exchange."""
    return {
        "symbol": found.symbol,
        "exchange": found.exchange,
        "rows": found.rows,
        "first_time": iso(found.first_us),
        "last_time": iso(found.last_us),
    }


def stats(found: TableStats) -> dict[str, Any]:
    """Size and reach of a table."""
    return {
        "table": found.provenance.table,
        "data_type": found.data_type.value,
        "rows": found.rows,
        "files": found.files,
        "bytes": found.bytes,
        "first_time": _time(found.oldest_us),
        "last_time": _time(found.newest_us),
        "snapshots": found.snapshots,
        **provenance(found.provenance),
        "offsets": None
        if found.topics is None
        else {
            topic.topic: {str(number): following for number, following in sorted(topic.next_offsets.items())}
            for topic in found.topics
        },
    }


def snapshots(states: Sequence[TableState], limit: int) -> dict[str, Any]:
    """The retained snapshots of a data type's tables, newest first; beside them the main table and all of them."""
    pairs = [(found, state) for state in states for found in state.snapshots[-limit:]]
    pairs.sort(key=lambda pair: (pair[0].time_us, pair[0].sequence), reverse=True)
    return {
        **_retained(states[0]),
        "tables": [_retained(state) for state in states],
        "data": [_snapshot(found, state) for found, state in pairs[:limit]],
    }


def _retained(state: TableState) -> dict[str, Any]:
    return {
        "table": state.identifier,
        "current_snapshot_id": None if state.current_id is None else str(state.current_id),
        "retained": len(state.snapshots),
    }


def pin(found: PinRecord) -> dict[str, Any]:
    """A pin and what it fixes: `tables` has the first of each data type, `snapshots` all of them."""
    held = [
        {
            "data_type": each.data_type.value,
            "table": each.table,
            "snapshot_id": str(each.snapshot.id),
            "snapshot_time": iso(each.snapshot.time_us),
        }
        for each in found.tables
    ]
    first: dict[str, dict[str, str]] = {}
    for each in held:
        first.setdefault(each["data_type"], {name: value for name, value in each.items() if name != "data_type"})
    return {"pin": found.id, "until": iso(found.until_us), "tables": first, "snapshots": held}


def replay_snapshots(cursor: Cursor) -> dict[str, Any]:
    """What a replay reads: by data type the snapshot's id (null where there is none, or several), and that of each table.

    And which trades count in it, where not all do; by what its history is adjusted, where it is; one of trading dates says by
    which calendars these were found.
    """
    how = cursor.query.adjusted
    return {
        **({"calendars": calendars(cursor.query.window.by)} if cursor.query.window.by else {}),
        "snapshots": {
            each.value: str(found[0][1]) if len(found) == 1 and found[0][1] is not None else None
            for each, found in cursor.snapshots.items()
        },
        "tables": {
            each.value: {table: None if found is None else str(found) for table, found in tables}
            for each, tables in cursor.snapshots.items()
        },
        **print_parameters.told(cursor.query.prints),
        **({} if how is None else {"adjusted": _adjusting(how)}),
    }


def _adjusting(how: Adjusting) -> dict[str, Any]:
    """By what is adjusted that is read later: as known at which snapshots, and up to when."""
    return {
        "to": how.to.value,
        "until": None if how.until_us is None else iso(how.until_us),
        "tables": {
            data_type.value: {table: None if found is None else str(found) for table, found in at.tables}
            for data_type, at in how.tables
        },
    }


def pins(found: Iterable[PinRecord]) -> dict[str, Any]:
    """All pins."""
    return {"data": [pin(each) for each in found]}


def _snapshot(found: SnapshotInfo, state: TableState) -> dict[str, Any]:
    nothing = 0 if found.summary else None  # without a summary nothing is known, or to be told
    return {
        "snapshot_id": str(found.id),
        "parent_id": None if found.parent_id is None else str(found.parent_id),
        "time": iso(found.time_us),
        "current": found.id == state.current_id,
        "operation": found.operation,
        "rows_added": found.count("added-records") or nothing,
        "files_added": found.count("added-data-files") or nothing,
        "total_rows": found.count("total-records"),
        "total_files": found.count("total-data-files"),
        "total_bytes": found.count("total-files-size"),
        "tags": sorted(tag.name for tag in state.tags.values() if tag.snapshot_id == found.id),
        "k2": {name: _parsed(value) for name, value in found.summary.items() if name.startswith("k2.")},
        "table": state.identifier,  # the last: scripts take the first column for the id
    }


def _parsed(text: str) -> Any:
    """K2 writes JSON objects and plain words into a summary."""
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _plain(value: Decimal) -> str:
    return f"{value:f}"


def _time(micros: int | None) -> str | None:
    return None if micros is None else iso(micros)
