"""One message as its schema reads it, for a person to look at: whatever its values are, and whatever K2 says of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from k2.model.codec import wire

_ALL_DIGITS = 10_000
"""More digits than a person looks at."""


def schema_id_of(payload: bytes) -> int | None:
    """The registry's id of the schema that a payload names; None when it is not framed as Confluent's serializers do."""
    if len(payload) < wire.HEADER_BYTES or payload[0] != 0:
        return None
    return int.from_bytes(payload[1 : wire.HEADER_BYTES], "big")


def read_record(payload: bytes, schema_of: Callable[[int], str | None]) -> dict[str, Any] | None:
    """The fields of a payload by the schema that it names; None where it cannot be read as a record.

    Raises:
        WorldError: `schema_of` could not ask the registry.
    """
    import fastavro

    schema_id = schema_id_of(payload)
    text = None if schema_id is None else schema_of(schema_id)
    if text is None:
        return None
    try:
        found: Any = fastavro.schemaless_reader(io.BytesIO(payload[wire.HEADER_BYTES :]), _schema(text), None)
    except Exception:  # noqa: BLE001 - a foreign payload, or a foreign schema, may break in any way: it is not readable
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


@lru_cache(maxsize=256)
def _schema(text: str) -> Any:
    import fastavro

    return fastavro.parse_schema(_unrounded(json.loads(text)))


def _unrounded(avro: Any) -> Any:
    """The schema with room for all digits: a decimal is rounded to its precision, and what is a dead letter for it has more."""
    if isinstance(avro, list):
        return [_unrounded(each) for each in cast("list[Any]", avro)]
    if not isinstance(avro, dict):
        return avro
    node = {name: _unrounded(each) for name, each in cast("dict[str, Any]", avro).items()}
    is_amount = node.get("logicalType") == "decimal" and node.get("type") == "bytes"
    return node | {"precision": _ALL_DIGITS} if is_amount else node
