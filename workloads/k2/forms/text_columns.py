"""Columns as text: whole columns at a time, and what is the same in every row only once.

Decimals are plain strings with all their places, times are ISO 8601 with microseconds and Z; what JSON cannot say of a number
(NaN, infinity) is null there. Bytes are base64. Pure.
"""

from __future__ import annotations

import json
from base64 import b64encode
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.compute import pc
from k2.model.times import DAY_US, SECOND_US

# pyarrow makes its compute functions at import: no type checker sees them.

_QUOTE, _BACKSLASH = 0x22, 0x5C
_PART = (1 << 32) - 1


def _digits(places: int) -> npt.NDArray[np.uint8]:
    """Row n: the number n in ASCII, with leading zeros."""
    numbers = np.arange(10**places)
    return np.stack([48 + numbers // 10 ** (places - 1 - place) % 10 for place in range(places)], axis=1).astype(
        np.uint8
    )


_TWO, _THREE, _FOUR = _digits(2), _digits(3), _digits(4)


def json_rows(rows: pa.RecordBatch, after: str) -> memoryview:
    """Each row as the text of a JSON object, with `after` behind it."""
    pieces: list[Any] = []
    literal = "{"
    alike = _alike(rows.columns)
    for number, (name, column) in enumerate(zip(rows.schema.names, rows.columns, strict=True)):
        literal += ("," if number else "") + json.dumps(name) + ":"
        constant = _constant_json(column)
        if constant is not None:
            literal += constant
            continue
        parts = alike[number] if number in alike else _json_pieces(column)
        parts = [literal + parts[0], *parts[1:]] if isinstance(parts[0], str) else [literal, *parts]
        literal = parts.pop() if isinstance(parts[-1], str) else ""
        pieces += parts
    literal += "}" + after
    if not pieces:  # the same text in every row
        return memoryview((literal * rows.num_rows).encode())
    return _content(pc.binary_join_element_wise(*pieces, literal, ""))


def lines(cells: list[pa.Array]) -> memoryview:
    """Rows of cells, none of them null: with commas between, each row a line."""
    *others, last = cells
    return _content(pc.binary_join_element_wise(*others, pc.binary_join_element_wise(last, "\n", ""), ","))


def _content(texts: pa.Array) -> memoryview:
    """All texts, one after the other."""
    offsets, data = texts.buffers()[1:]
    if data is None:
        return memoryview(b"")
    first, last = np.frombuffer(offsets, dtype=np.int32)[[texts.offset, texts.offset + len(texts)]]
    return memoryview(data)[first:last]


def _constant_json(column: pa.Array) -> str | None:
    """The JSON text of the one value that all rows have; None where they differ or that is dear to find out."""
    if column.null_count == len(column):
        return "null"
    if column.null_count:
        return None
    if pa.types.is_list(column.type) and not len(column.flatten()):
        return "[]"
    if pa.types.is_string(column.type) and column[-1] == column[0] and pc.all(pc.equal(column, column[0])).as_py():
        return _dump(column[0].as_py())
    return None


def _alike(columns: list[pa.Array]) -> dict[int, list[Any]]:
    """The pieces (see `_json_pieces`) of times, and of decimals of one scale, by the places of their columns.

    All of a kind in one go: of a thousand rows, the calls cost as much as the values.
    """
    kinds: dict[tuple[int, bool] | None, list[int]] = {}
    for place, column in enumerate(columns):
        if len(column) and column.null_count == 0:
            if _is_time(column.type):
                kinds.setdefault(None, []).append(place)
            elif pa.types.is_decimal128(column.type) and column.type.scale > 0:
                kinds.setdefault((column.type.scale, _has_small_decimals(column)), []).append(place)
    found: dict[int, list[Any]] = {}
    for kind, places in kinds.items():
        if kind is None:
            together: list[Any] = [_times(np.concatenate([_micros(columns[place]) for place in places]))]
        elif kind[1]:
            together = _decimal_pieces(np.concatenate([_unscaled(columns[place]) for place in places]), kind[0])
        else:
            pieces = _wide_pieces(np.concatenate([_words(columns[place]) for place in places]), kind[0])
            if pieces is None:
                continue
            together = pieces
        rows = len(columns[0])
        for number, place in enumerate(places):
            own = (each if isinstance(each, str) else each.slice(number * rows, rows) for each in together)
            found[place] = ['"', *own, '"']
    return found


def _json_pieces(column: pa.Array) -> list[Any]:
    """Texts and columns of texts that make each value's JSON when they are joined; nothing in them is null."""
    if column.null_count == 0 and pa.types.is_string(column.type) and not _needs_escape(column):
        return ['"', column, '"']
    return [json_text(column)]


def json_text(column: pa.Array) -> pa.Array:
    """Each value as JSON text; none is null."""
    kind = column.type
    if pa.types.is_integer(kind):
        return pc.fill_null(pc.cast(column, pa.string()), "null")
    if pa.types.is_boolean(kind):
        return pc.fill_null(pc.if_else(column, "true", "false"), "null")
    if _is_nested(kind):
        return pa.array([_dump(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_list(kind):
        items = pa.ListArray.from_arrays(column.offsets, json_text(column.values))
        return _enclosed(column, "[", items, "]")
    if pa.types.is_map(kind):
        pairs = pc.binary_join_element_wise(json_text(column.keys), json_text(column.items), ":")
        return _enclosed(column, "{", pa.ListArray.from_arrays(column.offsets, pairs), "}")
    if pa.types.is_floating(kind):
        # JSON has no word for NaN and infinity.
        known = (None if value is None or not isfinite(value) else value for value in column.to_pylist())
        return pa.array([_dump(value) for value in known], pa.string())
    text = plain_text(column)
    if _needs_escape(text):
        return pa.array([_dump(value) for value in text.to_pylist()], pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', text, '"', ""), "null")


def plain_text(column: pa.Array) -> pa.Array:
    """Each value as text, null where it is null. A list is joined by `;`, a map is a JSON object, bytes are base64."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return decimal_text(column)
    if _is_time(kind):
        return _under_nulls(column, _times(_micros(column)))
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return pc.binary_join(column, ";")
    if pa.types.is_nested(kind):
        return pc.if_else(pc.is_valid(column), json_text(column), None)
    if pa.types.is_binary(kind):  # of a column that another tool has added: any bytes
        return pa.array(
            [None if value is None else b64encode(value).decode() for value in column.to_pylist()], pa.string()
        )
    if pa.types.is_interval(kind):
        return pa.array([None if each is None else _duration(*each) for each in column.to_pylist()], pa.string())
    return pc.cast(column, pa.string())


def _is_time(kind: pa.DataType) -> bool:
    """Whether it is a time as events have it; one with nanoseconds is a text of Arrow's."""
    return pa.types.is_timestamp(kind) and kind.unit != "ns"


def _is_nested(kind: pa.DataType) -> bool:
    """Whether its values are objects, or lists of such: what no column of events is, and somebody's own SQL may make."""
    if pa.types.is_list(kind):
        return _is_nested(kind.value_type)
    if pa.types.is_map(kind):
        return not pa.types.is_string(kind.key_type) or _is_nested(kind.item_type)
    return pa.types.is_nested(kind)


def _duration(months: int, days: int, nanoseconds: int) -> str:
    """ISO 8601, as in P1M2DT0.5S."""
    return f"P{months}M{days}DT{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".") + "S"


def decimal_text(column: pa.Array) -> pa.Array:
    """Decimals in plain notation with all their places (Arrow's own cast writes 0.00000001 as 1E-8)."""
    pieces = None
    if _has_small_decimals(column):
        pieces = _decimal_pieces(_unscaled(column), column.type.scale)
    elif pa.types.is_decimal128(column.type) and column.type.scale > 0:
        pieces = _wide_pieces(_words(column), column.type.scale)
    if pieces is None:
        return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())
    return _under_nulls(column, pc.binary_join_element_wise(*pieces, ""))


def _has_small_decimals(column: pa.Array) -> bool:
    """Whether the low half of each 128-bit value is the whole of it: always so with at most 18 digits."""
    kind = column.type
    if not pa.types.is_decimal128(kind) or not 0 < kind.scale <= 18:
        return False
    if kind.precision <= 18 or not len(column):
        return kind.precision <= 18
    words = np.frombuffer(column.buffers()[1], dtype=np.int64)
    low, high = words[2 * column.offset : 2 * (column.offset + len(column))].reshape(-1, 2).T
    fits = (high == low >> 63) & (low != np.iinfo(np.int64).min)
    # Under a null the buffer may hold anything.
    return bool((fits | ~column.is_valid().to_numpy(zero_copy_only=False)).all())


def _under_nulls(column: pa.Array, text: pa.Array) -> pa.Array:
    """The text, null where the column is: its buffer may hold anything there."""
    return pc.if_else(pc.is_valid(column), text, None) if column.null_count else text


def _words(column: pa.Array) -> npt.NDArray[np.int64]:
    """The lower and the upper 64 bits of each value; zero under a null."""
    words = np.frombuffer(column.buffers()[1], dtype=np.int64)
    words = words[2 * column.offset : 2 * (column.offset + len(column))].reshape(-1, 2)
    if column.null_count:
        words = np.where(column.is_valid().to_numpy(zero_copy_only=False)[:, np.newaxis], words, 0)
    return words


def _unscaled(column: pa.Array) -> npt.NDArray[np.int64]:
    """The digits of small decimals."""
    words = np.frombuffer(column.buffers()[1], dtype=np.int64)
    return words[2 * column.offset : 2 * (column.offset + len(column)) : 2]


def _wide_pieces(words: npt.NDArray[np.int64], scale: int) -> list[Any] | None:
    """`_decimal_pieces` of values of two words each; None where an integer part has more than 18 digits."""
    if scale > 18:
        return None
    low, high = words.T
    negative = high < 0
    # The absolute value in parts of 32 bits, highest first: its two's complement, where it is negative.
    low, high = np.where(negative, -low, low), np.where(negative, ~high + (low == 0), high)
    rest = [high >> 32, high & _PART, low >> 32 & _PART, low & _PART]
    places, power = np.zeros(len(low), np.int64), 1
    for digits in (min(scale, 9), scale - min(scale, 9)):
        if digits:
            rest, remainder = _divided(rest, 10**digits)
            places, power = places + remainder * power, power * 10**digits
    if rest[0].any() or rest[1].any() or (rest[2] >> 31).any():
        return None
    pieces = [pc.cast(pa.array(rest[2] << 32 | rest[3]), pa.string()), ".", _zero_filled(places, scale)]
    return [pc.if_else(pa.array(negative), "-", ""), *pieces] if negative.any() else pieces


def _divided(
    parts: list[npt.NDArray[np.int64]], divisor: int
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64]]:
    """Numbers in parts of 32 bits by a divisor of at most 30 bits: quotients and remainders."""
    quotients: list[npt.NDArray[np.int64]] = []
    remainder = np.zeros(len(parts[0]), np.int64)
    begun = False
    for part in parts:
        if not begun and not part.any():  # most often the highest parts are zero
            quotients.append(part)
            continue
        begun = True
        remainder = remainder << 32 | part
        quotient = remainder // divisor
        remainder = remainder - quotient * divisor
        quotients.append(quotient)
    return quotients, remainder


def _decimal_pieces(unscaled: npt.NDArray[np.int64], scale: int) -> list[Any]:
    """Sign (only where there is a negative one), integer part, point, and all the places."""
    whole, places = np.divmod(np.abs(unscaled), 10**scale)
    pieces: list[Any] = [pc.cast(pa.array(whole), pa.string()), ".", _zero_filled(places, scale)]
    negative = unscaled < 0
    return [pc.if_else(pa.array(negative), "-", ""), *pieces] if negative.any() else pieces


def _zero_filled(numbers: npt.NDArray[np.int64], places: int) -> pa.Array:
    """Numbers as texts of so many digits, with leading zeros."""
    rest, groups = numbers, list[npt.NDArray[np.uint8]]()
    for _ in range(0, places, 4):
        rest, low = np.divmod(rest, 10_000)
        groups.insert(0, _FOUR[low])
    return _fixed_width(np.concatenate(groups, axis=1)[:, -places:])


def _micros(column: pa.Array) -> npt.NDArray[np.int64]:
    """Microseconds since 1970; 0 under a null."""
    return column.cast(pa.timestamp("us")).view(pa.int64()).fill_null(0).to_numpy()


def _times(micros: npt.NDArray[np.int64]) -> pa.Array:
    """ISO 8601 of microseconds since 1970. Digits from tables: Arrow's cast takes twice as long, strftime ten times."""
    days, of_day = np.divmod(micros, DAY_US)
    seconds, fraction = np.divmod(of_day, SECOND_US)
    minutes, second = np.divmod(seconds, 60)
    hour, minute = np.divmod(minutes, 60)
    high, low = np.divmod(fraction, 1_000)
    text = np.empty((len(micros), 27), dtype=np.uint8)
    text[:, 10:] = np.frombuffer(b"T00:00:00.000000Z", dtype=np.uint8)
    text[:, :10] = _dates(days)
    text[:, 11:13], text[:, 14:16], text[:, 17:19] = _TWO[hour], _TWO[minute], _TWO[second]
    text[:, 20:23], text[:, 23:26] = _THREE[high], _THREE[low]
    return _fixed_width(text)


def _dates(days: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Calendar dates of days since 1970, ten characters each. Neighbouring rows mostly share theirs."""
    if not len(days):
        return np.empty((0, 10), dtype=np.uint8)
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    texts = days[starts].astype("datetime64[D]").astype("S10")
    each = np.frombuffer(texts.tobytes(), dtype=np.uint8).reshape(len(starts), 10)
    return np.repeat(each, np.diff(starts, append=len(days)), axis=0)


def _fixed_width(text: npt.NDArray[np.uint8]) -> pa.Array:
    """The rows of a matrix of ASCII as strings."""
    count, width = text.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text)))


def _needs_escape(text: pa.Array) -> bool:
    """Whether any value holds what JSON must write otherwise. Looks at the bytes of all values at once."""
    if not len(text):
        return False
    offsets = np.frombuffer(text.buffers()[1], dtype=np.int32)[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    if data is None:
        return False
    used = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]]
    return bool(np.any((used < 0x20) | (used == _QUOTE) | (used == _BACKSLASH)))


def _enclosed(column: pa.Array, before: str, items: pa.ListArray, after: str) -> pa.Array:
    text = pc.binary_join_element_wise(before, pc.binary_join(items, ","), after, "")
    return pc.if_else(pc.is_valid(column), text, "null")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
