"""Payloads of a topic to rows of a table: the one way in which the sink, and whoever reads what the sink has yet to, decode.

Evolution goes table, sink, subject, producer: a field that the table has no column for is not dropped, its reader waits
until there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import pyarrow as pa

from k2.lake.columns import alike, extra_columns
from k2.lake.tables import table_decimals
from k2.model.codec.decode import Decoded, decode
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.feed_rules import Prices
from k2.model.rules import broken_rows
from k2.model.topics import DataType

# Values that repeat: as a dictionary they cost four bytes a row and are taken, sorted and written as integers.
_REPEATING = ("symbol", "exchange", "asset_class", "currency", "side")


class PausedError(WorldError):
    """Messages cannot be decoded now, through no fault of theirs: the registry is away or forgot, or the table lacks a column."""


class Writers(Protocol):
    """Whoever knows the writers' schemas of a topic (`k2.lake.schema_ids.SchemaIds`)."""

    def schema(self, schema_id: int) -> str | None:
        """The Avro schema (JSON) of an id; None when nobody knows it. A `WorldError` when that cannot be told now."""
        ...

    def settle(self, unknown: Collection[int]) -> bool:
        """Whether to ask for these ids once more; False: their messages are bad. A `WorldError` when they must wait."""
        ...


class PayloadDecoder:
    """Payloads to rows of the table's decimals, with the columns that it has beside the built-in ones.

    What breaks a rule of `k2.model.rules` is bad, and so is an amount that the table cannot hold.

    Args:
        topic, table: their names, for messages.
        data_type: the events that are expected.
        writers: see `Writers`.
        load: the table as it is now.
        prices: which prices the topic's feed has.
    """

    def __init__(
        self,
        topic: str,
        table: str,
        data_type: DataType,
        writers: Writers,
        load: Callable[[], Any],
        prices: Prices = Prices.POSITIVE,
    ) -> None:
        self._topic, self._table, self._data_type, self._prices = topic, table, data_type, prices
        self._writers, self._load = writers, load
        self._decimals, self._extra = self._of_table()

    @property
    def decimals(self) -> Decimals:
        """Which decimals the table has, and the rows."""
        return self._decimals

    def __call__(self, payloads: Sequence[bytes | None]) -> Decoded:
        """Decode; when it raises a `PausedError` nothing is lost: call it again later."""
        decoded = self._decode(payloads)
        # A value that a column cannot hold may be one that it holds by now: it was widened.
        if not decoded.unknown_fields and not (decoded.bad and self._extra):
            return decoded
        before = self._extra
        self._decimals, self._extra = self._of_table()
        if decoded.unknown_fields or _differ(before, self._extra):
            decoded = self._decode(payloads)
        if decoded.unknown_fields:
            names = ", ".join(sorted(decoded.unknown_fields))
            raise PausedError(
                f"Messages of {self._topic} carry fields that {self._table} has no column for: {names}. "
                "They are not dropped: the sink waits. Add the columns to the IcebergTable (spec.columns)"
            )
        return decoded

    def _of_table(self) -> tuple[Decimals, tuple[pa.Field, ...]]:
        table = self._load()
        return table_decimals(table.schema(), self._data_type), extra_columns(table, self._data_type)

    def _decode(self, payloads: Sequence[bytes | None]) -> Decoded:
        try:
            decoded = decode(payloads, self._data_type, self._writers.schema, self._extra, self._decimals)
            while decoded.unknown_ids and self._writers.settle(decoded.unknown_ids):
                decoded = decode(payloads, self._data_type, self._writers.schema, self._extra, self._decimals)
        except PausedError:
            raise
        except WorldError as error:
            raise PausedError(str(error)) from error
        return decoded.without(broken_rows(decoded.events, self._data_type, self._prices))


def _differ(before: Sequence[pa.Field], now: Sequence[pa.Field]) -> bool:
    pairs = zip(before, now, strict=False)
    return len(before) != len(now) or not all(one.equals(other, check_metadata=True) for one, other in pairs)


def compact(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with values that repeat as dictionaries."""
    for name in _REPEATING:
        index = rows.schema.get_field_index(name)
        if index >= 0 and not pa.types.is_dictionary(rows.schema.field(index).type):
            encoded = rows.column(index).dictionary_encode()
            rows = rows.set_column(index, pa.field(name, encoded.type, rows.schema.field(index).nullable), encoded)
    return rows


def in_one_piece(chunks: list[pa.RecordBatch]) -> pa.Table:
    """The rows of all chunks, one chunk a column. Empties the list: each column is given up as soon as it is copied."""
    rows = _joined(chunks)
    chunks.clear()
    schema, columns, whole = rows.schema, rows.columns, list[pa.Array | pa.ChunkedArray]()
    del rows
    while columns:
        column = columns.pop(0)
        whole.append((column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column).combine_chunks())
    return pa.Table.from_arrays(whole, schema=schema)


def _joined(chunks: list[pa.RecordBatch]) -> pa.Table:
    # Chunks differ when the table's columns were edited while they were read.
    tables = alike([pa.Table.from_batches([chunk]) for chunk in chunks])
    return pa.concat_tables(tables, promote_options="default")
