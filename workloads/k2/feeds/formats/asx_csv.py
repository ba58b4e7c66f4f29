"""The ASX vendor's files: trades and quotes without a header, in Sydney's local time; reference data with one.

docs/feeds.md describes the columns. Local times become UTC by the exchange's time zone, daylight saving included.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.columns import (
    Amounts,
    blanks,
    canonical,
    days,
    decimal_array,
    decimals,
    price_column,
    reject_clock_changes,
    texts,
    times_of_day,
    trimmed,
    utc_of,
    vendor_map,
)
from k2.feeds.formats.containers import Content
from k2.feeds.formats.csv_blocks import Rows
from k2.feeds.formats.files import first_line as first_line_of
from k2.feeds.formats.files import open_text
from k2.feeds.formats.layouts import FileFormat, FileLayout, Files, FoundRows
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.exchanges import Exchange
from k2.model.feed_rules import TAKES_ANY, Prices
from k2.model.id_scopes import IdRule
from k2.model.times import DAY_US
from k2.model.topics import DataType

Ints = npt.NDArray[np.int64]

_NO_RECORDS = b"--- NO RECORDS TO REPORT ---"
_DATE = "MM/DD/YYYY"
_TRADE_COLUMNS = ("date", "time", "price", "volume", "qualifiers", "venue", "buyer_id")
_QUOTE_COLUMNS = ("date", "time", "bid", "ask", "bid_volume", "ask_volume")
_CONDITION_SEPARATORS = r"[ ;|]+"
_REFERENCE_HEADERS: dict[tuple[str, ...], str] = {
    ("company_id", "symbol", "company_name", "isin", "start_date", "end_date"): "company",
    (
        "company_id", "declared_date", "ex_date", "record_date", "pay_date", "net_amount", "gross_amount", "currency_type",
    ): "dividend",
    ("company_id", "effective_date", "ratio"): "split",
}  # fmt: skip


class AsxTicks:
    """Trades or quotes of one symbol, which the files do not name.

    Args:
        data_type: trades or quotes.
        symbol: whose ticks these are.
        exchange: whose local time the files are in.
        prices: which prices there are.
    """

    name = "asx"
    version = 1

    def __init__(
        self, data_type: DataType, symbol: str | None, exchange: Exchange, prices: Prices = Prices.POSITIVE
    ) -> None:
        if not symbol:
            raise UserError(
                f"The ASX files of {data_type} do not name their symbol", expected="--symbol, for example --symbol BHP"
            )
        self.data_type = data_type
        self._symbol = symbol
        self._zone = exchange.time_zone
        self._prices = prices
        self.options = prices.options
        self.ids = IdRule()
        self._names = _TRADE_COLUMNS if data_type is DataType.TRADES else _QUOTE_COLUMNS

    def layout(self, path: Path, first_line: bytes, *, is_table: bool = False) -> FileLayout:
        """Rows from the first line on; a `UserError` when that line is a header."""
        _refuse_table(path, is_table)
        start = first_line.split(b",")[0].strip().strip(b'"')
        if b"," in first_line and start.replace(b"_", b"").replace(b" ", b"").isalpha():
            raise UserError(
                f"{path} begins with a header, which the ASX files of {self.data_type} do not have",
                found=first_line[:200].decode("utf-8", "replace"),
                expected=",".join(self._names),
                remedy="For a CSV with a header use --format generic",
            )
        convert = self._trades if self.data_type is DataType.TRADES else self._quotes
        return FileLayout(self._names, frozenset({"time"}), None, convert)

    def _trades(self, rows: Rows) -> FoundRows:
        times = local_times(rows, self._zone)
        price = price_column(rows, "price", "price", self._prices)
        volume = decimals(rows, "volume", "volume")
        qualifiers, venue, buyer = (texts(rows, name) for name in ("qualifiers", "venue", "buyer_id"))
        columns = {
            "price": decimal_array(price),
            "quantity": decimal_array(volume),
            "side": pa.repeat(pa.scalar("UNKNOWN"), len(rows)),
            "trade_conditions": conditions(rows, "qualifiers"),
            "vendor_data": vendor_map({"venue": venue, "buyer_id": buyer}, len(rows)),
        }
        return FoundRows(columns, self._symbol, canonical(times, price, volume, qualifiers, venue, buyer), times)

    def _quotes(self, rows: Rows) -> FoundRows:
        times = local_times(rows, self._zone)
        sides, parts = {}, []
        for side in ("bid", "ask"):
            price, quantity, arrays = quote_side(rows, side, (side, f"{side}_volume"), self._prices)
            sides |= arrays
            parts += [price, quantity]
        return FoundRows(sides, self._symbol, canonical(times, *parts), times)


def asx(files: Files) -> FileFormat:
    """How ASX files of that data type are read; a `UserError` for ticks without a symbol, or an unknown `kind`."""
    if files.data_type is DataType.REFERENCE_DATA:
        return AsxReference(files.exchange, files.paths, files.kind)
    return AsxTicks(files.data_type, files.symbol, files.exchange, files.prices)


class AsxReference:
    """Companies, dividends, splits and mergers: which of them a file holds is told by its header.

    Args:
        exchange: whose dates the files hold.
        paths: all files of the load: the company file among them gives the symbols of the others' company ids.
        kind: what files of (company id, effective date, ratio) hold, `split` or `merger`; None: their names say it.
    """

    name = "asx"
    version = 1
    data_type = DataType.REFERENCE_DATA

    def __init__(self, exchange: Exchange, paths: Sequence[Path], kind: str | None = None) -> None:
        if kind not in {None, "split", "merger"}:
            raise UserError("Unknown kind of reference data", found=kind, expected="split or merger")
        self._kind = kind
        self._zone = exchange.time_zone
        self._currency = exchange.currency
        self._symbols = _symbols_of(paths)
        self.options: dict[str, str] = {}
        self.ids = IdRule()

    def layout(self, path: Path, first_line: bytes, *, is_table: bool = False) -> FileLayout:
        """The layout by the file's header; splits and mergers have the same one and are told by the file's name."""
        _refuse_table(path, is_table)
        names = _header_names(first_line)
        kind = _REFERENCE_HEADERS.get(names)
        if kind is None:
            known = "; ".join(",".join(header) for header in _REFERENCE_HEADERS)
            raise UserError(
                f"{path} has a header that no ASX reference file has",
                found=first_line[:200].decode("utf-8", "replace"),
                expected=f"one of {known}",
            )
        if kind == "split":
            kind = self._kind or _kind_by_name(path)
        convert = {"company": self._companies, "dividend": self._dividends}.get(kind, self._ratios(kind))
        return FileLayout(names, frozenset(), first_line, convert, skip=_NO_RECORDS, kind=kind)

    def _companies(self, rows: Rows) -> FoundRows:
        listed, unlisted = days(rows, "start_date", "start_date", _DATE, blank=True)
        ended, open_ended = days(rows, "end_date", "end_date", _DATE, blank=True)
        identity = _company_ids(rows)
        name, isin, symbol = (texts(rows, column) for column in ("company_name", "isin", "symbol"))
        columns = {
            "symbol": _or_null(symbol),
            "company_name": _or_null(name),
            "isin": _or_null(isin),
            "listing_date": _dates(listed, unlisted),
            "delisting_date": _dates(ended, open_ended),
            "currency": pa.repeat(pa.scalar(self._currency), len(rows)),
        }
        return self._found(rows, "company", identity, listed, columns, [symbol, name, isin, listed, ended])

    def _dividends(self, rows: Rows) -> FoundRows:
        dates = {name: days(rows, name, name, _DATE, blank=name != "ex_date") for name in _REFERENCE_DATES}
        identity = _company_ids(rows)
        net = decimals(rows, "net_amount", "net amount", zero=True)
        gross = decimals(rows, "gross_amount", "gross amount", zero=True)
        currency = texts(rows, "currency_type")
        columns = {name: _dates(*found) for name, found in dates.items()}
        columns |= {
            "symbol": self._symbol_column(identity),
            "net_amount": decimal_array(net),
            "gross_amount": decimal_array(gross),
            "currency": _or_null(currency),
        }
        parts = [*(found[0] for found in dates.values()), net, gross, currency]
        return self._found(rows, "dividend", identity, dates["ex_date"][0], columns, parts)

    def _ratios(self, kind: str):  # noqa: ANN202 - Callable[[Rows], Found]
        def convert(rows: Rows) -> FoundRows:
            effective, absent = days(rows, "effective_date", "effective date", _DATE)
            identity = _company_ids(rows)
            ratio = decimals(rows, "ratio", "ratio")
            columns = {
                "symbol": self._symbol_column(identity),
                "ex_date": _dates(effective, absent),
                "ratio": decimal_array(ratio),
            }
            return self._found(rows, kind, identity, effective, columns, [ratio])

        return convert

    def _found(
        self,
        rows: Rows,
        kind: str,
        identity: pa.StringArray,
        day: Ints,
        columns: dict[str, pa.Array],
        parts: Sequence[object],
    ) -> FoundRows:
        # Midnight does not exist, or is there twice, where clocks change at midnight: the earlier moment is the day's.
        times, _, _ = utc_of(day * DAY_US, self._zone)
        kinds = pa.repeat(pa.scalar(kind), len(rows))
        # The company's id takes the symbol's place in the message id: it is there even where the symbol is not.
        row = canonical(kinds, times, *parts)
        return FoundRows(columns | {"kind": kinds, "company_id": identity}, identity, row, times)

    def _symbol_column(self, identity: pa.StringArray) -> pa.StringArray:
        encoded = identity.dictionary_encode()
        known = [self._symbols.get(company) for company in encoded.dictionary.to_pylist()]
        return pa.array(known, pa.string()).take(encoded.indices)


_REFERENCE_DATES = ("declared_date", "ex_date", "record_date", "pay_date")


def local_times(rows: Rows, time_zone: str, date_column: str = "date", time_column: str = "time") -> Ints:
    """UTC microseconds of a date and a time in the exchange's local time; what is no such time is rejected."""
    day, _ = days(rows, date_column, "date", _DATE)
    clock = rows.columns[time_column]
    micros, ok = times_of_day(clock)
    if not ok.all():
        micros, ok = times_of_day(trimmed(clock))
        rows.reject(
            ~ok, lambda row: f"time is not a time of day: found {rows.value(time_column, row)!r}, expected HH:MM:SS.mmm"
        )
    times, twice, never = utc_of(day * DAY_US + micros, time_zone)
    if twice.any() or never.any():
        reject_clock_changes(rows, twice & rows.ok, never & rows.ok, (date_column, time_column), time_zone)
    return times


def quote_side(
    rows: Rows, side: str, names: tuple[str, str], prices: Prices
) -> tuple[Amounts, Amounts, dict[str, pa.Array]]:
    """Price and quantity of one side of quotes (`names`: their columns); null where both are zero or empty, and only then.

    Where a feed has any prices, a price of zero with a volume is one; an empty price is none under either.
    """
    price = price_column(rows, names[0], f"{side} price", prices, zero=True, blank=True)
    quantity = decimals(rows, names[1], f"{side} volume", zero=True, blank=True)
    absent = quantity.is_zero
    half = price.is_zero != absent
    if half.any():
        of_zero = price.is_zero & ~blanks(rows, names[0])
        rows.reject(
            half & ~of_zero if prices is Prices.ANY else half,
            lambda row: (
                f"{side} price {rows.value(names[0], row)!r} with volume {rows.value(names[1], row)!r}: "
                f"a side is absent only when both are 0{f'; {TAKES_ANY}' if of_zero[row] else ''}"
            ),
        )
    arrays = {f"{side}_price": decimal_array(price, absent), f"{side}_quantity": decimal_array(quantity, absent)}
    return price, quantity, arrays


def conditions(rows: Rows, column: str) -> pa.Array:
    """Condition codes of a column: split at blanks, semicolons and bars; none where it is empty."""
    encoded = rows.columns[column]
    codes = pc.split_pattern_regex(trimmed(encoded.dictionary), _CONDITION_SEPARATORS)
    kind = pa.list_(pa.field("item", pa.string(), nullable=False))
    # A loop over the distinct values of a block: a few codes.
    lists = pa.array([[code for code in split if code] for split in codes.to_pylist()], kind)
    return lists.take(encoded.indices)


def _refuse_table(path: Path, is_table: bool) -> None:
    if is_table:
        raise UserError(
            f"{path} is a file of columns, and the ASX files are text",
            expected="CSV",
            remedy="Use --format generic, or a mapping (docs/mappings.md)",
        )


def _company_ids(rows: Rows) -> pa.StringArray:
    identity = texts(rows, "company_id")
    rows.reject(pc.equal(identity, "").to_numpy(zero_copy_only=False), lambda _: "company id is missing")
    return identity


def _dates(day: Ints, absent: npt.NDArray[np.bool_]) -> pa.Array:
    return pa.array(day.astype(np.int32), mask=absent).cast(pa.date32())


def _or_null(values: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _kind_by_name(path: Path) -> str:
    named = [kind for kind in ("split", "merger") if kind in path.name.lower()]
    if len(named) != 1:
        raise UserError(
            f"{path} may hold splits or mergers: their columns are the same",
            expected="a name with 'split' or 'merger' in it",
            remedy="Say which with --kind split or --kind merger",
        )
    return named[0]


def _header_names(line: bytes) -> tuple[str, ...]:
    text = line.decode("utf-8", "replace").lower()
    return tuple(name.strip().strip('"').replace(" ", "_") for name in text.split(","))


def _symbols_of(paths: Sequence[Path]) -> dict[str, str]:
    """Company id → symbol, from the company files among these; the last row of an id counts."""
    symbols: dict[str, str] = {}
    for path in paths:
        if not path.is_file() or _REFERENCE_HEADERS.get(_header_names(first_line_of(Content(path)))) != "company":
            continue
        with path.open("rb") as file:
            # Row by row: a list of companies is thousands of lines, and only a look-up is made of it.
            for row in csv.reader(open_text(file)):
                if len(row) > 1 and row[0].strip().isdigit():
                    symbols[row[0].strip()] = row[1].strip()
    return symbols
