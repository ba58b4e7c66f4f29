"""Which symbols of which exchanges each data file holds: read once per file and remembered, for data files never change.

Answers "which symbols are there?" and "on how many exchanges is this one?" without reading the data again. What it gives
out is what the relation's sight allows; what it remembers is of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from k2.lake.scan import DataFileRef
from k2.model.locations import local_path
from k2.model.lru import Lru
from k2.query.asked.requests import Window
from k2.query.plan.provenance import Provenance
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What a table holds of a symbol on an exchange. Times are µs since 1970 UTC."""

    symbol: str
    exchange: str
    rows: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Symbols:
    """Every symbol of a table, by symbol and exchange."""

    symbols: Sequence[SymbolInfo]
    provenance: Provenance


_FILES_A_QUERY = 64
_MOST_ENTRIES = 1_000_000


class SymbolDirectory:
    """Remembers the symbols of files, least recently used forgotten first, at most a million entries."""

    def __init__(self, engine: RowSource) -> None:
        self._engine = engine
        self._held: Lru[tuple[str, ...], tuple[SymbolInfo, ...]] = Lru(_MOST_ENTRIES, len)

    def symbols(self, relation: Relation) -> list[SymbolInfo]:
        """Symbols of the files, summed over them, by symbol and exchange."""
        total: dict[tuple[str, str], SymbolInfo] = {}
        for info in self._each(relation):
            key = (info.symbol, info.exchange)
            known = total.get(key)
            total[key] = info if known is None else _sum(known, info)
        return [total[key] for key in sorted(total)]

    def exchanges(self, relation: Relation, symbols: Iterable[str]) -> dict[str, set[str]]:
        """Exchanges that each of the symbols has rows of in the files; a symbol without any is absent."""
        wanted = set(symbols)
        found: dict[str, set[str]] = {}
        for info in self._each(relation):
            if info.symbol in wanted:
                found.setdefault(info.symbol, set()).add(info.exchange)
        return found

    def exchanges_within(self, relation: Relation, symbols: Sequence[str], window: Window) -> dict[str, set[str]]:
        """The same of the rows of a window alone, the tail's among them: what else lies in the files makes no difference."""
        found: dict[str, set[str]] = {}
        if relation:
            which = sql.Filter(tuple(symbols), None, window.start_us, window.end_us)
            for row in self._engine.fetch("symbols", sql.venues(relation, which)).to_pylist():
                found.setdefault(str(row["symbol"]), set()).add(str(row["exchange"]))
        return found

    def _each(self, relation: Relation) -> Iterable[SymbolInfo]:
        sight = relation.sight
        oldest_us = sight.oldest_us
        whole = relation.files
        if any(table.left_out for table in relation.tables):
            # Some of their rows are not to be counted: what is remembered is of all rows.
            parts = [file for table, files in relation.parts if table.left_out for file in files]
            for start in range(0, len(parts), _FILES_A_QUERY):
                yield from self._count(relation.of(parts[start : start + _FILES_A_QUERY]))
            whole = tuple(file for table, files in relation.parts if not table.left_out for file in files)
            relation = relation.of(whole)
        if oldest_us is not None:
            # A file that begins earlier holds rows that are not to be counted: what is remembered of it is of no use.
            whole = tuple(file for file in relation.files if file.start_us >= oldest_us)
            parts = [file for file in relation.files if file.start_us < oldest_us <= file.end_us]
            for start in range(0, len(parts), _FILES_A_QUERY):
                yield from self._count(relation.of(parts[start : start + _FILES_A_QUERY]))
        for info in self._of_whole_files(relation.of(whole)):
            if sight.sees(info.symbol, info.exchange):
                yield info

    def _count(self, relation: Relation) -> Iterable[SymbolInfo]:
        for row in self._engine.fetch("symbols", sql.listing(relation, visible=True)).to_pylist():
            yield SymbolInfo(row["symbol"], row["exchange"], row["rows"], row["first_us"], row["last_us"])

    def _of_whole_files(self, relation: Relation) -> Iterable[SymbolInfo]:
        missing: list[DataFileRef] = []
        for file in relation.files:
            held = self._held.get(file.identity)
            if held is None:
                missing.append(file)
            else:
                yield from held
        for start in range(0, len(missing), _FILES_A_QUERY):
            yield from self._read(relation.of(missing[start : start + _FILES_A_QUERY]))

    def _read(self, relation: Relation) -> Iterable[SymbolInfo]:
        rows = self._engine.fetch("symbols", sql.listing(relation)).to_pylist()
        by_file: dict[str, list[SymbolInfo]] = {local_path(file.path): [] for file in relation.files}
        for row in rows:
            info = SymbolInfo(row["symbol"], row["exchange"], row["rows"], row["first_us"], row["last_us"])
            by_file[row["filename"]].append(info)
            yield info
        for file in relation.files:
            self._held.put(file.identity, tuple(by_file[local_path(file.path)]))


def _sum(one: SymbolInfo, other: SymbolInfo) -> SymbolInfo:
    return SymbolInfo(
        one.symbol,
        one.exchange,
        one.rows + other.rows,
        min(one.first_us, other.first_us),
        max(one.last_us, other.last_us),
    )
