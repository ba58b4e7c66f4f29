"""On which exchange a symbol is traded, where the one who asks did not say."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from k2.model.compute import pc
from k2.model.exchanges import known_exchange
from k2.model.prints import Prints, check_profile
from k2.query.asked.requests import Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.rows.errors import AmbiguousSymbolError
from k2.query.rows.relation import Relation


def checked_on(prints: Prints, *codes: str) -> Prints:
    """The filters that are about trades of these exchanges; a `UserError` where one has no such profile as is asked for."""
    for code in codes:
        market = known_exchange(code)
        check_profile(prints, code, [] if market is None else [name for name, _ in market.profiles])
    return tuple(each for each in prints if each.exchange is None or each.exchange in codes)


def one_exchange(directory: SymbolDirectory, relation: Relation, symbol: str, window: Window) -> str | None:
    """The exchange of the symbol's rows in the window, which the relation was planned for.

    Where there are none it is None, or the one exchange of the files that might have had them: rows decide, not what lies
    beside them.

    Raises:
        AmbiguousSymbolError: they are of several.
    """
    chosen = [file for file in relation.files if file.may_hold(symbol)]
    proven = {file.exchange for file in chosen}
    in_tail = _in_tail(relation, symbol)
    if len(proven) == 1 and (only := next(iter(proven))) is not None and in_tail <= {only}:
        return only
    found = in_tail | directory.exchanges(relation.of(chosen), [symbol]).get(symbol, set())
    if len(found) > 1:  # in these files; fewer may be in the window
        found = directory.exchanges_within(relation, [symbol], window).get(symbol, set())
    if len(found) > 1:
        raise ambiguous(symbol, found)
    return next(iter(found), None)


def exchanges_ever(directory: SymbolDirectory, relation: Relation, symbols: Collection[str]) -> dict[str, set[str]]:
    """The exchanges that files and tail have each of the symbols of, exactly; a symbol without any is absent."""
    found = directory.exchanges(relation, symbols)
    for symbol in symbols:
        if in_tail := _in_tail(relation, symbol):
            found[symbol] = found.get(symbol, set()) | in_tail
    return found


def exchanges_of(directory: SymbolDirectory, relation: Relation, symbols: Collection[str], window: Window) -> set[str]:
    """The exchanges of the symbols' rows in the window (no symbols: of all rows).

    Raises:
        AmbiguousSymbolError: they have one of the symbols of several.
    """
    if symbols:
        return {code for symbol in symbols if (code := one_exchange(directory, relation, symbol, window)) is not None}
    proven = {file.exchange for file in relation.files}
    in_tail: set[str] = set()
    if relation.tail is not None:
        in_tail = {str(each) for each in relation.tail.column("exchange").unique().to_pylist()}
    if len(proven) == 1 and (only := next(iter(proven))) is not None and in_tail <= {only}:
        return {only}
    return {each for found in directory.exchanges_within(relation, (), window).values() for each in found}


def check_exchanges(directory: SymbolDirectory, relation: Relation, symbols: Collection[str], window: Window) -> None:
    """Let several symbols pass (none: whatever there is), the rows of each of which in the window are of one exchange only.

    Raises:
        AmbiguousSymbolError: those of one are of several.
    """
    proven = {file.exchange for file in relation.files}
    in_tail: set[tuple[str, str]] = set()
    if relation.tail is not None:
        pairs = relation.tail.select(["symbol", "exchange"]).group_by(["symbol", "exchange"]).aggregate([])
        in_tail = {(str(row["symbol"]), str(row["exchange"])) for row in pairs.to_pylist()}
    if len(proven) == 1 and None not in proven and {exchange for _, exchange in in_tail} <= proven:
        return
    found = directory.exchanges(relation, symbols)
    unsure = [symbol for symbol in symbols if len(found.get(symbol, ())) > 1]
    if unsure:  # in these files; fewer may be in the window
        found |= {key: set[str]() for key in unsure} | directory.exchanges_within(relation, unsure, window)
    for symbol in symbols:
        exchanges = found.get(symbol, set()) | {exchange for name, exchange in in_tail if name == symbol}
        if len(exchanges) > 1:
            raise ambiguous(symbol, exchanges)


def _in_tail(relation: Relation, symbol: str) -> set[str]:
    if relation.tail is None:
        return set()
    rows = relation.tail.filter(pc.field("symbol").cast(pa.string()) == symbol)
    return {str(each) for each in rows.column("exchange").unique().to_pylist()}


def ambiguous(symbol: str, exchanges: set[str]) -> AmbiguousSymbolError:
    """The error that asks for one of the exchanges."""
    return AmbiguousSymbolError(
        f"{symbol} is traded on several exchanges",
        found=", ".join(sorted(exchanges)),
        expected="one of them",
        remedy=f"Ask with exchange={min(exchanges)}",
    )
