"""What a file format is to the loader: a layout found from a file's first line, and blocks of lines parsed by it.

Parsing is pure: bytes in, columns out. Ids, sequence numbers and the time of taking in are added by `assemble`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.columns import timestamp_array
from k2.feeds.formats.csv_blocks import Rejected, Rows, parse_rows
from k2.feeds.formats.files import LineBlock
from k2.feeds.formats.occurrences import Occurrences
from k2.feeds.formats.table_rows import table_rows
from k2.feeds.formats.tables import RowBlock
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.events import COLUMNS, EVENT_TIME, Decimals, arrow_schema
from k2.model.exchanges import Exchange
from k2.model.feed_rules import Prices
from k2.model.id_scopes import IdRule
from k2.model.ids import hex_ids, id_keys, message_ids, scoped
from k2.model.rules import nameless, out_of_range, wrong_name, wrong_time
from k2.model.symbols import SYMBOL_SHAPE, is_symbol
from k2.model.topics import DataType
from k2.model.trading_days import civil_dates

Ints = npt.NDArray[np.int64]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ParsedRows:
    """The good rows of a block as columns of the model (those that the file has), and the bad ones with reasons.

    Args:
        columns: by the model's names; what is missing here is filled in by `assemble`.
        symbols: of message id and occurrence count: one for all rows, or one each.
        canonical: each row in its one form, for ids and counts.
        source_ids: the source's own ids ("" where a row has none), or None where the format has none.
        times: UTC microseconds of the event.
        lines: each row's line in the file, from 1.
        rejected: the rows that are not loaded, in the order of the file.
        blank: blank lines: neither read nor rejected.
        passed_over: rows that are no events of this kind: neither read nor rejected.
    """

    columns: dict[str, pa.Array]
    symbols: pa.StringArray | str
    canonical: pa.StringArray
    source_ids: pa.StringArray | None
    times: Ints
    lines: Ints
    rejected: list[Rejected]
    blank: int
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class FoundRows:
    """What a layout's function found in the rows of a block, bad rows still among them (see `ParsedRows`)."""

    columns: dict[str, pa.Array]
    symbols: pa.StringArray | str
    canonical: pa.StringArray
    times: Ints
    source_ids: pa.StringArray | None = None


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How the lines of one file are read.

    Args:
        names: the columns in the order of the file.
        plain: columns where nearly every value differs (see `parse_rows`).
        header: the file's header line, or None when its first line is a row.
        convert: from columns of text to `FoundRows`; takes bad rows out by `Rows.reject`.
        skip: lines of this content say that there are no rows.
        kind: what the file holds, where the same bytes could hold something else.
        separator: the character between values.
        taken: the columns that `convert` looks at; None: all.
        list_joint: what stands between the items of lists, where a file of columns has such.
    """

    names: Sequence[str]
    plain: frozenset[str]
    header: bytes | None
    convert: Callable[[Rows], FoundRows]
    skip: bytes | None = None
    kind: str = ""
    separator: str = ","
    taken: Sequence[str] | None = None
    list_joint: str = ""

    @property
    def places(self) -> Sequence[int]:
        """The numbers of the columns that are taken, in the order of the file, from 0."""
        return [place for place, name in enumerate(self.names) if self.taken is None or name in self.taken]

    def parse(self, block: LineBlock | RowBlock, decimals: Decimals = Decimals.STANDARD) -> ParsedRows:
        """Parse a block of whole lines, or of rows with the columns at `places`, into rows of such decimals."""
        rows = self._of_lines(block) if isinstance(block, LineBlock) else self._of_table(block)
        rows.decimals = decimals
        found = self.convert(rows)
        _hold_to_the_rules(rows, found)
        rejected = sorted(rows.rejected, key=lambda bad: bad.line)
        if rows.ok.all():
            return ParsedRows(
                found.columns,
                found.symbols,
                found.canonical,
                found.source_ids,
                found.times,
                rows.lines,
                rejected,
                rows.blank,
                rows.passed_over,
            )
        keep = pa.array(rows.ok)
        return ParsedRows(
            {name: column.filter(keep) for name, column in found.columns.items()},
            found.symbols if isinstance(found.symbols, str) else found.symbols.filter(keep),
            found.canonical.filter(keep),
            None if found.source_ids is None else found.source_ids.filter(keep),
            found.times[rows.ok],
            rows.lines[rows.ok],
            rejected,
            rows.blank,
            rows.passed_over,
        )

    def _of_table(self, block: RowBlock) -> Rows:
        return table_rows(block, [self.names[place] for place in self.places], self.plain, self.list_joint)

    def _of_lines(self, block: LineBlock) -> Rows:
        has_header = self.header is not None and block.first_line == 1
        if block.start == 0 and block.data.startswith(_BYTE_ORDER_MARK):
            block = LineBlock(block.data[len(_BYTE_ORDER_MARK) :], 0, block.first_line, block.at_end)
        if self.skip is not None and self.skip in block.data:
            # Blanked, not cut: line numbers and byte positions stay true.
            block = LineBlock(block.data.replace(self.skip, b""), block.start, block.first_line, block.at_end)
        return parse_rows(block, self.names, self.plain, has_header, self.separator, self.taken)


@dataclass(frozen=True, slots=True)
class Files:
    """What is known of the files of a load before any is read.

    Attributes:
        data_type: what they hold.
        exchange: whose they are.
        symbol: of all rows, where whoever loads them says so.
        currency: of all prices; None: the exchange's.
        paths: the files.
        kind: what reference data holds, where the files do not say it.
        prices: which prices they may have.

    Raises:
        UserError: no event can have such a symbol or currency.
    """

    data_type: DataType
    exchange: Exchange
    symbol: str | None = None
    currency: str | None = None
    paths: Sequence[Path] = ()
    kind: str | None = None
    prices: Prices = Prices.POSITIVE

    def __post_init__(self) -> None:
        for what, name in (("symbol", self.symbol), ("currency", self.currency)):
            if name and not is_symbol(name):
                raise UserError(f"Not a {what}", found=name, expected=SYMBOL_SHAPE)


class FileFormat(Protocol):
    """A family of files. `version` grows when the same bytes would give other events: ledgers then begin anew.

    So do they under other `options`: what of its settings decides which rows are events. `ids`: what the files' own ids are
    unique within, unless whoever loads them says otherwise.
    """

    name: str
    version: int
    data_type: DataType
    options: dict[str, str]
    ids: IdRule

    def layout(self, path: Path, first_line: bytes, *, is_table: bool = False) -> FileLayout:
        """How this file is read; a `UserError` when its first line is not one of this format.

        Args:
            path: what the file is called.
            first_line: of its text; of a file of columns (`is_table`) their names as a line of CSV.
            is_table: it is Parquet or Arrow.
        """
        ...


@dataclass(frozen=True, slots=True)
class Assembler:
    """Makes whole events of parsed rows: ids, derived trade ids, constants of the exchange, times of taking in.

    `ids` says what the source's own ids are unique within, `decimals` how large and fine amounts may be.
    """

    data_type: DataType
    exchange: Exchange
    currency: str
    asset_class: str
    ids: IdRule = field(default_factory=IdRule)
    decimals: Decimals = Decimals.STANDARD

    def assemble(self, parsed: ParsedRows, occurrences: Occurrences, ingested: int) -> pa.RecordBatch:
        """Events of the model's schema.

        `source_sequence` is null where the source gives no order of its own. A row's number in its file would be none: it
        begins anew in the next file, whose rows would then stand before those of this one that share their moment. The
        offset in the topic is the order of the rows over all files, and decides where there is no number.

        Args:
            parsed: the rows of the next block of the load.
            occurrences: counts identical rows over the whole load.
            ingested: when they were taken in, UTC microseconds.
        """
        rows = len(parsed.lines)
        ids = self._ids(parsed, occurrences)
        given: dict[str, pa.Array] = {
            "message_id": ids,
            "exchange": _constant(self.exchange.code, rows),
            "asset_class": _constant(self.asset_class, rows),
            "currency": _constant(self.currency, rows),
            "ingestion_timestamp": timestamp_array(np.full(rows, ingested, dtype=np.int64)),
            EVENT_TIME[self.data_type]: timestamp_array(parsed.times),
        }
        own_id = {DataType.TRADES: "trade_id", DataType.QUOTES: "quote_id"}.get(self.data_type)
        if own_id is not None:
            derived = hex_ids(ids)
            has = parsed.source_ids
            given[own_id] = derived if has is None else pc.if_else(pc.equal(has, ""), derived, has)
        if isinstance(parsed.symbols, str):
            given["symbol"] = _constant(parsed.symbols, rows)
        given |= parsed.columns
        schema = arrow_schema(self.data_type, self.decimals)
        arrays = [
            given[column.name] if column.name in given else _absent(column.arrow(self.decimals), rows)
            for column in COLUMNS[self.data_type]
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _ids(self, parsed: ParsedRows, occurrences: Occurrences) -> pa.FixedSizeBinaryArray:
        code, symbols = self.exchange.code, parsed.symbols
        none = np.zeros(len(parsed.lines), dtype=np.int64)
        first = message_ids(self.data_type, code, symbols, parsed.canonical, none)
        # The id with n = 0 is the row's hash: only rows that came before are hashed a second time.
        counts = occurrences.count(symbols, parsed.times, id_keys(first))
        ids = _replaced(
            first, np.flatnonzero(counts), lambda at: message_ids(
                self.data_type, code, _at(symbols, at), parsed.canonical.take(pa.array(at)), counts[at]
            )
        )  # fmt: skip
        if parsed.source_ids is None:
            return ids
        has = np.flatnonzero(pc.not_equal(parsed.source_ids, "").to_numpy(zero_copy_only=False))
        own, rule = parsed.source_ids, self.ids
        days = civil_dates(parsed.times, self.exchange, rule.day_starts) if rule.scope.is_by_day else None

        def of_source(at: Ints) -> pa.FixedSizeBinaryArray:
            rows = pa.array(at)
            return message_ids(
                self.data_type,
                code,
                *scoped(rule, _at(symbols, at), own.take(rows), None if days is None else days.take(rows)),
            )

        return _replaced(ids, has, of_source)


def _hold_to_the_rules(rows: Rows, found: FoundRows) -> None:
    """Reject what no event may be (`k2.model.rules`); amounts were looked at where they were parsed."""
    wrong = out_of_range(timestamp_array(found.times))
    if wrong is not None:
        rows.reject(wrong, lambda row: wrong_time("timestamp", int(found.times[row])))
    symbols = found.columns.get("symbol")
    if symbols is not None and (wrong := nameless(symbols)) is not None:
        rows.reject(wrong, lambda row: wrong_name("symbol", symbols[row].as_py()))


def _replaced(
    ids: pa.FixedSizeBinaryArray, at: Ints, make: Callable[[Ints], pa.FixedSizeBinaryArray]
) -> pa.FixedSizeBinaryArray:
    if not at.size:
        return ids
    both = pa.concat_arrays([ids, make(at)])
    take = np.arange(len(ids))
    take[at] = np.arange(len(ids), len(both))
    return both.take(pa.array(take))


def _at(symbols: pa.StringArray | str, rows: Ints) -> pa.StringArray | str:
    return symbols if isinstance(symbols, str) else symbols.take(pa.array(rows))


def _absent(field: pa.Field, rows: int) -> pa.Array:
    """A column that the format does not have: nulls, and empty lists where there can be none."""
    if field.nullable or not pa.types.is_list(field.type):
        return pa.nulls(rows, field.type)
    starts = pa.array(np.zeros(rows + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(starts, pa.array([], field.type.value_type), type=field.type)


def _constant(value: str, rows: int) -> pa.StringArray:
    return pa.repeat(pa.scalar(value, pa.string()), rows)
