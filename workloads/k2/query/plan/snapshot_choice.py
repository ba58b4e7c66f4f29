"""Which snapshot answers: the current one, one by its id, a pin's, or the one that was current at a time. Pure."""

from __future__ import annotations

from itertools import pairwise

from k2.lake.pins import PIN_TAG
from k2.lake.reader import SnapshotInfo, TableState
from k2.model.times import iso
from k2.query.asked.requests import At
from k2.query.rows.errors import SnapshotGoneError


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
