"""Files that a mapping describes: the layout of one file, and its columns as those of an event. docs/mappings.md is the manual."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.asx_csv import quote_side
from k2.feeds.formats.columns import canonical, decimal_array, decimals, price_column, vendor_map
from k2.feeds.formats.csv_blocks import Rows
from k2.feeds.formats.layouts import FileLayout, Files, FoundRows
from k2.feeds.formats.mapped_times import EventTimes, WrittenTimes
from k2.feeds.formats.mapped_values import SourceValue, condition_codes, encode, plain, rows_of_kind, sides, told_column
from k2.feeds.formats.table_rows import header_of
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.exchanges import Exchange
from k2.model.id_scopes import IdRule
from k2.model.mapping.named import GENERIC
from k2.model.mapping.shape import EXCHANGE_ZONE, ConditionsRule, FileMapping, NameRule, SideRule, ValueRule
from k2.model.times import DAY_US, day_number, to_datetime
from k2.model.topics import DataType

Ints = npt.NDArray[np.int64]


class MappedFiles:
    """Files of one mapping (a `FileFormat`).

    Args:
        mapping: how they are written.
        files: what else is known of them; its symbol, where it has one, is that of all rows.
        own: whether the mapping is a person's: then the load is known by all that it says, and not by name and version.
    """

    def __init__(self, mapping: FileMapping, files: Files, *, own: bool = False) -> None:
        self.name = mapping.name
        self.version = mapping.version
        self.data_type = mapping.data_type
        self._mapping = mapping
        self._exchange: Exchange = files.exchange
        self._symbol = files.symbol or None
        self._currency = files.currency or files.exchange.currency
        self._prices = files.prices
        self.options = files.prices.options | ({"mapping": mapping.fingerprint} if own else {})
        self.ids = _id_rule(mapping)

    def layout(self, path: Path, first_line: bytes, *, is_table: bool = False) -> FileLayout:
        """How this file is read; a `UserError` names columns that are missing, unknown or doubled."""
        mapping = self._mapping
        found = _values(path, first_line, "," if is_table else mapping.delimiter)
        names = [name.strip().lower() for name in found]
        has_header = is_table or mapping.header == "present" or (mapping.header == "either" and self._is_header(names))
        if not has_header:
            names = self._names_without_header(len(found))
        columns = _FileColumns(path, names, mapping, has_symbol=self._symbol is not None)
        columns.check()
        told, only, day = columns.told(), columns.only(), columns.day()
        if self._symbol is None and "symbol" not in told:
            raise UserError(
                f"{path} does not say its symbol",
                expected="a column, or a file's name as the vendor gives it",
                remedy="Say it with --symbol (in a feed: symbol)",
            )
        times = EventTimes(mapping.time, columns.of_time(), self._zone(), day)
        needed = {name for each in told.values() for name in each.columns} | {*times.columns, *only}
        # Nearly every value of these is another one.
        unalike = {name for each in ("id", "sequence") if each in told for name in told[each].columns}
        unalike |= set(times.columns if mapping.time.date is None else times.columns[-1:])
        if is_table:
            # Of a row that is rejected there are the columns that were read, and so of the header.
            first_line = header_of([name for name, lower in zip(found, names, strict=True) if lower in needed])
        conditions = mapping.conditions
        return FileLayout(
            [name if name in needed else f"\0{place}" for place, name in enumerate(names)],
            frozenset(unalike - set(only)),
            first_line if has_header else None,
            _Conversion(self, told, times, only),
            kind=self._kind(told, day),
            separator=mapping.delimiter,
            taken=tuple(name for name in names if name in needed),
            list_joint=conditions.separator[:1] if conditions is not None else " ",
        )

    def _kind(self, told: Mapping[str, SourceValue], day: int | None) -> str:
        """What the file's name says is no part of its content, by which a load is known."""
        rule = self._mapping.symbol
        of_symbol = told["symbol"].value if rule is not None and rule.file_name and "symbol" in told else None
        of_date = None if day is None else f"{to_datetime(day * DAY_US):%Y-%m-%d}"
        return " ".join(text for text in (of_symbol, of_date) if text)

    def _is_header(self, names: Sequence[str]) -> bool:
        needed = [name for name in self._mapping.time.sources if not name.isdigit()]
        return all(name.lower() in names for name in needed)

    def _names_without_header(self, width: int) -> list[str]:
        names = [name.lower() for name in self._mapping.columns]
        if not names:
            return [str(place + 1) for place in range(width)]
        shorter = names[:width]
        needed = [name.lower() for name in self._mapping.named_columns if not name.isdigit()]
        return shorter if all(name in shorter for name in needed) else names

    def _zone(self) -> str:
        zone = self._mapping.time.zone
        return self._exchange.time_zone if zone == EXCHANGE_ZONE else zone

    def found(self, rows: Rows, told: Mapping[str, SourceValue], times: Ints) -> FoundRows:
        """The columns of the model, of rows whose columns are ours."""
        trades = self.data_type is DataType.TRADES
        columns, parts = self._of_trades(rows, told) if trades else self._of_quotes(rows)
        symbols: pa.StringArray | str = self._symbol or ""
        if self._symbol is None:
            symbols = columns["symbol"] = plain(rows.columns["symbol"])
        currency = plain(rows.columns["currency"]) if "currency" in told else pa.repeat(pa.scalar(""), len(rows))
        currency = columns["currency"] = pc.if_else(pc.equal(currency, ""), self._currency, currency)
        vendor = {
            name.removeprefix(_VENDOR): plain(values)
            for name, values in rows.columns.items()
            if name.startswith(_VENDOR)
        }
        if vendor:
            columns["vendor_data"] = vendor_map(vendor, len(rows))
        if "sequence" in told:
            columns["source_sequence"] = _sequences(rows)
        # Vendor fields by name, so that the order of a file's columns changes no id.
        extra = [field for name in sorted(vendor) for field in (pa.repeat(pa.scalar(name), len(rows)), vendor[name])]
        ids = plain(rows.columns["id"]) if "id" in told else None
        return FoundRows(columns, symbols, canonical(times, *parts, currency, *extra), times, ids)

    def _of_trades(self, rows: Rows, told: Mapping[str, SourceValue]) -> tuple[dict[str, pa.Array], list[object]]:
        price = price_column(rows, "price", "price", self._prices)
        quantity = decimals(rows, "quantity", "quantity")
        side = pa.repeat(pa.scalar("UNKNOWN"), len(rows))
        if "side" in told:
            of_sides = told["side"].rule
            assert isinstance(of_sides, SideRule)
            side = sides(rows, of_sides, encode(rows.columns["side"]))
        columns = {"price": decimal_array(price), "quantity": decimal_array(quantity), "side": side}
        codes = pa.repeat(pa.scalar(""), len(rows))
        if "conditions" in told:
            rule = told["conditions"].rule
            assert isinstance(rule, ConditionsRule)
            encoded = encode(rows.columns["conditions"])
            columns["trade_conditions"], codes = condition_codes(encoded, rule), plain(encoded)
        return columns, [price, quantity, side, codes]

    def _of_quotes(self, rows: Rows) -> tuple[dict[str, pa.Array], list[object]]:
        columns: dict[str, pa.Array] = {}
        parts: list[object] = []
        for side in ("bid", "ask"):
            price, quantity, arrays = quote_side(rows, side, (f"{side}_price", f"{side}_quantity"), self._prices)
            columns |= arrays
            parts += [price, quantity]
        return columns, parts


_VENDOR = "vendor."
_ENCODED = ("price", "quantity", *FileMapping.of_quotes)
"""Columns that are looked at by their distinct values."""


@dataclass(frozen=True, slots=True)
class _Conversion:
    """From the columns of one file to those of the model."""

    files: MappedFiles
    told: Mapping[str, SourceValue]
    times: EventTimes
    only: Mapping[str, Sequence[str]]

    def __call__(self, rows: Rows) -> FoundRows:
        if self.only:
            rows.pass_over(~rows_of_kind(rows, self.only))
        times = self.times.of(rows)
        ours = {name: told_column(rows, told) for name, told in self.told.items()}
        rows.columns = {name: encode(values) if name in _ENCODED else values for name, values in ours.items()}
        return self.files.found(rows, self.told, times)


class _FileColumns:
    """The columns of one file, and where the mapping's names lead in it."""

    def __init__(self, path: Path, names: Sequence[str], mapping: FileMapping, *, has_symbol: bool) -> None:
        self._path = path
        self._names = names
        self._mapping = mapping
        self._rules = dict(mapping.rules)
        if has_symbol:
            self._rules.pop("symbol", None)
        prefix = mapping.vendor_prefix
        kept = (name for name in names if prefix and name.startswith(prefix) and name != prefix)
        self._rules |= {_VENDOR + name.removeprefix(prefix): ValueRule(column=name) for name in kept}

    def at(self, name: str) -> str:
        """What the file calls a column that the mapping names, or numbers."""
        if name.isdigit() and name not in self._names:
            place = int(name)
            return self._names[place - 1] if 1 <= place <= len(self._names) else name
        return name.lower()

    def has(self, name: str) -> bool:
        """Whether the file has it."""
        return self.at(name) in self._names

    def check(self) -> None:
        """A `UserError` names the first column that is missing, not known, or there twice."""
        required = self._required()
        missing = [name for name in required if not self.has(name)]
        found = ", ".join(self._names)[:300]
        if missing:
            optional = [name for rule in self._rules.values() if rule.optional for name in rule.sources]
            raise UserError(
                f"The header of {self._path} lacks the column {', '.join(missing)}",
                found=found,
                expected=", ".join(required) + (f" (and optionally {', '.join(optional)})" if optional else ""),
                remedy="Give every column its name in the first line, as in docs/feeds.md"
                if self._mapping.name == GENERIC
                else "Check --format or the mapping; `k2 load --sniff FILE` shows what the file looks like",
            )
        known = {self.at(name) for name in (*self._mapping.named_columns, *self._needed())}
        unknown = [name for name in self._names if name not in known]
        if unknown and self._mapping.others == "refused":
            near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
            prefix = self._mapping.vendor_prefix
            raise UserError(
                f"The header of {self._path} has a column that is not known",
                found=unknown[0],
                expected=near[0] if near else f"one of {', '.join(self._mapping.named_columns)}",
                remedy=f"Call it {prefix}{unknown[0]} to keep it in vendor_data" if prefix else "",
            )
        of_use = self._names if self._mapping.others == "refused" else [n for n in self._names if n in known]
        if len(set(of_use)) < len(of_use):
            raise UserError(f"The header of {self._path} names a column twice", found=found)

    def told(self) -> dict[str, SourceValue]:
        """What the file tells of each value of an event; what is optional and not there is left out."""
        told: dict[str, SourceValue] = {}
        for name, rule in self._rules.items():
            nulls = (*rule.nulls, *self._mapping.nulls)
            if not rule.sources:
                value = self._of_name(rule.file_name) if isinstance(rule, NameRule) and rule.file_name else rule.value
                if value is not None:
                    told[name] = SourceValue(rule, (), value, nulls)
            elif all(self.has(column) for column in rule.sources):
                told[name] = SourceValue(rule, tuple(self.at(column) for column in rule.sources), nulls=nulls)
        return told

    def of_time(self) -> tuple[str, ...]:
        """The file's columns of the rule of times."""
        return tuple(self.at(name) for name in self._mapping.time.sources)

    def only(self) -> dict[str, Sequence[str]]:
        """Column → its values in rows that count."""
        return {self.at(name): values for name, values in self._mapping.only.items()}

    def day(self) -> int | None:
        """The date that the mapping or the file's name says, days since 1970; None where a column does."""
        rule = self._mapping.time.date
        if rule is None or rule.column is not None:
            return None
        if rule.value is not None:
            return day_number(rule.value)
        text = self._of_name(rule.file_name or "") or ""
        found = WrittenTimes(pa.array([text]), rule.form)
        if not found.ok[0]:
            raise UserError(
                f"The name of {self._path} does not say its date",
                found=self._path.name,
                expected=f"what {rule.file_name} finds, as {rule.form}",
                remedy="Name the file as the vendor does, or give the date in the mapping (time.date.value)",
            )
        return int(found.days[0])

    def _of_name(self, pattern: str) -> str | None:
        found = re.search(pattern, self._path.name)
        return found[1] if found else None

    def _needed(self) -> Sequence[str]:
        return self._mapping.columns_of(self._rules)

    def _required(self) -> Sequence[str]:
        optional = {name for rule in self._rules.values() if rule.optional for name in rule.sources}
        return [name for name in self._needed() if name not in optional]


def _id_rule(mapping: FileMapping) -> IdRule:
    rule = mapping.id
    if rule is None:
        return IdRule()
    return IdRule.of(rule.scope, rule.day_starts if rule.scope.is_by_day else None, rule.space)


def _values(path: Path, line: bytes, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.decode("utf-8", "replace")], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise UserError(
            f"The header of {path} cannot be read",
            found=f"{line[:200]!r} ({error})",
            expected="names with commas between" if delimiter == "," else f"names with {delimiter!r} between",
        ) from error


def _sequences(rows: Rows) -> pa.Array:
    values = plain(rows.columns["sequence"])
    ok = pc.match_substring_regex(values, r"^-?[0-9]{1,18}$|^$").to_numpy(zero_copy_only=False)
    rows.reject(~ok, lambda row: f"source_sequence is not a whole number: found {values[row].as_py()!r}")
    usable = pa.array(ok & pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    return pc.if_else(usable, values, pa.scalar(None, pa.string())).cast(pa.int64())
