"""The parts of charts/k2/values.schema.json that the code decides: platform.yaml and the query service's configuration."""

from __future__ import annotations

from typing import Any

from k2.model.platform import Platform
from k2.model.workload import QueryConfig

# The chart decides these two itself: where the pod listens and where the Secret is mounted.
CHOSEN_BY_THE_CHART = ("host", "api_keys_file")


def definitions() -> dict[str, Any]:
    """`definitions` of the schema, from the models that read the rendered files."""
    found: dict[str, Any] = {}
    for model in (Platform, QueryConfig):
        schema = model.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    for name in CHOSEN_BY_THE_CHART:
        del found["QueryConfig"]["properties"][name]
    return {name: _plain(schema) for name, schema in sorted(found.items())}


def _plain(schema: Any) -> Any:
    """Without what Helm's validator has no use for (titles, defaults)."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _plain(value) for key, value in schema.items() if key not in ("title", "default")}
    # A property may itself be called title or default.
    if isinstance(schema.get("properties"), dict):
        kept["properties"] = {key: _plain(value) for key, value in schema["properties"].items()}
    return kept
