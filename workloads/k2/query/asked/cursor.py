"""Where a replay stands, as a token: enough to go on after the client or the server died. Opaque to clients, not secret.

What a token asks for is asked again with the rights of whoever brings it: nobody sees more by making one up.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from k2.model.adjusted import Adjusted
from k2.model.errors import UserError
from k2.model.events import SortKey
from k2.model.prints import EVERY_PRINT, PrintFilter, Prints, check_prints
from k2.model.topics import DataType
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.requests import At, TableSnapshots, Window, check_instant, check_symbols, exchange_code

# Of a cursor with filters, or of adjusted prices: whoever does not know of them must not go on without.
_VERSION, _FILTERED, _ADJUSTED = 2, 3, 4
_LONGEST = 65_536
Ends = tuple[tuple[str, int, int], ...]
"""(topic id, partition, next offset)."""

KEY: Mapping[str, type[int | str]] = {
    "timestamp": int,
    "exchange": str,
    "symbol": str,
    "k2_rank": int,
    "source_sequence": int,
    "kafka_topic_id": str,
    "kafka_partition": int,
    "kafka_offset": int,
}
"""The order of a replay's events: its columns, and what their values in a key are; times in µs since 1970 UTC."""

REPLAYED = (DataType.QUOTES, DataType.TRADES)
"""What can be replayed."""

EVER = Window()


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """Events of one or several data types in the order of events.

    Attributes:
        data_types: quotes and trades, or one of them.
        symbols: any of these; none: all.
        at: which snapshots answer for each data type; one that is not named: the current ones.
        follow: go on with what comes in when history is at its end.
        prints: of trades only those that these let through.
        adjusted: for what prices and quantities are adjusted; None: they are as they were traded.
    """

    data_types: tuple[DataType, ...] = (DataType.QUOTES, DataType.TRADES)
    symbols: tuple[str, ...] = ()
    exchange: str | None = None
    window: Window = EVER
    at: Mapping[DataType, At] | None = None
    follow: bool = False
    prints: Prints = EVERY_PRINT
    adjusted: Adjusting | None = None

    def __post_init__(self) -> None:
        check_prints(self.prints, self.data_types)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A replay's question, what it reads, and how far it has come.

    Attributes:
        snapshots: the tables of each data type, each at its snapshot.
        ends: where the tails of each data type ended; no entry: it had none.
        key: the last row that was given; none: nothing yet.
        live: once history is at its end, the offsets of each data type from which on nothing was given but what `key` says.
        up_to: offsets at which the live batch that `key` is of ends.
    """

    query: ReplayQuery
    snapshots: Mapping[DataType, TableSnapshots]
    ends: Mapping[DataType, Ends]
    key: SortKey = ()
    live: Mapping[DataType, Ends] | None = None
    up_to: Mapping[DataType, Ends] | None = None

    def after(self, key: SortKey) -> Cursor:
        """The same replay, a little further."""
        return replace(self, key=key)

    def encode(self) -> str:
        """The token."""
        query = self.query
        content: dict[str, Any] = {
            "v": _version(filtered=bool(query.prints), adjusted=query.adjusted is not None),
            "types": [each.value for each in query.data_types],
            "symbols": query.symbols,
            "exchange": query.exchange,
            "window": query.window.to_list(),
            "follow": query.follow,
            "snapshots": {each.value: found for each, found in self.snapshots.items()},
            "ends": {each.value: found for each, found in self.ends.items()},
            "key": self.key,
            "live": None if self.live is None else {each.value: found for each, found in self.live.items()},
            "up_to": None if self.up_to is None else {each.value: found for each, found in self.up_to.items()},
        }
        if query.prints:
            content["prints"] = [each.to_dict() for each in query.prints]
        if query.adjusted is not None:
            content["adjusted"] = query.adjusted.to_list()
        packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode())
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> Cursor:
        """The inverse of `encode`; a `UserError` for anything else: anybody may have made it up."""
        try:
            held = _unpacked(token)
            types = _types(held["types"])
            symbols = tuple(held["symbols"])
            check_symbols(symbols)
            exchange = exchange_code(held["exchange"])
            prints = tuple(PrintFilter.from_dict(each) for each in held.get("prints", ()))
            window, follow = Window.from_list(held["window"]), bool(held["follow"])
            query = ReplayQuery(types, symbols, exchange, window, follow=follow, prints=prints)
            query = replace(query, adjusted=_adjusting(held.get("adjusted")))
            return cls(
                query,
                {each: _tables(held["snapshots"][each.value]) for each in query.data_types},
                _by_type(held["ends"]) or {},
                _key(held["key"]),
                _by_type(held["live"]),
                _by_type(held["up_to"]),
            )
        except (
            binascii.Error,
            zlib.error,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            shown = f"{token[:40]}…" if len(token) > 40 else token
            raise UserError("Not a cursor of a replay", found=shown, expected="one that a replay gave") from None


def _unpacked(token: str) -> dict[str, Any]:
    if len(token) > _LONGEST:
        raise ValueError(token)
    raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    # Bounded: a few bytes of compressed zeros would fill the memory.
    held: dict[str, Any] = json.loads(zlib.decompressobj().decompress(raw, 16 * _LONGEST))
    if held["v"] != _version(filtered=bool(held.get("prints")), adjusted=held.get("adjusted") is not None):
        raise ValueError(held["v"])
    return held


def _version(*, filtered: bool, adjusted: bool) -> int:
    if adjusted:
        return _ADJUSTED
    return _FILTERED if filtered else _VERSION


def _adjusting(held: list[Any] | None) -> Adjusting | None:
    """By what the replay's history is adjusted; None: it is not."""
    if held is None:
        return None
    to, until_us, tables = held
    found = tuple((DataType(each), At(ends=_ends(ends), tables=_tables(at))) for each, at, ends in tables)
    return Adjusting(Adjusted(to), None if until_us is None else check_instant(until_us), found)


def _types(held: list[Any]) -> tuple[DataType, ...]:
    types = tuple(DataType(each) for each in held)
    if not types or len(set(types)) < len(types) or not set(types).issubset(REPLAYED):
        raise ValueError(types)
    return types


def _tables(held: list[Any]) -> TableSnapshots:
    return tuple((_text(table), None if found is None else int(found)) for table, found in held)


def _key(held: list[Any]) -> SortKey:
    key = tuple((_text(name), value) for name, value in held)
    if not key:
        return ()
    if [name for name, _ in key] != list(KEY):
        raise ValueError(key)
    check_instant(key[0][1])
    for name, value in key:
        if value is not None or name == "k2_rank":
            _of_kind(value, KEY[name])
    return key


def _by_type(held: dict[str, Any] | None) -> dict[DataType, Ends] | None:
    if held is None:
        return None
    return {DataType(each): _ends(ends) for each, ends in held.items()}


def _ends(held: list[Any]) -> Ends:
    return tuple((_text(topic), _of_kind(partition, int), _of_kind(end, int)) for topic, partition, end in held)


def _of_kind(value: Any, kind: type[int | str]) -> Any:
    """The value, which must be of just that kind; a number must be one of 64 bits."""
    if type(value) is not kind or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        raise ValueError(value)
    return _text(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    """The text; a `ValueError` for one that no database takes: half of a surrogate pair is no character."""
    if not isinstance(value, str):
        raise TypeError(value)
    value.encode()
    return value
