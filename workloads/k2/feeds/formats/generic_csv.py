"""The generic CSV: a header names the columns, any symbol and time per row. docs/feeds.md describes it.

Times are ISO 8601 (UTC where no offset is written) or integers since 1970 in microseconds (16 digits) or nanoseconds (19).
"""

from __future__ import annotations

import csv
import difflib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.asx_csv import conditions, quote_side
from k2.feeds.formats.columns import (
    canonical,
    day_of,
    decimal_array,
    decimals,
    price_column,
    texts,
    times_of_day,
    trimmed,
    vendor_map,
)
from k2.feeds.formats.csv_blocks import Rows
from k2.feeds.formats.layouts import FileFormat, FileLayout, Files, FoundRows
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.events import SIDES
from k2.model.feed_rules import Prices
from k2.model.times import DAY_US, MINUTE_US, OFFSET_FORM, offset_minutes
from k2.model.topics import DataType

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_REQUIRED = {
    DataType.TRADES: ("symbol", "timestamp", "price", "quantity"),
    DataType.QUOTES: ("symbol", "timestamp", "bid_price", "bid_quantity", "ask_price", "ask_quantity"),
}
_OPTIONAL = {
    DataType.TRADES: ("side", "trade_id", "currency", "conditions", "source_sequence"),
    DataType.QUOTES: ("quote_id", "currency", "source_sequence"),
}
_VENDOR = "vendor."
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<time>[0-9:.]{8,18})(?P<zone>Z|z|[+-][0-9]{2}:?[0-9]{2}|)$"
)  # fmt: skip
_EPOCH = r"^-?(?:[0-9]{16}|[0-9]{19})$"
_TIME_SHAPE = "ISO 8601 (2014-03-10T07:57:14.754Z), or 16 digits of microseconds or 19 of nanoseconds since 1970"


def generic(files: Files) -> FileFormat:
    """How generic files of that data type are read; a `UserError` for a data type that they cannot hold."""
    return Generic(files.data_type, files.symbol, files.currency or files.exchange.currency, files.prices)


class Generic:
    """Trades or quotes with a header.

    Args:
        data_type: trades or quotes.
        symbol: of all rows, for files without the column `symbol`.
        currency: of the rows that name none.
        prices: which prices there are.
    """

    name = "generic"
    version = 1

    def __init__(
        self, data_type: DataType, symbol: str | None, currency: str, prices: Prices = Prices.POSITIVE
    ) -> None:
        if data_type not in _REQUIRED:
            raise UserError(
                f"The generic CSV has no {data_type}", expected="trades or quotes", remedy="Use --format asx"
            )
        self.data_type = data_type
        self._symbol = symbol or None
        self._currency = currency
        self._prices = prices
        self.options = prices.options

    def layout(self, path: Path, first_line: bytes) -> FileLayout:
        """The layout by the header; a `UserError` names columns that are missing, unknown or doubled."""
        names = _header(path, first_line)
        required = [name for name in _REQUIRED[self.data_type] if name != "symbol" or self._symbol is None]
        known = _REQUIRED[self.data_type] + _OPTIONAL[self.data_type]
        found = ", ".join(names)[:300]
        missing = [name for name in required if name not in names]
        if missing:
            raise UserError(
                f"The header of {path} lacks the column {', '.join(missing)}",
                found=found,
                expected=f"{', '.join(required)} (and optionally {', '.join(_OPTIONAL[self.data_type])})",
                remedy="Give every column its name in the first line, as in docs/feeds.md",
            )
        unknown = [name for name in names if name not in known and not (name.startswith(_VENDOR) and name != _VENDOR)]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            raise UserError(
                f"The header of {path} has a column that is not known",
                found=unknown[0],
                expected=near[0] if near else f"one of {', '.join(known)}",
                remedy=f"Call it {_VENDOR}{unknown[0]} to keep it in vendor_data",
            )
        if len(set(names)) < len(names):
            raise UserError(f"The header of {path} names a column twice", found=found)
        plain = frozenset(name for name in ("timestamp", "trade_id", "quote_id", "source_sequence") if name in names)
        return FileLayout(names, plain, first_line, self._trades if self.data_type is DataType.TRADES else self._quotes)

    def _trades(self, rows: Rows) -> FoundRows:
        times = timestamps(rows, "timestamp")
        price = price_column(rows, "price", "price", self._prices)
        quantity = decimals(rows, "quantity", "quantity")
        side = _sides(rows)
        columns = {"price": decimal_array(price), "quantity": decimal_array(quantity), "side": side}
        codes = texts(rows, "conditions") if "conditions" in rows.columns else _blank(rows)
        if "conditions" in rows.columns:
            columns["trade_conditions"] = conditions(rows, "conditions")
        return self._found(rows, times, columns, [price, quantity, side, codes], "trade_id")

    def _quotes(self, rows: Rows) -> FoundRows:
        times = timestamps(rows, "timestamp")
        columns: dict[str, pa.Array] = {}
        parts: list[object] = []
        for side in ("bid", "ask"):
            price, quantity, arrays = quote_side(rows, side, (f"{side}_price", f"{side}_quantity"), self._prices)
            columns |= arrays
            parts += [price, quantity]
        return self._found(rows, times, columns, parts, "quote_id")

    def _found(
        self, rows: Rows, times: Ints, columns: dict[str, pa.Array], parts: list[object], own_id: str
    ) -> FoundRows:
        symbols: pa.StringArray | str = self._symbol or ""
        if self._symbol is None:
            symbols = columns["symbol"] = texts(rows, "symbol")
        currency = texts(rows, "currency") if "currency" in rows.columns else _blank(rows)
        currency = pc.if_else(pc.equal(currency, ""), self._currency, currency)
        columns["currency"] = currency
        vendor = {name.removeprefix(_VENDOR): texts(rows, name) for name in rows.columns if name.startswith(_VENDOR)}
        if vendor:
            columns["vendor_data"] = vendor_map(vendor, len(rows))
        if "source_sequence" in rows.columns:
            columns["source_sequence"] = _sequences(rows)
        # Vendor fields by name, so that the order of a file's columns changes no id.
        extra = [field for name in sorted(vendor) for field in (pa.repeat(pa.scalar(name), len(rows)), vendor[name])]
        ids = trimmed(rows.columns[own_id]) if own_id in rows.columns else None
        return FoundRows(columns, symbols, canonical(times, *parts, currency, *extra), times, ids)


def timestamps(rows: Rows, column: str) -> Ints:
    """UTC microseconds of a column of ISO 8601 times or integers since 1970; what is neither is rejected with a reason.

    What is finer than a microsecond is cut, never rounded up: a time must not move into the next day.
    """
    values = trimmed(rows.columns[column])
    micros = np.zeros(len(values), dtype=np.int64)
    whole = pc.match_substring_regex(values, _EPOCH).to_numpy(zero_copy_only=False)
    if whole.any():
        # 19 digits may say more than 64 bits hold: cast as a decimal they may, and are out of range behind the division.
        numbers = _integers(pc.if_else(pa.array(whole), values, "0"))
        nanos = pc.greater(pc.binary_length(values), 17).to_numpy(zero_copy_only=False)
        micros = np.where(whole & nanos, numbers // 1000, np.where(whole, numbers, 0))
    if whole.all():
        return micros
    iso, ok, why = _iso_times(values)
    micros = np.where(whole, micros, iso)
    rows.reject(~(whole | ok), lambda row: f"timestamp {why(row)}")
    return micros


def _integers(values: pa.StringArray) -> Ints:
    """Texts of up to 19 digits; what 64 bits do not hold becomes the number next to it, which is no time of K2's."""
    wide = values.cast(pa.decimal128(19, 0))
    words = np.frombuffer(wide.buffers()[1], np.int64)[2 * wide.offset : 2 * (wide.offset + len(wide))]
    low, high = words[0::2], words[1::2]
    bounds = np.iinfo(np.int64)
    return np.where(high == low >> 63, low, np.where(high < 0, bounds.min, bounds.max))


def _iso_times(values: pa.StringArray):  # noqa: ANN202 - micros, which are times, and the reason of a row
    parts = pc.extract_regex(values, _ISO)
    shaped = parts.is_valid().to_numpy(zero_copy_only=False)
    date, clock, zone = (pc.fill_null(part, "") for part in parts.flatten())
    dates = date.dictionary_encode()
    # Loops over the distinct dates and offsets of a block: a handful.
    days = [day_of(text, "YYYY-MM-DD") for text in dates.dictionary.to_pylist()]
    index = dates.indices.to_numpy(zero_copy_only=False)
    day = np.array([found if isinstance(found, int) else 0 for found in days], dtype=np.int64)[index]
    dated = np.array([isinstance(found, int) for found in days], dtype=bool)[index]
    zones = zone.dictionary_encode()
    offsets = [offset_minutes(text or "Z") for text in zones.dictionary.to_pylist()]
    zone_index = zones.indices.to_numpy(zero_copy_only=False)
    offset = np.array([found or 0 for found in offsets], dtype=np.int64)[zone_index]
    known = np.array([found is not None for found in offsets], dtype=bool)[zone_index]
    micros, timed = times_of_day(clock)

    def why(row: int) -> str:
        text = values[row].as_py()
        if not text:
            return "is missing"
        found = days[int(index[row])]
        if shaped[row] and isinstance(found, str):
            return f"{found} (in {text!r})"
        if shaped[row] and timed[row] and not known[row]:
            return f"has an offset that no clock has: found {text!r}, expected {OFFSET_FORM}"
        return f"is not a time: found {text!r}, expected {_TIME_SHAPE}"

    return day * DAY_US + micros - offset * MINUTE_US, shaped & dated & timed & known, why


def _sides(rows: Rows) -> pa.StringArray:
    if "side" not in rows.columns:
        return pa.repeat(pa.scalar("UNKNOWN"), len(rows))
    side = pc.utf8_upper(texts(rows, "side"))
    side = pc.if_else(pc.equal(side, ""), "UNKNOWN", side)
    known = pc.is_in(side, pa.array(SIDES)).to_numpy(zero_copy_only=False)
    if not known.all():
        expected = f"{', '.join(SIDES[:-1])} or {SIDES[-1]}"
        rows.reject(~known, lambda row: f"side must be {expected}, found {rows.value('side', row)!r}")
    return side


def _sequences(rows: Rows) -> pa.Array:
    values = trimmed(rows.columns["source_sequence"])
    ok = pc.match_substring_regex(values, r"^-?[0-9]{1,18}$|^$").to_numpy(zero_copy_only=False)
    rows.reject(~ok, lambda row: f"source_sequence is not a whole number: found {rows.value('source_sequence', row)!r}")
    usable = pa.array(ok & pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    return pc.if_else(usable, values, pa.scalar(None, pa.string())).cast(pa.int64())


def _blank(rows: Rows) -> pa.StringArray:
    return pa.repeat(pa.scalar(""), len(rows))


def _header(path: Path, line: bytes) -> list[str]:
    try:
        row = next(csv.reader([line.decode("utf-8", "replace")], strict=True), [])
    except csv.Error as error:
        raise UserError(
            f"The header of {path} cannot be read",
            found=f"{line[:200]!r} ({error})",
            expected="names with commas between",
        ) from error
    return [name.strip().lower() for name in row]
