"""From columns of text to exact decimals, dates and times: vectorised, strict, with words for what is wrong.

Amounts are decimal128, days are counts since 1970-01-01, times are microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.csv_blocks import Rows
from k2.model.amounts import amount_unfit, plain, units
from k2.model.codec.lengths import unscaled
from k2.model.compute import pc
from k2.model.events import DECIMAL, SCALE, TIMESTAMP, Decimals
from k2.model.feed_rules import TAKES_ANY, Prices
from k2.model.times import SECOND_US, day_number

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_PLAIN_DECIMAL = {
    kind: rf"^-?[0-9]{{1,{kind.precision - kind.scale}}}(\.[0-9]{{1,{kind.scale}}})?$" for kind in Decimals
}
_DECIMAL_SHAPE = "digits with at most one point"


@dataclass(frozen=True, slots=True)
class Amounts:
    """A column of exact values: each distinct one once (decimal128), and which of them a row has."""

    distinct: pa.Array
    index: pa.Array

    def __len__(self) -> int:
        return len(self.index)

    @property
    def is_zero(self) -> Mask:
        """Which rows are zero."""
        low, high = unscaled(self.distinct)
        return ((low == 0) & (high == 0))[self.index.to_numpy(zero_copy_only=False)]

    @property
    def canonical(self) -> pa.StringArray:
        """The rows in units of 1e-8, as text: whatever the decimals of the table are, one value has one text."""
        precision, scale = Decimals.WIDE.precision, self.distinct.type.scale - SCALE
        # The same digits with the point elsewhere.
        counts = pa.Array.from_buffers(pa.decimal128(precision, scale), len(self.distinct), self.distinct.buffers())
        try:
            texts = counts.cast(pa.decimal128(precision, 0)).cast(pa.string())
        except pa.ArrowInvalid:  # some are finer than a unit
            texts = pa.array([plain(count) for count in counts.to_pylist()], pa.string())
        return texts.take(self.index)


def exact(text: str, decimals: Decimals = Decimals.STANDARD) -> Decimal | str:
    """The decimal that the text says, or why it is none that K2 can hold (never rounded)."""
    if not text:
        return "is missing"
    try:
        value = Decimal(text)
    except InvalidOperation:
        return f"is not a number: found {text!r}, expected {_DECIMAL_SHAPE}"
    if not value.is_finite():
        return f"is not a finite number: found {text!r}"
    if not text.isascii() or set(text) - set("+-.0123456789"):
        return f"is not a plain decimal: found {text!r}, expected {_DECIMAL_SHAPE}"
    return amount_unfit(value, decimals, f"found {text!r}") or value


def decimals(
    rows: Rows,
    column: str,
    label: str,
    *,
    signed: bool = False,
    zero: bool = False,
    blank: bool = False,
    hint: str = "",
) -> Amounts:
    """A column's exact values; rows where it is no number that fits, or has the wrong sign, are rejected.

    Args:
        rows: the block's rows.
        column: which column.
        label: what the column is called in reasons.
        signed: negative values are allowed.
        zero: zero is allowed.
        blank: an empty value is allowed and reads as zero.
        hint: what else is said of a value of the wrong sign.
    """
    encoded = rows.columns[column]
    distinct = trimmed(encoded.dictionary)
    values, ok = parsed_amounts(distinct, rows.decimals)
    low, high = unscaled(values)
    negative, none = high < 0, (low == 0) & (high == 0)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    if blank:
        ok |= pc.equal(distinct, "").to_numpy(zero_copy_only=False)
    if not ok.all():
        rows.reject(~ok[index], lambda row: f"{label} {exact(rows.value(column, row).strip(), rows.decimals)}")
    if not signed and negative.any():
        rows.reject(negative[index], lambda row: f"{label} is negative: found {rows.value(column, row)!r}{hint}")
    if not zero and none.any():
        rows.reject(none[index], lambda row: f"{label} is zero: found {rows.value(column, row)!r}{hint}")
    return Amounts(values, encoded.indices)


def price_column(
    rows: Rows, column: str, label: str, prices: Prices, *, zero: bool = False, blank: bool = False
) -> Amounts:
    """A column of prices: see `decimals`. Where a feed has any, they may be zero and negative."""
    if prices is Prices.ANY:
        return decimals(rows, column, label, signed=True, zero=True, blank=blank)
    return decimals(rows, column, label, zero=zero, blank=blank, hint=f"; {TAKES_ANY}")


def blanks(rows: Rows, column: str) -> Mask:
    """Where a column is empty."""
    encoded = rows.columns[column]
    empty = pc.equal(trimmed(encoded.dictionary), "").to_numpy(zero_copy_only=False)
    return empty[encoded.indices.to_numpy(zero_copy_only=False)]


def decimal_array(values: Amounts | Ints, absent: Mask | None = None) -> pa.Array:
    """Amounts, or units of 1e-8 as standard decimals, as a column of the model; null where `absent`."""
    if isinstance(values, Amounts):
        rows = values.distinct.take(values.index)
        if absent is None or not absent.any():
            return rows
        bits = pa.py_buffer(np.packbits(~absent, bitorder="little"))
        return pa.Array.from_buffers(rows.type, len(rows), [bits, rows.buffers()[1]])
    words = np.empty((len(values), 2), dtype=np.int64)
    words[:, 0] = values
    words[:, 1] = values >> 63
    bits = None if absent is None or not absent.any() else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    return pa.Array.from_buffers(DECIMAL, len(values), [bits, pa.py_buffer(words)])


def timestamp_array(micros: Ints) -> pa.Array:
    """UTC microseconds as the model's timestamps."""
    return pa.Array.from_buffers(TIMESTAMP, len(micros), [None, pa.py_buffer(np.ascontiguousarray(micros))])


def texts(rows: Rows, column: str) -> pa.StringArray:
    """A column's text, without blanks around it."""
    encoded = rows.columns[column]
    return trimmed(encoded.dictionary).take(encoded.indices)


def trimmed(values: pa.StringArray) -> pa.StringArray:
    """Text without white space around it."""
    return values if _is_solid(values) else pc.utf8_trim_whitespace(values)


def _is_solid(values: pa.StringArray) -> bool:
    """Whether no byte can be white space: one look at the bytes, where trimming looks at characters."""
    data = values.buffers()[2]
    if not len(values) or data is None:
        return True
    offsets = np.frombuffer(values.buffers()[1], dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    raw = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]
    return not (raw - np.uint8(33) > 93).any()  # below "!" wraps to above "~"


def days(rows: Rows, column: str, label: str, order: str, *, blank: bool = False) -> tuple[Ints, Mask]:
    """Days since 1970 of a column of dates; dates that do not exist are rejected.

    Args:
        rows: the block's rows.
        column: which column.
        label: what the column is called in reasons.
        order: `MM/DD/YYYY` or `YYYY-MM-DD`.
        blank: an empty value is allowed.

    Returns:
        The days, and where there was none.
    """
    encoded = rows.columns[column]
    index = encoded.indices.to_numpy(zero_copy_only=False)
    # A loop over the distinct dates of a block: a handful, and the calendar is Python's.
    found = [day_of(text, order) for text in trimmed(encoded.dictionary).to_pylist()]
    values = np.array([day if isinstance(day, int) else 0 for day in found], dtype=np.int64)
    empty = np.array([day is None for day in found], dtype=bool)
    wrong = np.array([isinstance(day, str) or (day is None and not blank) for day in found], dtype=bool)
    if wrong.any():
        rows.reject(wrong[index], lambda row: f"{label} {found[int(index[row])] or 'is missing'}")
    return values[index], empty[index]


def day_of(text: str, order: str) -> int | str | None:
    """Days since 1970 of one date; a reason when it is none; None when the text is empty."""
    if not text:
        return None
    separator = order[2] if order[0] == "M" else order[4]
    parts = text.split(separator)
    if [len(part) for part in parts] != [len(part) for part in order.split(separator)] or not all(
        part.isascii() and part.isdigit() for part in parts
    ):
        return f"is not a date: found {text!r}, expected {order}"
    by_name = dict(zip(order.split(separator), map(int, parts), strict=True))
    try:
        return day_number(date(by_name["YYYY"], by_name["MM"], by_name["DD"]))
    except ValueError:
        return f"is a date that does not exist: found {text!r}"


def times_of_day(values: pa.StringArray) -> tuple[Ints, Mask]:
    """Microseconds since midnight of `HH:MM:SS[.f…]` (1 to 9 places; what is finer than microseconds is cut), and what is a time.

    White space around is not allowed here; leap seconds (`:60`) are no time.
    """
    count = len(values)
    micros, ok = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool)
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False)
    data = values.buffers()[2]
    if not count or data is None:
        return micros, ok
    raw = np.frombuffer(data, dtype=np.uint8)
    starts = np.frombuffer(values.buffers()[1], dtype=np.int32)[values.offset : values.offset + count]
    for length in np.unique(lengths).tolist():
        if length != 8 and not 10 <= length <= 18:
            continue
        at = np.flatnonzero(lengths == length)
        micros[at], ok[at] = _fixed_times(raw[starts[at][:, None] + np.arange(length)])
    return micros, ok


def utc_of(local: Ints, time_zone: str) -> tuple[Ints, Mask, Mask]:
    """UTC microseconds of local ones by the time zone database; and which local times came twice, and which never."""
    naive = pa.array(local, pa.timestamp("us"))
    early, late = (
        pc.assume_timezone(naive, time_zone, ambiguous=which, nonexistent=which).cast(pa.int64()).to_numpy()
        for which in ("earliest", "latest")
    )
    odd = early != late
    twice, never = np.zeros(len(local), dtype=bool), odd
    if odd.any():
        back = pc.local_timestamp(pa.array(early, TIMESTAMP).cast(pa.timestamp("us", time_zone)))
        twice = odd & (back.cast(pa.int64()).to_numpy() == local)
        never = odd & ~twice
    return early, twice, never


def reject_clock_changes(rows: Rows, twice: Mask, never: Mask, shown: Sequence[str], time_zone: str) -> None:
    """Reject the rows whose local time the clock change makes ambiguous or skips; `shown`: the columns that say the time."""

    def text(row: int) -> str:
        return " ".join(rows.value(column, row) for column in shown)

    rows.reject(twice, lambda row: f"time is ambiguous: {text(row)} came twice in {time_zone} (clocks went back)")
    rows.reject(never, lambda row: f"time does not exist: {text(row)} was skipped in {time_zone} (clocks went forward)")


def vendor_map(fields: dict[str, pa.StringArray], rows: int) -> pa.Array:
    """The vendor's fields as a map a row, empty values left out; null where nothing is left."""
    kind = pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False))
    names = list(fields)
    filled = np.zeros((rows, len(names)), dtype=bool)
    for position, name in enumerate(names):
        filled[:, position] = pc.not_equal(fields[name], "").to_numpy(zero_copy_only=False)
    if not filled.any():
        return pa.nulls(rows, kind)
    row_of, field_of = np.nonzero(filled)
    flat = pa.concat_arrays([fields[name] for name in names]).take(pa.array(field_of * rows + row_of))
    keys = pa.array(names).take(pa.array(field_of))
    sizes = filled.sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    entries = pa.MapArray.from_arrays(offsets, keys, flat, type=kind)
    return pc.if_else(pa.array(sizes > 0), entries, pa.scalar(None, kind)) if (sizes == 0).any() else entries


def canonical(*parts: Any) -> pa.StringArray:
    """The canonical row: values in their one form (integers as they are, text as it is), joined by the unit separator."""
    return pc.binary_join_element_wise(*map(_in_one_form, parts), "\x1f")


def parsed_amounts(distinct: pa.StringArray, decimals: Decimals) -> tuple[pa.Array, Mask]:
    """Values of texts, zero where they are none, and which of them are numbers that such decimals hold."""
    ok = pc.match_substring_regex(distinct, _PLAIN_DECIMAL[decimals]).to_numpy(zero_copy_only=False).copy()
    safe = distinct if ok.all() else pc.if_else(pa.array(ok), distinct, "0")
    values = safe.cast(decimals.arrow)
    odd = np.flatnonzero(~ok).tolist()
    if not odd:
        return values, ok
    words = np.frombuffer(values.buffers()[1], dtype=np.int64)[: 2 * len(values)].copy()
    # A loop over odd spellings only ("+1", ".5", "1.10000000000", "-3"): they need Decimal's own rules.
    for position in odd:
        value = exact(distinct[position].as_py(), decimals)
        if isinstance(value, Decimal):
            words[2 * position + 1], low = divmod(units(value, decimals.scale), 2**64)
            words[2 * position] = low - 2**64 if low >= 2**63 else low
            ok[position] = True
    return pa.Array.from_buffers(decimals.arrow, len(values), [None, pa.py_buffer(words)]), ok


def _in_one_form(part: Any) -> Any:
    if isinstance(part, Amounts):
        return part.canonical
    return pa.array(part).cast(pa.string()) if isinstance(part, np.ndarray) else part


def _fixed_times(text: npt.NDArray[np.uint8]) -> tuple[Ints, Mask]:
    """Times of one length as a (rows, length) matrix of ASCII."""
    length = text.shape[1]
    points = [2, 5] + ([8] if length > 8 else [])
    places = [i for i in range(length) if i not in points]
    digit = text[:, places] - np.uint8(48)  # below "0" wraps to above 9
    ok = (digit <= 9).all(axis=1) & (text[:, 2] == 58) & (text[:, 5] == 58)
    if length > 8:
        ok &= text[:, 8] == 46
    number = digit.astype(np.int64)
    hours, minutes, seconds = (number[:, i] * 10 + number[:, i + 1] for i in (0, 2, 4))
    ok &= (hours < 24) & (minutes < 60) & (seconds < 60)
    micros = ((hours * 60 + minutes) * 60 + seconds) * SECOND_US
    for place, weight in zip(range(6, min(len(places), 12)), (100_000, 10_000, 1_000, 100, 10, 1), strict=False):
        micros += number[:, place] * weight
    return micros, ok
