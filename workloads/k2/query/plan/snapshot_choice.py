"""Which snapshot answers: the current one, one by its id, a pin's, or the one that was current at a time. Pure.

Of several tables of a data type each answers at its own snapshot. One that had nothing at a time, or that a pin does not
hold, has no part in the answer; a snapshot's id names its table, which answers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from k2.lake.pins import PIN_TAG
from k2.lake.reader import SnapshotInfo, TableState
from k2.model.times import iso
from k2.query.asked.requests import At
from k2.query.rows.errors import SnapshotGoneError


def choose(states: Sequence[TableState], at: At, now_us: int) -> list[tuple[TableState, SnapshotInfo | None]]:
    """The tables that answer, each with the snapshot that `at` means; None for the current one of a table that has none yet.

    Raises:
        SnapshotGoneError: as `resolve` does, of a table that has or had what is asked for.
    """
    if at.tables:
        return [(state, _as_answered(state, at)) for state in states]
    if len(states) == 1 or not at.is_past:
        return [(state, resolve(state, at, now_us)) for state in states]
    if at.snapshot is not None:
        return [_of_one(states, at.snapshot)]
    there = [state for state in states if not _has_no_part(state, at)]
    return [(state, resolve(state, at, now_us)) for state in there or states]


def _of_one(states: Sequence[TableState], snapshot_id: int) -> tuple[TableState, SnapshotInfo | None]:
    for state in states:
        if (found := state.by_id.get(snapshot_id)) is not None:
            return state, found
    raise SnapshotGoneError(
        f"Neither {' nor '.join(state.identifier for state in states)} has that snapshot (any more)",
        found=snapshot_id,
        expected="; ".join(f"of {state.identifier} {_retained(state)}" for state in states),
    )


def _as_answered(state: TableState, at: At) -> SnapshotInfo | None:
    if at.ends:
        return state.current
    snapshot_id = dict(at.tables)[state.identifier]
    return None if snapshot_id is None else _by_id(state, snapshot_id)


def _has_no_part(state: TableState, at: At) -> bool:
    """Whether the pin does not hold the table, or it provably had nothing at the time."""
    if at.pin is not None:
        return PIN_TAG + at.pin not in state.tags
    if not state.snapshots:
        return True
    return state.began_us is not None and state.began_us > (at.as_of_us or 0)


def resolve(state: TableState, at: At, now_us: int) -> SnapshotInfo | None:
    """The snapshot that `at` means; None for the current one of a table that has none yet.

    Raises:
        SnapshotGoneError: it is not retained; the message names the nearest ones. Or the pin has lapsed (`now_us`:
            microseconds since 1970 UTC), or is not of this table.
    """
    if at.pin is not None:
        return _pinned(state, at.pin, now_us)
    if at.snapshot is not None:
        return _by_id(state, at.snapshot)
    if at.as_of_us is not None:
        return _at_time(state, at.as_of_us)
    return state.current


def _pinned(state: TableState, pin: str, now_us: int) -> SnapshotInfo:
    tag = state.tags.get(PIN_TAG + pin)
    if tag is None or (tag.until_us is not None and tag.until_us <= now_us):
        raise SnapshotGoneError(
            f"The pin does not hold a snapshot of {state.identifier}",
            found=pin,
            expected="a pin of this table that was not deleted and has not lapsed",
            remedy="GET /v1/pins lists those there are",
        )
    return state.by_id[tag.snapshot_id]


def _by_id(state: TableState, snapshot_id: int) -> SnapshotInfo:
    found = state.by_id.get(snapshot_id)
    if found is None:
        raise SnapshotGoneError(
            f"{state.identifier} does not have that snapshot (any more)",
            found=snapshot_id,
            expected=_retained(state),
        )
    return found


def _at_time(state: TableState, as_of_us: int) -> SnapshotInfo:
    before: SnapshotInfo | None = None
    following: SnapshotInfo | None = None
    for snapshot in state.snapshots:
        if snapshot.time_us <= as_of_us:
            before = snapshot
        elif following is None:
            following = snapshot
    if before is not None and (following is None or _are_neighbours(before, following)):
        return before
    near = [f"{side} {_describe(s)}" for side, s in (("before it", before), ("after it", following)) if s is not None]
    raise SnapshotGoneError(
        f"What {state.identifier} held then is not retained",
        found=iso(as_of_us),
        expected=f"one of the nearest: {'; '.join(near)}" if near else "a table that has snapshots",
    )


def _are_neighbours(before: SnapshotInfo, following: SnapshotInfo) -> bool:
    """Whether no snapshot between the two was expired: then `before` was current until `following`."""
    return following.parent_id == before.id or following.sequence == before.sequence + 1


def _retained(state: TableState) -> str:
    if not state.snapshots:
        return "a table that has snapshots"
    complete = all(_are_neighbours(*pair) for pair in pairwise(state.snapshots))
    kind = "one" if complete else "one of those retained"
    return f"{kind} from {_describe(state.snapshots[0])} to {_describe(state.snapshots[-1])}"


def _describe(snapshot: SnapshotInfo) -> str:
    return f"{snapshot.id} ({iso(snapshot.time_us)})"
