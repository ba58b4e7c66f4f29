"""Messages of somebody else's producer: trades with further fields, encoded by fastavro under a schema of its own."""

from __future__ import annotations

import io
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fastavro

from k2.model.codec import wire
from k2.model.events import avro_schema
from k2.model.topics import DataType
from k2_testing.events import START_US, message_id, trades


@dataclass(frozen=True, slots=True)
class KnownSchemas:
    """Writers' schemas by id, for a decoder; an id that it lacks nobody knows."""

    texts: Mapping[int, str]

    def schema(self, schema_id: int) -> str | None:
        """The schema of an id."""
        return self.texts.get(schema_id)

    def settle(self, unknown: Collection[int]) -> bool:
        """Messages of these ids are bad."""
        del unknown
        return False


def optional(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    """A field that may be null, which is its default: what BACKWARD compatibility asks of a new one."""
    return {"name": name, "type": ["null", kind], "default": None, **more}


def writer_schema(*fields: Mapping[str, Any]) -> dict[str, Any]:
    """K2's schema of trades with further fields."""
    schema = avro_schema(DataType.TRADES)
    return schema | {"fields": [*schema["fields"], *fields]}


def foreign_trades(
    schema: Mapping[str, Any], schema_id: int, values: Sequence[Mapping[str, Any]], first: int = 0
) -> list[bytes]:
    """Payloads of trades number `first`, `first` + 1, …, each with these values in its further fields."""
    numbers = range(first, first + len(values))
    rows = trades(
        [message_id("foreign", number) for number in numbers],
        symbols=["BHP"] * len(values),
        times=[START_US + number * 1_000_000 for number in numbers],
        trade_ids=[f"F{number}" for number in numbers],
        sequence=list(numbers),
    ).to_pylist(maps_as_pydicts="lossy")
    parsed = fastavro.parse_schema(dict(schema))
    payloads: list[bytes] = []
    for row, further in zip(rows, values, strict=True):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row | {"message_id": uuid.UUID(bytes=row["message_id"])} | further)
        payloads.append(wire.header(schema_id) + out.getvalue())
    return payloads
