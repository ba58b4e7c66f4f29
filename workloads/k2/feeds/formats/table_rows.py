"""Rows of files of columns as the same columns of text that lines of CSV give: whatever reads one reads the other.

Values are encoded first and turned into text once each. Times, dates and clocks that are typed are handed on as they are besides
(`Rows.typed`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from k2.feeds.formats.csv_blocks import Rows
from k2.feeds.formats.tables import RowBlock
from k2.model.compute import pc


def header_of(names: Sequence[str]) -> bytes:
    """The names as the first line of a CSV."""
    return _line(names)


def table_rows(block: RowBlock, names: Sequence[str], plain: Collection[str], joint: str) -> Rows:
    """A block as columns of text.

    Args:
        block: the rows.
        names: what the block's columns are called.
        plain: columns that come as plain texts, because nearly every value is another one; the rest are encoded.
        joint: what stands between the items of a list.
    """
    columns: dict[str, pa.Array] = {}
    typed: dict[str, pa.Array] = {}
    for name, values in zip(names, block.data.columns, strict=True):
        # What 64 bits of an unsigned number say more is a mark of absence: those are read as text.
        counts = name in plain and pa.types.is_integer(values.type) and not pa.types.is_uint64(values.type)
        if pa.types.is_temporal(values.type) or counts:
            typed[name] = values
        texts = _texts(values, joint) if name in plain else _encoded(values, joint)
        columns[name] = texts
    lines = np.arange(block.start + 1, block.end + 1, dtype=np.int64)
    return Rows(columns, lines, [], 0, _Records(block), typed=typed)


class _Records:
    """The rows of a block as lines of CSV, for rows that are rejected."""

    def __init__(self, block: RowBlock) -> None:
        self._block = block

    def raw(self, line: int) -> bytes:
        """A row's values, by its number in the file (from 1)."""
        row = self._block.data.slice(line - 1 - self._block.start, 1)
        return _line([_texts(column, ";")[0].as_py() for column in row.columns])


def _line(values: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue().encode()


def _encoded(values: pa.Array, joint: str) -> pa.DictionaryArray:
    """Texts by their distinct ones; null is the empty text."""
    if not isinstance(values, pa.DictionaryArray):
        nested = pa.types.is_nested(values.type)
        values = (_texts(values, joint) if nested else values).dictionary_encode()
    distinct = _texts(values.dictionary, joint)
    indices = values.indices.cast(pa.int32())
    if indices.null_count:
        indices = pc.fill_null(indices, len(distinct))
        distinct = pa.concat_arrays([distinct, pa.array([""])])
    return pa.DictionaryArray.from_arrays(indices, distinct)


def _texts(values: pa.Array, joint: str) -> pa.StringArray:
    """Each value as the text that a CSV would have of it; null is the empty text."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    kind: Any = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        items = values.cast(pa.list_(pa.string()))
        return pc.fill_null(pc.binary_join(items, joint), "")
    texts = pc.fill_null(values.cast(pa.string()), "")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _written_out(texts, floating=pa.types.is_floating(kind))
    return texts


def _written_out(texts: pa.StringArray, *, floating: bool) -> pa.StringArray:
    """Numbers without an exponent, and floating ones with a point: 31.0 is a price of 31, and no count of 31 units."""
    exponent = pc.match_substring(texts, "e" if floating else "E")
    if exponent.true_count:
        # A loop over numbers that Arrow writes with an exponent: the very large and the very small.
        plain = [
            f"{Decimal(text):f}" if odd else text
            for text, odd in zip(texts.to_pylist(), exponent.to_pylist(), strict=True)
        ]
        texts = pa.array(plain, pa.string())
    if not floating:
        return texts
    whole = pc.match_substring_regex(texts, "^-?[0-9]+$")
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
