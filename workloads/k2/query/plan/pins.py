"""Making, listing and deleting pins: one token that fixes a snapshot of each of several tables until it lapses."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from k2.lake.pins import PIN_TAG, hold, release
from k2.lake.reader import SnapshotInfo, TableMissingError, TableState
from k2.model.errors import K2Error, UserError
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.requests import At
from k2.query.plan.planner import Planner
from k2.query.rows.errors import NotFoundError

MOST_PINS = 100
"""Pins of one table at a time: each keeps a snapshot and its files."""

_CURRENT = At(hybrid=False)

SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PinnedTable:
    """What a pin fixes of one table."""

    data_type: DataType
    table: str
    snapshot: SnapshotInfo


@dataclass(frozen=True, slots=True)
class PinRecord:
    """A pin. `until_us`: when it lapses, microseconds since 1970 UTC."""

    id: str
    until_us: int
    tables: tuple[PinnedTable, ...]


def make_pin(
    planner: Planner, data_types: Sequence[DataType], at: Mapping[DataType, At], lasts: timedelta, now: datetime
) -> PinRecord:
    """Fix a snapshot of each table (`at`; the current one where it says nothing), so that it is kept until the pin lapses.

    The snapshots are chosen before the first is tagged, so they are of one moment.

    Raises:
        UserError: it would last too short or too long, nothing can be pinned, or there are too many pins.
        SnapshotGoneError: a snapshot or time is not retained.
        WorldError: the catalog cannot be written. Nothing stays pinned.
    """
    if not SHORTEST <= lasts <= LONGEST:
        raise UserError(
            "A pin cannot last that long", found=f"{lasts.total_seconds():.0f} s", expected="1 minute to 30 days"
        )
    # A tag's age has milliseconds.
    until = (now + lasts).replace(microsecond=(now + lasts).microsecond // 1000 * 1000)
    chosen: list[PinnedTable] = []
    for data_type in dict.fromkeys(data_types):
        for table in planner.pin(data_type, at.get(data_type, _CURRENT)).tables:
            _check_room(table.state)
            if table.snapshot is not None:
                chosen.append(PinnedTable(data_type, table.state.identifier, table.snapshot))
    if not chosen:
        raise UserError("There is nothing to pin", expected="a table that has a snapshot")
    pin = PinRecord(secrets.token_hex(8), micros(until), tuple(chosen))
    with planner.reader.another_catalog() as catalog:
        done: list[str] = []
        try:
            for each in chosen:
                hold(catalog, each.table, each.snapshot.id, pin.id, until)
                done.append(each.table)
        except K2Error:
            for identifier in done:
                release(catalog, identifier, pin.id)
            raise
    return pin


def _check_room(state: TableState) -> None:
    held = [name for name in state.tags if name.startswith(PIN_TAG)]
    if len(held) >= MOST_PINS:
        raise UserError(
            f"{state.identifier} has too many pins",
            found=len(held),
            expected=f"fewer than {MOST_PINS}",
            remedy="Delete those that are no longer needed",
        )


def all_pins(planner: Planner, now: datetime) -> list[PinRecord]:
    """Pins that have not lapsed, of the tables that may be asked for; the first to lapse first."""
    found: dict[str, list[PinnedTable]] = {}
    until: dict[str, int] = {}
    for data_type in planner.tables:
        if not planner.sight.may_ask(data_type):
            continue
        for state in _there(planner, data_type):
            for name, tag in state.tags.items():
                if name.startswith(PIN_TAG) and tag.until_us is not None and tag.until_us > micros(now):
                    pin = name.removeprefix(PIN_TAG)
                    held = PinnedTable(data_type, state.identifier, state.by_id[tag.snapshot_id])
                    found.setdefault(pin, []).append(held)
                    until[pin] = min(tag.until_us, until.get(pin, tag.until_us))
    pins = [PinRecord(name, until[name], tuple(tables)) for name, tables in found.items()]
    return sorted(pins, key=lambda pin: (pin.until_us, pin.id))


def _there(planner: Planner, data_type: DataType) -> Iterator[TableState]:
    """The tables of a data type that are there."""
    for name in planner.names(data_type):
        with suppress(TableMissingError):
            yield planner.reader.state(name)


def delete_pin(planner: Planner, pin: str, now: datetime) -> None:
    """Let go of what the pin keeps; a `NotFoundError` when there is none, or it has lapsed."""
    known = next((each for each in all_pins(planner, now) if each.id == pin), None)
    if known is None:
        raise NotFoundError("There is no such pin", found=pin, expected="one that GET /v1/pins lists")
    with planner.reader.another_catalog() as catalog:
        for table in known.tables:
            release(catalog, table.table, pin)
