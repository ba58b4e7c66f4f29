"""JSON schemas for kubeconform, made offline: Kubernetes' own from its OpenAPI document, all others from CustomResourceDefinitions.

Strict: a field that the API does not know is an error, as it is with `kubectl apply --validate=strict`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_REF = "#/definitions/"


def write_builtin(swagger: Path, target: Path) -> None:
    """One file for each kind of Kubernetes itself, with the definitions that it needs."""
    definitions = {name: _strict(schema) for name, schema in json.loads(swagger.read_text())["definitions"].items()}
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    for name, schema in definitions.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            file = target / f"{gvk['kind'].lower()}-{gvk['group'] or gvk['version']}-{gvk['version']}.json"
            needed = _reachable(name, definitions)
            file.write_text(json.dumps({"$ref": _REF + name, "definitions": needed}))


def write_custom(definition: dict[str, Any], target: Path) -> None:
    """One file for each version of a CustomResourceDefinition."""
    spec = definition["spec"]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        schema.setdefault("properties", {}).update(
            apiVersion={"type": "string"}, kind={"type": "string"}, metadata={"type": "object"}
        )
        schema["additionalProperties"] = False
        file = target / f"{spec['names']['kind'].lower()}-{spec['group']}-{version['name']}.json"
        file.write_text(json.dumps(schema))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key not in ("description", "format", "default")}
    properties = schema.get("properties")
    if isinstance(properties, dict):
        made["properties"] = {key: _strict(value) for key, value in properties.items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    elif schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    return made


def _reachable(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found[current] = definitions[current]
            waiting += _references(definitions[current])
    return found


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].removeprefix(_REF)] if isinstance(schema.get("$ref"), str) else []
    return own + [name for value in schema.values() for name in _references(value)]
