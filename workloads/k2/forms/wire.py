"""What both ends of a connection know: how an Arrow or Parquet answer says what stands beside its rows, and how a stream does.

Pure, and without the service: clients import it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

METADATA = "k2."
"""Prefix of the envelope's members in the metadata of Arrow and Parquet."""

SUBPROTOCOL = "k2.v1"
"""Of the WebSocket /v1/stream."""

CURSOR = b"k2.cursor"
"""Key of the schema's metadata under which an Arrow frame of a stream says where to go on after it."""

_TEXTS = ("_id", "cursor", "next_page")

NORMAL, BAD_MESSAGE, TOO_SLOW, TOO_MANY = 1000, 4400, 4408, 4429
"""Close codes of a stream. Errors have 44xx and 45xx: their HTTP statuses, with a 4 before the last two digits."""


def metadata_of(envelope: Mapping[str, Any]) -> dict[str, str]:
    """The envelope's members as metadata: texts as they are, all else as JSON."""
    return {METADATA + name: value if isinstance(value, str) else json.dumps(value) for name, value in envelope.items()}


def ending_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The envelope's members that a batch's metadata hold: the inverse of `metadata_of`."""
    said = {name.decode(): value.decode() for name, value in (metadata or {}).items()}
    members = {name.removeprefix(METADATA): text for name, text in said.items() if name.startswith(METADATA)}
    return {name: _parsed(name, text) for name, text in members.items()}


def _parsed(name: str, text: str) -> Any:
    """Texts are written as they are, all else as JSON; of digits ids are texts, and all else is a number."""
    if text == "null":
        return None
    if not text or name.endswith(_TEXTS):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
