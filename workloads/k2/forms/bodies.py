"""Answers as JSON objects: decimals and snapshot ids are strings (JavaScript's numbers lose digits), times ISO 8601 in UTC.

The command line prints the same objects. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from k2.forms import sources
from k2.lake.reader import SnapshotInfo, TableState
from k2.model.times import iso
from k2.query.aggregates.summaries import Summary
from k2.query.events.paging import Events
from k2.query.plan.directory import SymbolInfo
from k2.query.plan.pins import PinRecord
from k2.query.plan.provenance import Provenance
from k2.query.plan.table_stats import TableStats


def provenance(found: Provenance) -> dict[str, Any]:
    """Which snapshot answered, and up to when that is complete."""
    snapshot = found.snapshot
    return {
        "snapshot_id": None if snapshot is None else str(snapshot.id),
        "snapshot_time": None if snapshot is None else iso(snapshot.time_us),
        "complete_until": _time(found.complete_until_us),
        **sources.members(found),
    }


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


def snapshots(state: TableState, limit: int) -> dict[str, Any]:
    """The retained snapshots, newest first."""
    return {
        "table": state.identifier,
        "current_snapshot_id": None if state.current_id is None else str(state.current_id),
        "retained": len(state.snapshots),
        "data": [_snapshot(found, state) for found in reversed(state.snapshots[-limit:])],
    }


def pin(found: PinRecord) -> dict[str, Any]:
    """A pin and what it fixes."""
    return {
        "pin": found.id,
        "until": iso(found.until_us),
        "tables": {
            held.data_type.value: {
                "table": held.table,
                "snapshot_id": str(held.snapshot.id),
                "snapshot_time": iso(held.snapshot.time_us),
            }
            for held in found.tables
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
