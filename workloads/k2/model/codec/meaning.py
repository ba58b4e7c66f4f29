"""What of a writer's schema decides how its messages are read: two schemas that agree in it mean the same bytes.

Registries give a schema back as it was registered, or in another order, or without its descriptions; a reader cannot tell
the difference from the messages.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, cast

# Defaults and other names of a field are for the schema of a reader; K2 has its own.
_READ = (
    "type",
    "name",
    "namespace",
    "logicalType",
    "precision",
    "scale",
    "size",
    "symbols",
    "items",
    "values",
    "fields",
)


@lru_cache(maxsize=256)
def meaning(schema_text: str) -> str:
    """An Avro schema (JSON) without what no reader of its messages looks at, in one form: compact, and a schema itself.

    Raises:
        ValueError: it is no JSON.
    """
    return json.dumps(_bare(json.loads(schema_text)), separators=(",", ":"))


def mean_the_same(one: str, other: str) -> bool:
    """Whether messages are read alike by both schemas. One that is no JSON is like itself alone."""
    try:
        return one == other or meaning(one) == meaning(other)
    except ValueError:
        return False


def _bare(avro: Any) -> Any:
    if isinstance(avro, list):
        return [_bare(each) for each in cast("list[Any]", avro)]
    if not isinstance(avro, dict):
        return avro
    node = {name: _bare(avro[name]) for name in _READ if name in avro}
    return node["type"] if list(node) == ["type"] else node
