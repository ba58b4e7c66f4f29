"""Several tables in one order of events: timestamp, exchange, symbol, quote before trade, then the rest of the total order. Pure.

One statement reads all of them: each table's rows get the columns of the others as nulls, and DuckDB sorts them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef
from k2.model.events import SortKey
from k2.model.times import SECOND_US
from k2.model.topics import DataType
from k2.query.asked.cursor import KEY
from k2.query.events.windows import TailCut, clusters
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema
from k2.query.rows.statement import TAIL, FilesRead, RowSource, Statement
from k2.query.rows.widest import widest

TYPE, RANK = "type", "k2_rank"
RANKS: Mapping[DataType, tuple[int, str]] = {DataType.QUOTES: (0, "quote"), DataType.TRADES: (1, "trade")}
"""Place of a kind of event among others at the same instant, exchange and symbol, and its name in `type`."""

WINDOW_ROWS = 2_000_000
"""Rows that one sort holds at most, unless more of them lie within a second. The engine's memory limit spills to disk."""

ORDER = tuple(KEY)
_INSTANT = 3
_BIN_US = SECOND_US


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one table, and which of them."""

    data_type: DataType
    relation: Relation
    which: sql.Filter

    @property
    def rank(self) -> int:
        """See `RANKS`."""
        return RANKS[self.data_type][0]


def schema_of(parts: Sequence[Part]) -> pa.Schema:
    """Schema of merged rows: `type`, the columns of all tables, and those that tell where in Kafka a row came from."""
    fields = arrow_schema(_columns(parts))
    lineage = {field.name: field for field in arrow_schema(parts[0].relation.columns, lineage=True)}
    kept = [lineage[name] for name in sql.LINEAGE if name in lineage]
    return pa.schema([pa.field(TYPE, pa.string()), *fields, pa.field(RANK, pa.int32()), *kept])


def _columns(parts: Sequence[Part]) -> tuple[ColumnInfo, ...]:
    """The columns of all tables; one that a person added to several is of the type that holds all its values, if need be text."""
    return widest(tuple(part.relation.columns for part in parts))


def _selected(columns: Sequence[ColumnInfo], types: Mapping[str, str | None]) -> list[str]:
    """A table's columns as the statement reads them, in the types that they have there."""
    found: list[str] = []
    for column in columns:
        own, kind = sql.duck_type(column), types[column.name]
        if own is not None and kind is not None:
            found.append(f'"{column.name}"' if own == kind else f'"{column.name}"::{kind} AS "{column.name}"')
    return found


def statement(parts: Sequence[Part], *, limit: int | None = None) -> Statement:
    """All rows of the parts in the order of events, at most `limit`."""
    texts: list[str] = []
    params: dict[str, Any] = {}
    tails: dict[str, pa.Table] = {}
    roots: set[str] = set()
    reads: list[FilesRead] = []
    types = {column.name: sql.duck_type(column) for column in _columns(parts)}
    for part in parts:
        if not part.relation:
            continue
        condition, values = sql.where(part.relation, part.which)
        columns = ", ".join(_selected(part.relation.columns, types))
        rank, name = RANKS[part.data_type]
        text = (
            f"SELECT '{name}' AS {TYPE}, {rank}::INTEGER AS {RANK}, {columns} "
            f"FROM {sql.source(part.relation)}{condition}"
        )
        whole = sql.statement(text, values, part.relation)
        # Each table has names of its own for its values and its tail.
        tail = f"{TAIL}_{name}"
        texts.append(re.sub(rf"\b{TAIL}\b", tail, re.sub(r"\$([a-z0-9_]+)", rf"$\1_{name}", text)))
        params |= {f"{key}_{name}": value for key, value in whole.params.items()}
        if part.relation.tail is not None:
            tails[tail] = part.relation.tail
        roots |= set(whole.roots)
        reads += whole.reads
    order = ", ".join(f'"{name}" NULLS LAST' for name in ORDER)
    text = f"SELECT * FROM ({' UNION ALL BY NAME '.join(texts)}) ORDER BY {order}"
    if limit is not None:
        text += f" LIMIT {int(limit)}"
    return Statement(text, params, tuple(sorted(roots)), tails=tails, reads=tuple(reads))


def after(part: Part, key: SortKey) -> Part:
    """The rows of a part that come after a key of the merged order."""
    instant, rank, rest = key[:_INSTANT], key[_INSTANT][1], key[_INSTANT + 1 :]
    assert isinstance(rank, int)
    if part.rank < rank:
        place = instant
    elif part.rank == rank:
        place = (*instant, *rest)
    else:  # every row at the same instant, exchange and symbol comes after the key: no offset is below zero
        place = (*instant, (sql.LINEAGE[-1], -1))
    start_us = instant[0][1]
    assert isinstance(start_us, int)
    return replace(part, which=replace(part.which, after=place, start_us=start_us))


def key_at(rows: pa.RecordBatch, row: int) -> SortKey:
    """The key of a row of a merged batch."""
    return tuple((name, _plain(rows.column(name)[row])) for name in ORDER)


def windows(engine: RowSource, parts: Sequence[Part], most_rows: int = WINDOW_ROWS) -> Iterator[tuple[Part, ...]]:
    """The parts cut into stretches of time that follow each other, each of about `most_rows` rows at most (tails aside)."""
    tails = [TailCut(part.relation) for part in parts]

    def cut(files: Sequence[DataFileRef], start_us: int | None, end_us: int | None) -> tuple[Part, ...]:
        chosen = set(files)
        last = max(file.end_us for file in files)
        up_to = last if end_us is None else min(last, end_us - 1)
        found: list[Part] = []
        for part, tail in zip(parts, tails, strict=True):
            mine = [file for file in part.relation.files if file in chosen]
            rows = tail.until(up_to)
            which = replace(part.which, start_us=_later(part.which.start_us, start_us))
            which = replace(which, end_us=_sooner(which.end_us, end_us))
            found.append(Part(part.data_type, replace(part.relation.of(mine), tail=rows), which))
        return tuple(found)

    all_files = sorted(
        (file for part in parts for file in part.relation.files),
        key=lambda file: (file.start_us, file.end_us, file.path),
    )
    joined: list[DataFileRef] = []
    for cluster in clusters(all_files):
        rows = sum(file.rows for file in cluster)
        if joined and rows + sum(file.rows for file in joined) > most_rows:
            yield cut(joined, None, None)
            joined = []
        if rows > most_rows:
            for start_us, end_us in _edges(engine, parts, set(cluster), most_rows):
                yield cut(cluster, start_us, end_us)
        else:
            joined += cluster
    if joined:
        yield cut(joined, None, None)
    rests = [tail.rest() for tail in tails]
    if any(rest is not None for rest in rests):
        yield tuple(
            replace(part, relation=replace(part.relation.of(()), tail=rest))
            for part, rest in zip(parts, rests, strict=True)
        )


def _edges(
    engine: RowSource, parts: Sequence[Part], cluster: set[DataFileRef], most_rows: int
) -> Iterator[tuple[int | None, int | None]]:
    """[start, end) of stretches of a cluster, by the number of matching rows in each second."""
    counts: dict[int, int] = {}
    for part in parts:
        relation = part.relation.of([file for file in part.relation.files if file in cluster])
        if not relation:
            continue
        bins = engine.fetch("replay", sql.histogram(relation, part.which, _BIN_US)).to_pydict()
        for number, count in zip(bins["bin"], bins["rows"], strict=True):
            counts[number] = counts.get(number, 0) + count
    start_us: int | None = None
    rows = 0
    for number in sorted(counts):
        edge = number * _BIN_US
        if rows and rows + counts[number] > most_rows:
            yield start_us, edge
            start_us, rows = edge, 0
        rows += counts[number]
    yield start_us, None


def _later(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _sooner(one: int | None, other: int | None) -> int | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _plain(value: pa.Scalar) -> int | str | None:
    if pa.types.is_timestamp(value.type):
        return value.cast(pa.timestamp("us", value.type.tz)).value
    return value.as_py()
