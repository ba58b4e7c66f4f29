"""One message as its schema reads it, for a person to look at: whatever its values are, and whatever K2 says of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from k2.model.codec import wire
from k2.model.codec.plan import fastavro_schema


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
        found: Any = fastavro.schemaless_reader(io.BytesIO(payload[wire.HEADER_BYTES :]), fastavro_schema(text), None)
    except Exception:  # noqa: BLE001 - a foreign payload, or a foreign schema, may break in any way: it is not readable
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
