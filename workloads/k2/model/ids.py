r"""Message ids: UUIDv5 of the source event, so that the same event has the same id wherever and whenever it is read.

The name that is hashed is the fields joined by `\x1f`: data type, exchange, symbol, then either the source's own id,
or the canonical row and n, the number of identical rows before it in its trading date. An id that is unique within a day has
`civil_day=YYYY-MM-DD` before it, one of a number space with a name has `id_space=…` before that, and one that is unique within
the venue has an empty symbol (`scoped`).
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.compute import pc
from k2.model.id_scopes import IdRule
from k2.model.topics import DataType

NAMESPACE = uuid.UUID("8f0e9a52-6c1d-5b7e-9d43-2b6a1f0c7e11")
SEPARATOR = "\x1f"
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def message_id(
    data_type: DataType, exchange: str, symbol: str, source_id: str, occurrence: int | None = None
) -> uuid.UUID:
    """The id of one event; `message_ids` gives the same for columns.

    Args:
        data_type: what kind of event it is.
        exchange: the exchange's code, upper case.
        symbol: the instrument's symbol.
        source_id: the source's own id, or the canonical row where it has none.
        occurrence: for canonical rows, how many identical rows of the same trading date came before; else None.
    """
    fields = [str(data_type), exchange, symbol, source_id]
    if occurrence is not None:
        fields.append(str(occurrence))
    return uuid.uuid5(NAMESPACE, SEPARATOR.join(fields))


def message_ids(
    data_type: DataType,
    exchange: str,
    symbols: pa.StringArray | str,
    source_ids: pa.StringArray,
    occurrences: npt.NDArray[np.int64] | None = None,
) -> pa.FixedSizeBinaryArray:
    """Ids of a column of events: `uuid.uuid5` of the same names, about 0.5 µs a row.

    Args:
        data_type: what kind of events they are.
        exchange: the exchange's code, upper case.
        symbols: one symbol for all rows, or one each (no nulls).
        source_ids: the source's own ids, or canonical rows (no nulls).
        occurrences: n of each canonical row; None when `source_ids` are ids of the source's own.

    Returns:
        As many 16-byte ids as there are rows.
    """
    prefix = str(data_type) + SEPARATOR + exchange + SEPARATOR
    parts: list[Any] = [source_ids]
    if isinstance(symbols, str):
        prefix += symbols + SEPARATOR
    else:
        parts.insert(0, symbols)
    if occurrences is not None:
        parts.append(pa.array(occurrences).cast(pa.string()))
    names = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, SEPARATOR)
    return _hashed(hashlib.sha1(NAMESPACE.bytes + prefix.encode(), usedforsecurity=False), names)


def scoped(
    rule: IdRule, symbols: pa.StringArray | str, source_ids: pa.StringArray, days: pa.StringArray | None
) -> tuple[pa.StringArray | str, pa.StringArray]:
    """Symbols and ids of the source's own as `message_ids` takes them, for ids of that rule.

    Args:
        rule: what the ids are unique within.
        symbols: one symbol for all rows, or one each.
        source_ids: the source's own ids.
        days: each row's day as YYYY-MM-DD, where the scope is by day.

    Returns:
        What was given for `IdRule()`. Else the symbol is empty, which no event's is, or `id_space=…` and `civil_day=…` stand
        before the id: the first field of a canonical row is a number, so none is such a name.
    """
    if rule.scope.is_by_day:
        source_ids = pc.binary_join_element_wise(
            pc.binary_join_element_wise("civil_day=", days, ""), source_ids, SEPARATOR
        )
    if rule.space:
        source_ids = pc.binary_join_element_wise(f"id_space={rule.space}", source_ids, SEPARATOR)
    return (symbols if rule.scope.is_by_symbol else ""), source_ids


def hex_ids(ids: pa.FixedSizeBinaryArray, digits: int = 16) -> pa.StringArray:
    """The first hexadecimal digits (an even number of them) of each id, as text: the trade id of a row without one."""
    count, width = len(ids), digits // 2
    raw = id_bytes(ids)[:, :width]
    text = np.empty((count, digits), dtype=np.uint8)
    text[:, 0::2] = _HEX[raw >> 4]
    text[:, 1::2] = _HEX[raw & 15]
    offsets = np.arange(0, (count + 1) * digits, digits, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def id_bytes(ids: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint8]:
    """The ids as a (rows, 16) matrix of bytes, without a copy."""
    buffer = ids.buffers()[1]
    if len(ids) == 0 or buffer is None:
        return np.empty((0, 16), dtype=np.uint8)
    flat = np.frombuffer(buffer, dtype=np.uint8)
    return flat[ids.offset * 16 : (ids.offset + len(ids)) * 16].reshape(-1, 16)


def id_keys(ids: pa.FixedSizeBinaryArray) -> npt.NDArray[np.uint64]:
    """A 64-bit key of each id (both halves folded), for counting and for indexes."""
    halves = np.ascontiguousarray(id_bytes(ids)).view(np.uint64)
    return halves[:, 0] ^ halves[:, 1]


def _hashed(prefix: Any, names: pa.StringArray) -> pa.FixedSizeBinaryArray:
    count = len(names)
    data = names.buffers()[2]
    blob = data.to_pybytes() if data is not None else b""
    offsets = np.frombuffer(names.buffers()[1], dtype=np.int32)[names.offset : names.offset + count + 1].tolist()
    copy = prefix.copy
    digests: list[bytes] = []
    append = digests.append
    start = offsets[0]
    # One call of SHA-1 a row: the loop around it is as tight as Python allows (0.35 µs); numpy has no faster SHA-1.
    for end in offsets[1:]:
        hasher = copy()
        hasher.update(blob[start:end])
        append(hasher.digest())
        start = end
    matrix = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(count, 20)[:, :16].copy()
    matrix[:, 6] = (matrix[:, 6] & 0x0F) | 0x50
    matrix[:, 8] = (matrix[:, 8] & 0x3F) | 0x80
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(matrix.tobytes())])
