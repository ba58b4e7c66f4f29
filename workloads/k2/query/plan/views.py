"""The tables of a lake as somebody's own SQL names them, all at one moment.

`trades`, `quotes` and `reference_data` are the rows of a data type, whichever tables they lie in, as every other question has
them; any further table of the same namespaces has its own name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from k2.lake.reader import TableMissingError
from k2.model.errors import K2Error, WorldError
from k2.model.topics import DataType
from k2.query.asked.requests import At, TableSnapshots, Window
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows.errors import SnapshotGoneError
from k2.query.rows.relation import Relation

_ROUNDS = 20
# What lists tables, or looks at those that a text does not name.
_ASKS_FOR_ALL = re.compile(
    r"\b(show|information_schema|duckdb_\w+|pragma_\w+|pragma|pg_\w+|sqlite_master|query_table)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Named:
    """What one name of the SQL means: the tables of a data type, or (None) the one table."""

    name: str
    identifiers: tuple[str, ...]
    data_type: DataType | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The rows behind a name: of which snapshots, and what is read for them."""

    name: str
    pinned: Pinned
    relation: Relation


def all_named(planner: Planner) -> dict[str, Named]:
    """Every name, of the data types first; raises a `WorldError` where the catalog cannot be read."""
    planner.sight.check_whole("SQL")
    found = {each.value: Named(each.value, planner.names(each), each) for each in planner.tables}
    meant = {identifier for each in found.values() for identifier in each.identifiers}
    for namespace in dict.fromkeys(identifier.rpartition(".")[0] for identifier in meant):
        for identifier in planner.reader.tables(namespace):
            name = identifier.rpartition(".")[2]
            if name in found and identifier in meant:
                continue
            name = name if name not in found else identifier.replace(".", "_")
            found[name] = Named(name, (identifier,))
    return found


def mentioned(text: str, known: Mapping[str, Named]) -> list[Named]:
    """What the text may read: the names that occur in it as words; where there is none, or it lists tables, all of them."""
    words = {word.casefold() for word in re.findall(r"[\w$]+", text)}
    found = [each for name, each in known.items() if name.casefold() in words or not re.fullmatch(r"[\w$]+", name)]
    return list(known.values()) if not found or _ASKS_FOR_ALL.search(text) else found


def views_at(
    planner: Planner, named: Sequence[Named], at: At, others: Collection[Named] = ()
) -> tuple[list[View], dict[str, K2Error]]:
    """The views, each at the snapshots that were current at one moment or that `at` says; and why a name has none.

    Of a snapshot's id the other tables are as they were at its time.

    Args:
        planner: chooses snapshots and files.
        named: what is read.
        at: a snapshot of one of them (or of `others`), a time, a pin, or now.
        others: what is there beside.

    Raises:
        SnapshotGoneError: none of the tables has the snapshot.
        WorldError: the catalog or the store cannot be read.
    """
    views: list[View] = []
    problems: dict[str, K2Error] = {}
    owner = None if at.snapshot is None else _owner(planner, (*named, *others), at.snapshot)
    moment = None if at.is_past or at.hybrid or planner.tails_for(at) is not None else _moment(planner, named)
    for each in named:
        own = at
        if owner is not None and owner[0] != each:
            own = At(as_of_us=owner[1])
        elif moment is not None:
            if each.name not in moment:
                problems[each.name] = TableMissingError(_missing(each))
                continue
            own = replace(at, tables=moment[each.name])
        try:
            pinned = _pinned(planner, each, own)
        except (SnapshotGoneError, TableMissingError) as error:
            problems[each.name] = error
            continue
        views.append(View(each.name, pinned, planner.plan(pinned, (), None, Window())))
    return views, problems


def _pinned(planner: Planner, each: Named, at: At) -> Pinned:
    if each.data_type is not None:
        return planner.pin(each.data_type, at)
    return planner.pin_table(each.identifiers[0], replace(at, hybrid=None))


def _owner(planner: Planner, named: Sequence[Named], snapshot_id: int) -> tuple[Named, int]:
    """What has that snapshot, and when it was committed (µs since 1970 UTC)."""
    for each in named:
        for identifier in each.identifiers:
            try:
                found = planner.reader.state(identifier).by_id.get(snapshot_id)
            except TableMissingError:
                continue
            if found is not None:
                return each, found.time_us
    raise SnapshotGoneError(
        "No table here has that snapshot (any more)",
        found=snapshot_id,
        expected=f"one of {', '.join(each.name for each in named)}",
        remedy="`k2-query snapshots` lists them",
    )


def _moment(planner: Planner, named: Sequence[Named]) -> dict[str, TableSnapshots]:
    """The snapshots of all that are there, by name, at a moment at which every one of them was current.

    Two looks that see the same prove that: between the first one's end and the second one's beginning nothing had changed.
    """
    before = _current(planner, named)
    for _ in range(_ROUNDS):
        now = _current(planner, named)
        if now == before:
            return now
        before = now
    raise WorldError(
        f"{', '.join(each.name for each in named)} got new snapshots at each of {_ROUNDS} looks: there was no moment "
        "to read all of them at. Ask again, or as of a time"
    )


def _current(planner: Planner, named: Sequence[Named]) -> dict[str, TableSnapshots]:
    found: dict[str, TableSnapshots] = {}
    for each in named:
        try:
            states = [planner.reader.state(identifier) for identifier in each.identifiers]
        except TableMissingError:
            continue
        found[each.name] = tuple((state.identifier, state.current_id) for state in states)
    return found


def _missing(each: Named) -> str:
    return f"There is no table {' and '.join(each.identifiers)} yet: it is made by an IcebergTable resource"
