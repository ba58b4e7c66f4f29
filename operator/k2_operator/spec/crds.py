"""The CustomResourceDefinitions, from the models that `validate` parses: `make crds` writes them into the chart.

Pure: models in, manifests out. What the API server can say about a resource by itself it says here (structure, defaults,
enums, CEL rules); what needs other resources is a condition later.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from k2_operator.spec import crd_rules
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.resources import GROUP, VERSION, IcebergTableSpec, MarketFeedSpec
from k2_operator.spec.statuses import IcebergTableStatus, MarketFeedStatus

CHART = Path("charts") / "k2" / "templates" / "crds"


class _Plain(yaml.SafeDumper):
    """Without YAML's aliases: a reader of a CRD does not follow `*id001`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out where it stands."""
        del data
        return True


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False, doc: str = "") -> dict[str, Any]:
    column: dict[str, Any] = {"name": str(name), "type": kind, "jsonPath": path}
    if doc:
        column["description"] = doc
    return column | ({"priority": 1} if wide else {})


def _condition(kind: ConditionType, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


def _truth(kind: ConditionType) -> dict[str, Any]:
    return _column(kind, _condition(kind, "status"), doc=f"Whether {kind.means}.")


_READY = _truth(ConditionType.READY)
_REASON = _column("Reason", _condition(ConditionType.READY, "reason"), wide=True)
_AGE = _column("Age", ".metadata.creationTimestamp", "date")

_DEGRADED = _column(
    ConditionType.DEGRADED,
    _condition(ConditionType.DEGRADED, "reason"),
    wide=True,
    doc=f"Whether {ConditionType.DEGRADED.means}, and what; {Reason.AS_EXPECTED}: nothing.",
)
_COMPACTED = _truth(ConditionType.COMPACTED)

_FEED_COLUMNS = (
    _column("Exchange", ".spec.exchange"),
    _column("Streams", ".status.streams"),
    _READY,
    _column("Rate", ".status.rate", "integer", doc="Messages a second into the topics."),
    _column("Lag", ".status.lag", "integer", doc="Messages that are not in the tables yet."),
    _column("Freshness", ".status.lastEventTime", "date", doc="Age of the newest event in the tables."),
    _column(
        "Gaps",
        ".status.gaps",
        "integer",
        doc="Trades that are missing now; of a feed without an account of gaps, times that its sequence jumped ahead.",
    ),
    _AGE,
    _REASON,
    _DEGRADED,
    _column(
        "DeadLetters", ".status.deadLetters", "integer", wide=True, doc="Messages that could not be used, of all time."
    ),
)
_TABLE_COLUMNS = (
    _column("Identifier", ".spec.identifier"),
    _column("Schema", ".spec.schema"),
    _READY,
    _COMPACTED,
    _column("Rows", ".status.rows", "integer"),
    _column("Committed", ".status.lastCommitTime", "date", doc="Age of the newest snapshot."),
    _AGE,
    _REASON,
    _column("Bytes", ".status.bytes", "integer", wide=True, doc="Size of the data files."),
    _column("Files", ".status.files", "integer", wide=True, doc="Number of data files."),
)


def market_feed() -> dict[str, Any]:
    """The CustomResourceDefinition of MarketFeed."""
    return _definition(
        ("MarketFeed", "marketfeeds", "mf"),
        (MarketFeedSpec, MarketFeedStatus),
        _FEED_COLUMNS,
        crd_rules.FEED_NAME,
        {
            "status": {},
            "scale": {"specReplicasPath": ".spec.sink.replicas", "statusReplicasPath": ".status.sinkReplicas"},
        },
    )


def iceberg_table() -> dict[str, Any]:
    """The CustomResourceDefinition of IcebergTable."""
    return _definition(
        ("IcebergTable", "icebergtables", "it"),
        (IcebergTableSpec, IcebergTableStatus),
        _TABLE_COLUMNS,
        crd_rules.TABLE_NAME,
        {"status": {}},
    )


def definitions() -> dict[str, dict[str, Any]]:
    """Every definition, by the name of its file."""
    return {"marketfeeds": market_feed(), "icebergtables": iceberg_table()}


def as_template(definition: Mapping[str, Any]) -> str:
    """A definition as a file of the chart. Helm never upgrades its `crds/` folder, so these are templates that it keeps."""
    text = yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)
    note = "{{- /* Written by `make crds` from operator/k2_operator/spec/resources.py; change that. */ -}}"
    return f"{note}\n{{{{- if .Values.crds.install }}}}\n{text}{{{{- end }}}}\n"


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model as a structural schema of Kubernetes: nothing by reference, null left out, unknown fields refused."""
    schema = model.model_json_schema(by_alias=True)
    return _node(schema, schema.get("$defs", {}), {})


def _definition(
    names: tuple[str, str, str],
    models: tuple[type[BaseModel], type[BaseModel]],
    columns: Sequence[Mapping[str, Any]],
    name_rules: Sequence[Mapping[str, str]],
    subresources: Mapping[str, Any],
) -> dict[str, Any]:
    kind, plural, short = names
    spec, status = models
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "k2"},
            # Without it, uninstalling the chart deletes every resource of this kind.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["k2"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": dict(subresources),
                    "additionalPrinterColumns": [dict(column) for column in columns],
                    "schema": {"openAPIV3Schema": _root(kind, spec, status, name_rules)},
                }
            ],
        },
    }


def _root(
    kind: str, spec: type[BaseModel], status: type[BaseModel], name_rules: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    described = f"{kind}: {(spec.__doc__ or '').strip()}"
    return {
        "type": "object",
        "description": described,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": structural(spec),
            "status": structural(status),
        },
        "x-kubernetes-validations": [dict(rule) for rule in name_rules],
    }


def _node(schema: Mapping[str, Any], defs: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[str, Any]:
    """One place of a JSON schema in Kubernetes' words. `outer` holds what stands beside a reference."""
    if "$ref" in schema:
        return _node(defs[schema["$ref"].rsplit("/", 1)[1]], defs, {**schema, **outer})
    if "anyOf" in schema:
        inner = next(each for each in schema["anyOf"] if each.get("type") != "null")
        return _node(inner, defs, {**schema, **outer})
    if "oneOf" in schema:
        # Of several forms a structural schema can say none: what is written there is looked at by the plan.
        return {"description": schema["description"], "x-kubernetes-preserve-unknown-fields": True}
    built: dict[str, Any] = {"type": schema.get("type", "string")}
    description = outer.get("description", schema.get("description"))
    if description:
        built["description"] = description
    built |= _limits(schema)
    if built["type"] == "array":
        built["items"] = _node(schema["items"], defs, {})
    if built["type"] == "object":
        built |= _fields(schema, defs)
    if built["type"] == "array":
        built |= crd_rules.LISTS.get(str(schema.get("title", outer.get("title"))), {})
    if (default := {**schema, **outer}.get("default")) is not None:
        built["default"] = _defaults(built) if built["type"] == "object" else default
    # A field is titled after itself, so only an object's title is a model's name.
    rules = crd_rules.RULES.get(str(schema.get("title"))) if built["type"] == "object" else None
    return built | ({"x-kubernetes-validations": [dict(rule) for rule in rules]} if rules else {})


def _defaults(node: Mapping[str, Any]) -> dict[str, Any]:
    """The default of an object written out: rules are checked on it before its fields' own defaults are filled in."""
    return {name: each["default"] for name, each in node.get("properties", {}).items() if "default" in each}


def _fields(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> dict[str, Any]:
    if "propertyNames" in schema and "enum" in schema["propertyNames"]:  # a mapping with known keys
        value = schema["additionalProperties"]
        return {
            "properties": {
                key: _node(value, defs, {"description": f"Of {key}."}) for key in schema["propertyNames"]["enum"]
            }
        }
    if isinstance(extra := schema.get("additionalProperties"), Mapping):
        limits = {"maxProperties": schema["maxProperties"]} if "maxProperties" in schema else {}
        return limits | {"additionalProperties": _node({"maxLength": 4096, **extra}, defs, {})}
    properties = {name: _node(each, defs, {}) for name, each in schema.get("properties", {}).items()}
    built: dict[str, Any] = {"properties": properties} if properties else {}
    if schema.get("required"):
        built["required"] = list(schema["required"])
    return built


def _limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("enum", "format", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum", "pattern")
    found = {key: schema[key] for key in kept if key in schema}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    if schema.get("type") == "integer":
        found.setdefault("format", "int64")
    if schema.get("type") == "string" and "pattern" in found:
        # Patterns without a bound of their own are short texts (durations, sizes); CEL needs to know how long.
        found.setdefault("maxLength", 64)
    return found


def write(folder: Path) -> list[Path]:
    """Write the chart's files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, definition in definitions().items():
        path = folder / f"{name}.yaml"
        path.write_text(as_template(definition))
        paths.append(path)
    return paths


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
