"""How many bytes each record of a batch takes in Avro, computed from its columns.

This is what makes joining messages safe. The encoder cuts the records of a block apart by these lengths. The decoder
compares them with the lengths of the messages it joined: a record that ran over its message's end, or stopped short of
it, shows, even when the errors of two neighbours cancel out.

The lengths are those of the canonical encoding, which all known writers use: shortest varints, minimal decimals, arrays
and maps as one block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Lengths = npt.NDArray[np.int64]
_UUID_BYTES = 37  # its length as varint, then 36 characters
_FLOATS = {"boolean": 1, "float": 4, "double": 8}


class UnknownLengthError(Exception):
    """A type whose encoded length cannot be told from its Arrow column."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an Avro record as far as lengths go.

    `type` is Avro's, with `uuid`, `decimal` and `decimal_fixed` in place of what carries them, or `other`; `size` is that
    of a fixed; `logical` is the logical type that is written beside it.
    """

    name: str
    type: str
    nullable: bool = False
    size: int = 0
    items: str = ""
    logical: str = ""


def fields_of(schema: dict[str, Any]) -> list[Field]:
    """The fields of a record's schema; a type that is named is known by its name behind the place that defines it."""
    named = _Named(str(schema.get("namespace", "")))
    return [_field(field["name"], field["type"], named) for field in schema["fields"]]


class _Named:
    """Enums and fixeds that a schema has defined, by every name that they can be called by in it."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._types: dict[str, Any] = {}

    def define(self, avro: dict[str, Any]) -> None:
        """Take in a definition."""
        name = str(avro.get("name", ""))
        namespace = str(avro.get("namespace", self._namespace))
        self._types[name if "." in name or not namespace else f"{namespace}.{name}"] = avro

    def find(self, name: str) -> Any:
        """What a name stands for; None for a primitive type, and for what was not defined."""
        return self._types.get(name) or self._types.get(f"{self._namespace}.{name}")


def record_lengths(columns: dict[str, pa.Array], fields: list[Field], count: int) -> Lengths:
    """Encoded length of each of `count` records.

    Raises:
        UnknownLengthError: a field's type is not one that this module knows.
    """
    constant = 0
    total = np.zeros(count, np.int64)
    for field in fields:
        array = columns[field.name]
        if field.nullable:
            constant += 1  # the union's branch
            if array.null_count == count:
                continue
        each = _lengths(array, field)
        if array.null_count:
            each = np.where(np.asarray(array.is_valid()), each, 0)
        if isinstance(each, int):
            constant += each
        else:
            total += each
    total += constant
    return total


def unscaled(array: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Low and high 64 bits of a decimal128 column's unscaled values (little-endian machines only, as Arrow's Python is)."""
    words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return words[0::2], words[1::2]


def _field(name: str, avro: Any, named: _Named) -> Field:
    if isinstance(avro, list):
        branches = [branch for branch in avro if branch != "null"]
        if len(branches) == 1 and len(avro) == 2:
            return replace(_field(name, branches[0], named), nullable=True)
        return Field(name, "other")
    if isinstance(avro, str):
        known = named.find(avro)
        return Field(name, avro) if known is None else _field(name, known, named)
    kind, logical = avro["type"], avro.get("logicalType")
    if not isinstance(kind, str):
        return _field(name, kind, named)
    if kind in {"enum", "fixed"}:
        named.define(avro)
    if logical == "uuid" and kind == "string":
        return Field(name, "uuid")
    if logical == "decimal" and kind == "bytes":
        return Field(name, "decimal")
    if kind == "fixed":
        return Field(name, "decimal_fixed" if logical == "decimal" else "fixed", size=int(avro["size"]))
    if kind in {"array", "map"}:
        item = _field("", avro["items" if kind == "array" else "values"], named)
        return Field(name, kind, items="other" if item.nullable else item.type)
    return Field(name, kind, logical=str(logical or ""))


def _lengths(array: pa.Array, field: Field) -> int | Lengths:
    match field.type:
        case "uuid":
            return _UUID_BYTES
        case "fixed" | "decimal_fixed":
            return field.size
        case "enum":
            return _varint_lengths(_integers(array.indices if pa.types.is_dictionary(array.type) else array))
        case "boolean" | "float" | "double":
            return _FLOATS[field.type]
        case "int" | "long":
            return _varint_lengths(_integers(array))
        case "string" | "bytes":
            return _with_prefix(np.diff(_offsets(array)))
        case "decimal":
            return _decimal_lengths(array)
        case "array":
            items = array.values
            return _block_lengths(_offsets(array), [_item_sums(items, field.items, _offsets(array))])
        case "map":
            offsets = _offsets(array)
            keys = _item_sums(array.keys, "string", offsets)
            return _block_lengths(offsets, [keys, _item_sums(array.items, field.items, offsets)])
        case _:
            raise UnknownLengthError(f"{field.name}: {field.type}")


def _integers(array: pa.Array) -> npt.NDArray[np.int64]:
    """An integer, date or timestamp column's raw values; what stands in null places is anything."""
    width = {32: np.int32, 64: np.int64}.get(array.type.bit_width)
    if width is None:
        raise UnknownLengthError(str(array.type))
    found = np.frombuffer(array.buffers()[1], width)[array.offset : array.offset + len(array)]
    return found.astype(np.int64, copy=False)


def _offsets(array: pa.Array) -> npt.NDArray[np.int64]:
    """Offsets of a variable-length column, one more than it has rows."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    if not large and not (
        pa.types.is_string(array.type)
        or pa.types.is_binary(array.type)
        or pa.types.is_list(array.type)
        or pa.types.is_map(array.type)
    ):
        raise UnknownLengthError(str(array.type))
    raw = np.frombuffer(array.buffers()[1], np.int64 if large else np.int32)
    return raw[array.offset : array.offset + len(array) + 1].astype(np.int64, copy=False)


def _zigzag_lengths(zigzag: npt.NDArray[np.uint64]) -> int | Lengths:
    """Bytes of varints. Most columns have one length for all rows, which a minimum and a maximum tell."""
    if not len(zigzag):
        return 1
    low, high = (max(1, -(-int(end).bit_length() // 7)) for end in (zigzag.min(), zigzag.max()))
    if low == high:
        return low
    out = np.full(len(zigzag), low, np.int64)
    for length in range(low, high):
        out += zigzag >= np.uint64(1 << (7 * length))
    return out


def _varint_lengths(values: npt.NDArray[np.int64]) -> int | Lengths:
    return _zigzag_lengths(((values << 1) ^ (values >> 63)).view(np.uint64))


def _with_prefix(sizes: npt.NDArray[np.int64]) -> Lengths:
    """Sizes of byte strings, with the varints before them."""
    return sizes + _varint_lengths(sizes)


def _decimal_lengths(array: pa.Array) -> int | Lengths:
    """Minimal two's complement bytes and their varint."""
    if array.type.bit_width != 128:
        raise UnknownLengthError("a decimal of more than 38 digits")
    low, high = unscaled(array)
    if not len(low):
        return 0
    sign = low >> 63
    if np.array_equal(high, sign):  # 64 bits hold them all
        return 1 + _minimal_bytes((low ^ sign).view(np.uint64))
    sign = high >> 63
    low, high = (low ^ sign).view(np.uint64), (high ^ sign).view(np.uint64)
    # Where there is a high word the low one takes its eight bytes and the first bit of a ninth.
    low = np.where(high != 0, np.uint64(2**64 - 1), low)
    return _minimal_bytes(low) + _minimal_bytes(high)


def _minimal_bytes(magnitude: npt.NDArray[np.uint64]) -> int | Lengths:
    """Bytes of each magnitude with a bit more for the sign; most columns have few different ones."""
    first, last = (int(end).bit_length() // 8 + 1 for end in (magnitude.min(), magnitude.max()))
    if first == last:
        return first
    out = np.full(len(magnitude), first, np.int64)
    for length in range(first, last):
        out += magnitude >= np.uint64(1 << (8 * length - 1))
    return out


def _item_sums(items: pa.Array, kind: str, offsets: npt.NDArray[np.int64]) -> Lengths:
    """Per row, the bytes of its items; `offsets` are absolute in `items`."""
    start, end = int(offsets[0]), int(offsets[-1])
    each = _lengths(items.slice(start, end - start), Field("item", kind))
    if isinstance(each, int):
        return np.diff(offsets) * each
    sums = np.concatenate((np.zeros(1, np.int64), np.cumsum(each)))
    return np.diff(sums[offsets - start])


def _block_lengths(offsets: npt.NDArray[np.int64], parts: list[Lengths]) -> Lengths:
    """An array or map: its count, the items, and a zero; an empty one is the zero alone."""
    counts = np.diff(offsets)
    return np.where(counts == 0, 1, sum(parts) + _varint_lengths(counts) + 1)
