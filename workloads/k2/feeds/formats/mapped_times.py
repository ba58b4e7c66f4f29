"""UTC microseconds of the columns that tell an event's time, by a mapping's rule: since 1970, ISO 8601, or as strftime writes.

What is finer than a microsecond is cut, never rounded up: a time must not move into the next day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.columns import day_of, reject_clock_changes, times_of_day, trimmed, utc_of
from k2.feeds.formats.csv_blocks import Rows
from k2.model import strftime
from k2.model.compute import pc
from k2.model.mapping.shape import ClockRule, DateRule, TimeRule
from k2.model.times import DAY_US, HOUR_US, MINUTE_US, OFFSET_FORM, SECOND_US, UNITS_US, offset_minutes

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

UTC = "UTC"
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<time>[0-9:.]{8,18})(?P<zone>Z|z|[+-][0-9]{2}:?[0-9]{2}|)$"
)  # fmt: skip
_ISO_SHAPE = "ISO 8601 (2014-03-10T07:57:14.754Z)"
_DIGITS = {"s": 10, "ms": 13, "us": 16, "ns": 19}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_UNITS_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_WHOLE = r"^-?[0-9]{1,19}$"
_WITH_POINT = r"^(?P<sign>-?)(?P<whole>[0-9]{1,18})\.(?P<fraction>[0-9]{1,9})$"
_NANOS = 9
_SECOND_NS = 1_000_000_000
_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class EventTimes:
    """How one file tells its times.

    Attributes:
        rule: the mapping's.
        columns: the file's columns that the rule names, in its order.
        zone: of times without an offset: a name of the IANA's.
        day: the date of all rows, where the mapping or the file's name says it: days since 1970.
    """

    rule: TimeRule
    columns: Sequence[str]
    zone: str = UTC
    day: int | None = None

    def of(self, rows: Rows) -> Ints:
        """UTC microseconds of each row; what is no time is rejected with a reason."""
        if self.rule.date is not None and self.rule.clock is not None:
            return self._of_two(rows, self.rule.date, self.rule.clock)
        typed = [rows.typed[name] for name in self.columns if name in rows.typed]
        if len(typed) == len(self.columns) and "%" not in self.rule.form[0]:
            return self._typed(rows, typed)
        values = self._given(rows)
        form = self.rule.form[0]
        if "%" in form:
            return self._written(rows, values, form)
        return self._since_or_iso(rows, values)

    def _given(self, rows: Rows) -> pa.StringArray:
        """Each row's text: of several columns the first that has one."""
        values = self._without_nulls(_plain(rows, self.columns[0]))
        for name in self.columns[1:]:
            if not (blank := pc.equal(values, "")).true_count:
                break
            values = pc.if_else(blank, self._without_nulls(_plain(rows, name)), values)
        return values

    def _without_nulls(self, values: pa.StringArray) -> pa.StringArray:
        nulls = self.rule.nulls
        return pc.if_else(pc.is_in(values, pa.array(nulls, pa.string())), "", values) if nulls else values

    def _typed(self, rows: Rows, columns: Sequence[pa.Array]) -> Ints:
        """Times that a file of columns has as times, or as whole numbers; those without a zone are of the rule's."""
        micros, given, local = np.zeros(len(rows), np.int64), np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        ok = np.zeros(len(rows), bool)
        for values in columns:
            here = values.is_valid().to_numpy(zero_copy_only=False) & ~given
            if pa.types.is_timestamp(values.type):
                found, known = _instants(values), here
                local |= here & (values.type.tz is None)
            else:
                numbers = pc.fill_null(values.cast(pa.int64()), 0).to_numpy()
                here &= ~np.isin(numbers, [int(null) for null in self.rule.nulls if null.lstrip("-").isdigit()])
                found, known = _numbers_since_1970(numbers, [form for form in self.rule.form if form != "iso"])
            micros, ok = np.where(here, found, micros), np.where(here, known, ok)
            given |= here
        rows.reject(~given, lambda _: "timestamp is missing")
        shape = _shape(self.rule.form)
        rows.reject(
            given & ~ok,
            lambda row: f"timestamp is not a time: found {rows.value(self.columns[0], row)!r}, expected {shape}",
        )
        return self._utc(rows, micros, given & local)

    def _since_or_iso(self, rows: Rows, values: pa.StringArray) -> Ints:
        forms = self.rule.form
        units = [form for form in forms if form != "iso"]
        micros, whole = _since_1970(values, units)
        if whole.all():
            return micros
        if "iso" not in forms:
            self._reject(rows, values, ~whole, lambda text: f"is not a time: found {text!r}, expected {_shape(forms)}")
            return micros
        iso = _Iso(values, _shape(forms))
        micros = np.where(whole, micros, iso.micros)
        rows.reject(~(whole | iso.ok), lambda row: f"timestamp {iso.why(row)}")
        return self._utc(rows, micros, ~whole & iso.ok & iso.local)

    def _written(self, rows: Rows, values: pa.StringArray, form: str) -> Ints:
        found = WrittenTimes(values, form)
        self._reject(rows, values, ~found.ok, lambda text: f"is not a time: found {text!r}, expected {form}")
        return self._utc(rows, found.days * DAY_US + found.micros, found.ok & found.local)

    def _of_two(self, rows: Rows, date: DateRule, clock: ClockRule) -> Ints:
        days: Ints | int = self.day or 0
        if date.column is not None:
            days = _dates(rows, self.columns[0], date.form)
        values = _plain(rows, self.columns[-1])
        typed = rows.typed.get(self.columns[-1])
        if typed is not None and pa.types.is_time(typed.type):
            micros = pc.fill_null(typed.cast(pa.time64("us"), safe=False), 0).cast(pa.int64()).to_numpy()
            ok, shape = typed.is_valid().to_numpy(zero_copy_only=False), clock.form
        elif clock.form in UNITS_US or clock.form in _UNIT_NAMES:
            micros, ok = _counts(values, clock.form)
            ok &= (micros >= 0) & (micros < DAY_US)
            shape = f"{_UNIT_NAMES[clock.form]} since midnight"
        else:
            found = WrittenTimes(values, clock.form)
            micros, ok, shape = found.micros, found.ok, clock.form
        if not ok.all():
            rows.reject(~ok, lambda row: f"time is {_absent_or(values[row].as_py(), 'not a time of day', shape)}")
        return self._utc(rows, days * DAY_US + np.where(ok, micros, 0), ok)

    def _utc(self, rows: Rows, micros: Ints, local: Mask) -> Ints:
        """The same times with those that clocks show in the zone as the instants that they are."""
        if self.zone == UTC or not local.any():
            return micros
        times, twice, never = utc_of(np.where(local, micros, 0), self.zone)
        if twice.any() or never.any():
            reject_clock_changes(rows, twice & local & rows.ok, never & local & rows.ok, self.columns, self.zone)
        return np.where(local, times, micros)

    def _reject(self, rows: Rows, values: pa.StringArray, bad: Mask, why: Callable[[str], str]) -> None:
        if bad.any():
            rows.reject(bad, lambda row: f"timestamp {why(text) if (text := values[row].as_py()) else 'is missing'}")


class WrittenTimes:
    """A column of times as strftime writes them.

    Attributes:
        days: since 1970; 0 where the form has no date.
        micros: of the day, less the offset where the form has one.
        local: which say no offset.
        ok: which are dates and times that exist.
    """

    def __init__(self, values: pa.StringArray, form: str) -> None:
        parts = pc.extract_regex(values, strftime.pattern(form))
        self.ok: Mask = parts.is_valid().to_numpy(zero_copy_only=False).copy()
        self._parts = {parts.type.field(i).name: part for i, part in enumerate(parts.flatten())}
        self._count = len(values)
        self.days = self._days() if set("Yymbd") & set(self._parts) else np.zeros(self._count, np.int64)
        self.micros = self._clock()
        self.local: Mask = np.full(self._count, "offset" not in self._parts)
        if "offset" in self._parts:
            self.micros -= self._offsets()

    def _texts(self, name: str) -> pa.StringArray:
        return pc.fill_null(self._parts[name], "")

    def _number(self, name: str, otherwise: int = 0) -> Ints:
        if name not in self._parts:
            return np.full(self._count, otherwise, np.int64)
        texts = self._texts(name)
        return pc.if_else(pc.equal(texts, ""), "0", texts).cast(pa.int64()).to_numpy()

    def _days(self) -> Ints:
        years = self._number("Y", 1970)
        if "y" in self._parts:
            short = self._number("y")
            years = np.where(short < 69, 2000 + short, 1900 + short)  # as POSIX has it
        months = self._number("m", 1)
        if "b" in self._parts:
            names = pa.array(strftime.MONTHS)
            months = pc.fill_null(pc.index_in(pc.utf8_lower(self._texts("b")), names), -1).to_numpy() + 1
        day = self._number("d", 1)
        month = ((years - 1970) * 12 + months - 1).astype(np.int64)
        first, following = (
            at.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for at in (month, month + 1)
        )
        self.ok &= (months >= 1) & (months <= 12) & (day >= 1) & (day <= following - first)
        return np.where(self.ok, first + day - 1, 0)

    def _clock(self) -> Ints:
        hours = self._number("H")
        if "I" in self._parts:
            half = self._number("I")
            self.ok &= (half >= 1) & (half <= 12)
            afternoon = pc.equal(pc.utf8_lower(self._texts("p")), "pm").to_numpy(zero_copy_only=False)
            hours = half % 12 + 12 * afternoon
        minutes, seconds = self._number("M"), self._number("S")
        self.ok &= (hours < 24) & (minutes < 60) & (seconds < 60)
        micros = hours * HOUR_US + minutes * MINUTE_US + seconds * SECOND_US
        if "fraction" in self._parts:
            places = pc.utf8_slice_codeunits(pc.utf8_rpad(self._texts("fraction"), 6, "0"), 0, 6)
            micros = micros + places.cast(pa.int64()).to_numpy()
        return micros

    def _offsets(self) -> Ints:
        encoded = self._texts("offset").dictionary_encode()
        # A loop over the distinct offsets of a block: a handful.
        found = [offset_minutes(text) for text in encoded.dictionary.to_pylist()]
        index = encoded.indices.to_numpy(zero_copy_only=False)
        self.ok &= np.array([each is not None for each in found], dtype=bool)[index]
        return np.array([each or 0 for each in found], dtype=np.int64)[index] * MINUTE_US


class _Iso:
    """A column of ISO 8601 times: local microseconds less their offset, which are times, and the reason of a row."""

    def __init__(self, values: pa.StringArray, shape: str) -> None:
        self._values, self._shape = values, shape
        parts = pc.extract_regex(values, _ISO)
        self._shaped = parts.is_valid().to_numpy(zero_copy_only=False)
        date, clock, zone = (pc.fill_null(part, "") for part in parts.flatten())
        dates = date.dictionary_encode()
        # Loops over the distinct dates and offsets of a block: a handful.
        self._days = [day_of(text, "YYYY-MM-DD") for text in dates.dictionary.to_pylist()]
        self._index = dates.indices.to_numpy(zero_copy_only=False)
        day = np.array([found if isinstance(found, int) else 0 for found in self._days], dtype=np.int64)[self._index]
        dated = np.array([isinstance(found, int) for found in self._days], dtype=bool)[self._index]
        zones = zone.dictionary_encode()
        offsets = [offset_minutes(text or "Z") for text in zones.dictionary.to_pylist()]
        zone_index = zones.indices.to_numpy(zero_copy_only=False)
        offset = np.array([found or 0 for found in offsets], dtype=np.int64)[zone_index]
        self._known = np.array([found is not None for found in offsets], dtype=bool)[zone_index]
        micros, self._timed = times_of_day(clock)
        self.local: Mask = pc.equal(zone, "").to_numpy(zero_copy_only=False)
        self.micros: Ints = day * DAY_US + micros - offset * MINUTE_US
        self.ok: Mask = self._shaped & dated & self._timed & self._known

    def why(self, row: int) -> str:
        text = self._values[row].as_py()
        if not text:
            return "is missing"
        found = self._days[int(self._index[row])]
        if self._shaped[row] and isinstance(found, str):
            return f"{found} (in {text!r})"
        if self._shaped[row] and self._timed[row] and not self._known[row]:
            return f"has an offset that no clock has: found {text!r}, expected {OFFSET_FORM}"
        return f"is not a time: found {text!r}, expected {self._shape}"


def _since_1970(values: pa.StringArray, units: Sequence[str]) -> tuple[Ints, Mask]:
    """Microseconds of the texts that are numbers since 1970, and which are: of several units the digits tell which."""
    if len(units) == 1:
        return _counts(values, units[0])
    micros, whole = np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    if not units:
        return micros, whole
    digits = "|".join(f"[0-9]{{{_DIGITS[unit]}}}" for unit in units)
    whole = pc.match_substring_regex(values, f"^-?(?:{digits})$").to_numpy(zero_copy_only=False)
    if not whole.any():
        return micros, whole
    numbers = _integers(values if whole.all() else pc.if_else(pa.array(whole), values, "0"))
    lengths = pc.binary_length(values).to_numpy(zero_copy_only=False) - (numbers < 0)
    for unit in units:
        micros = np.where(whole & (lengths == _DIGITS[unit]), _in_micros(numbers, unit), micros)
    return micros, whole


def _numbers_since_1970(numbers: Ints, units: Sequence[str]) -> tuple[Ints, Mask]:
    """The same of numbers."""
    if len(units) == 1:
        return _in_micros(numbers, units[0]), np.ones(len(numbers), bool)
    micros, known = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), bool)
    sizes = np.abs(numbers)
    for unit in units:
        most = 10 ** _DIGITS[unit]  # the most of nanoseconds is beyond 64 bits, and so is none of theirs
        here = (sizes >= most // 10) & (sizes < most if most <= _LIMIT else True)
        micros, known = np.where(here, _in_micros(numbers, unit), micros), known | here
    return micros, known


def _counts(values: pa.StringArray, unit: str) -> tuple[Ints, Mask]:
    """Microseconds of texts that count one unit, perhaps with a fraction."""
    whole = pc.match_substring_regex(values, _WHOLE).to_numpy(zero_copy_only=False)
    micros = _in_micros(_integers(values if whole.all() else pc.if_else(pa.array(whole), values, "0")), unit)
    if whole.all():
        return micros, whole
    parts = pc.extract_regex(values, _WITH_POINT)
    pointed = parts.is_valid().to_numpy(zero_copy_only=False)
    if pointed.any():
        sign, before, behind = (pc.fill_null(part, "0") for part in parts.flatten())
        fraction = (
            pc.utf8_rpad(behind, _NANOS, "0").cast(pa.int64()).to_numpy() * _UNITS_NS[unit] // (1000 * _SECOND_NS)
        )
        exact = _in_micros(_integers(before), unit) + fraction
        negative = pc.equal(sign, "-").to_numpy(zero_copy_only=False)
        micros = np.where(pointed, np.where(negative, -exact, exact), micros)
    return micros, whole | pointed


def _in_micros(numbers: Ints, unit: str) -> Ints:
    if unit == "ns":
        return numbers // 1000
    factor = UNITS_US.get(unit, 1)
    return np.clip(numbers, -(_LIMIT // factor), _LIMIT // factor) * factor


def _integers(values: pa.StringArray) -> Ints:
    """Texts of up to 19 digits; what 64 bits do not hold becomes the number next to it, which is no time of K2's."""
    wide = values.cast(pa.decimal128(19, 0))
    words = np.frombuffer(wide.buffers()[1], np.int64)[2 * wide.offset : 2 * (wide.offset + len(wide))]
    low, high = words[0::2], words[1::2]
    return np.where(high == low >> 63, low, np.where(high < 0, -_LIMIT - 1, _LIMIT))


def _instants(values: pa.Array) -> Ints:
    """Microseconds of timestamps, those of nanoseconds cut; null is zero."""
    nanos = pa.types.is_timestamp(values.type) and values.type.unit == "ns"
    counts = pc.fill_null(values.cast(pa.int64()), 0).to_numpy()
    return counts // 1000 if nanos else _in_micros(counts, values.type.unit)


def _dates(rows: Rows, column: str, form: str) -> Ints:
    typed = rows.typed.get(column)
    if typed is not None and pa.types.is_date(typed.type):
        rows.reject(typed.is_null().to_numpy(zero_copy_only=False), lambda _: "date is missing")
        return pc.fill_null(typed.cast(pa.date32()).cast(pa.int32()), 0).to_numpy().astype(np.int64)
    encoded = rows.columns[column]
    index = encoded.indices.to_numpy(zero_copy_only=False)
    distinct = trimmed(encoded.dictionary)
    found = WrittenTimes(distinct, form)
    if not found.ok.all():
        rows.reject(
            ~found.ok[index],
            lambda row: f"date is {_absent_or(distinct[int(index[row])].as_py(), 'not a date', form)}",
        )
    return found.days[index]


def _absent_or(text: str, what: str, shape: str) -> str:
    return f"{what}: found {text!r}, expected {shape}" if text else "missing"


def _plain(rows: Rows, column: str) -> pa.StringArray:
    values = rows.columns[column]
    if isinstance(values, pa.DictionaryArray):
        return trimmed(values.dictionary).take(values.indices)
    return trimmed(values)


def _shape(forms: Sequence[str]) -> str:
    units = [form for form in forms if form != "iso"]
    counted = [f"{_DIGITS[unit]}{' digits' * (not place)} of {_UNIT_NAMES[unit]}" for place, unit in enumerate(units)]
    if len(units) == 1:
        counted = [_UNIT_NAMES[units[0]]]
    since = [f"{' or '.join(counted)} since 1970"] if units else []
    return ", or ".join([_ISO_SHAPE] * ("iso" in forms) + since)
