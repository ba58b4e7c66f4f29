"""CEL rules of the CRDs, by the name of the model they stand at.

Every rule also lives in `plan`, except those about a change: there the old spec is known only to the API server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from k2.model import further
from k2.model.mapping.named import FORMATS, names_symbols
from k2_operator.spec import schedules
from k2_operator.spec.layout_rules import LAYOUT_RULES
from k2_operator.spec.resources import MAX_FEED_NAME, NAME_PATTERN, PATTERN_HELP, Source

Rule = Mapping[str, str]

_SOURCES = list(Source.model_fields)
_HAS_SOURCE = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in _SOURCES)


def _rule(rule: str, message: str, path: str = "") -> Rule:
    found = {"rule": rule, "message": message}
    return found | ({"fieldPath": path} if path else {})


def _name(longest: int) -> Sequence[Rule]:
    message = f"metadata.name: not a usable name; expected {PATTERN_HELP[NAME_PATTERN]}, at most {longest} characters"
    return (_rule(f"size(self.metadata.name) <= {longest} && self.metadata.name.matches('{NAME_PATTERN}')", message),)


FEED_NAME = _name(MAX_FEED_NAME)
TABLE_NAME = _name(63)

_SCHEDULE = (
    _rule(
        f"self.schedule.matches('{schedules.PATTERN}')", f"not a cron line; expected {schedules.EXPECTED}", ".schedule"
    ),
)


def _precision(column: str) -> str:
    return f"int({column}.type.split('(')[1].split(',')[0])"


def _scale(column: str) -> str:
    return f"int({column}.type.split(',')[1].split(')')[0].trim())"


# Of a column of the old spec `o` and one of the new spec `n`.
_IS_NOW = "(n.name == o.name || (has(n.was) && n.was == o.name))"
_HOLDS_ALL = (
    "(o.type.replace(' ', '') == n.type.replace(' ', '') || (o.type == 'int' && n.type == 'long') || "
    "(o.type == 'float' && n.type == 'double') || (o.type.startsWith('decimal') && n.type.startsWith('decimal') && "
    f"{_scale('o')} == {_scale('n')} && {_precision('o')} <= {_precision('n')}))"
)
_COLUMNS = (
    _rule(
        f"oldSelf.columns.all(o, self.columns.exists(n, {_IS_NOW}))",
        "a column cannot go by leaving it out: what its rows hold there would be lost; list it again, a new name for it takes `was`",
        ".columns",
    ),
    _rule(
        f"oldSelf.columns.all(o, self.columns.all(n, !{_IS_NOW} || {_HOLDS_ALL}))",
        "a column cannot change its type but to a wider one (int to long, float to double, a decimal to more digits of the "
        "same scale): its values would change; add another column beside it",
        ".columns",
    ),
    _rule(
        "self.columns.all(o, self.columns.all(n, !has(n.was) || n.was != o.name || n.name == o.name))",
        "a column is said to have been another one of the list; expected the name that it had before",
        ".columns",
    ),
)
_COLUMN = (
    _rule(
        f"!(self.name in {sorted(further.RESERVED)}) && "
        + " && ".join(f"!self.name.startsWith('{each}')" for each in further.RESERVED_PREFIXES),
        "is the name of a built-in column, or one that answers use; choose another",
        ".name",
    ),
    _rule(
        "!self.required",
        "a further column cannot be required: rows and writers from before have no value for it; leave it out",
        ".required",
    ),
    _rule(
        f"!self.type.startsWith('decimal') || {_scale('self')} <= {_precision('self')}",
        "more digits behind the point than in all; expected decimal(p, s) with s of at most p",
        ".type",
    ),
)

RULES: Mapping[str, Sequence[Rule]] = {
    "Source": (_rule(f"{_HAS_SOURCE} == 1", f"not one source; expected exactly one of {', '.join(_SOURCES)}"),),
    "Volume": (
        _rule(
            "has(self.claimName) != has(self.configMapName)",
            "not one volume; expected exactly one of claimName, configMapName",
        ),
    ),
    "CsvSource": (
        _rule(
            "has(self.format) != has(self.mapping)",
            "not one description of the files; expected exactly one of format, mapping",
        ),
        *(
            _rule(
                f"!has(self.format) || self.format != '{each}' || has(self.symbol)",
                f"symbol is missing: {each} files do not name it",
            )
            for each in FORMATS
            if not names_symbols(each)
        ),
        _rule(
            "has(self.volume) || (self.uris.all(uri, !uri.startsWith('file:')) "
            "&& (!has(self.mapping) || !self.mapping.startsWith('file:')))",
            "volume is missing: file: URIs are relative to one",
        ),
        _rule(
            "self.uris.all(uri, uri.startsWith('s3://') || uri.startsWith('https://') || uri.startsWith('file:'))",
            "unknown kind of URI; expected s3://, https:// or file:",
            ".uris",
        ),
    ),
    "Topic": (
        _rule("self.partitions >= oldSelf.partitions", "partitions cannot become fewer", ".partitions"),
        _rule(
            "self.partitions == oldSelf.partitions || self.allowReordering",
            "more partitions move symbols to other partitions; set allowReordering: true when the order of a symbol's "
            "events across that moment may be lost",
            ".partitions",
        ),
    ),
    "MarketFeedSpec": (
        _rule(
            "self.exchange == oldSelf.exchange", "exchange cannot change: the topics are named after it", ".exchange"
        ),
        _rule(
            "has(self.assetClass) == has(oldSelf.assetClass) && "
            "(!has(self.assetClass) || self.assetClass == oldSelf.assetClass)",
            "assetClass cannot change: the topics are named after it",
        ),
        _rule(
            "self.sink.replicas <= self.topic.partitions",
            "sink.replicas: too many; expected at most topic.partitions: one more would have nothing to read",
        ),
        _rule(
            "!has(self.sink.autoscaling) || self.sink.autoscaling.maxReplicas <= self.topic.partitions",
            "sink.autoscaling.maxReplicas: too many; expected at most topic.partitions: one more would have nothing to read",
        ),
    ),
    "Autoscaling": (
        _rule("self.minReplicas <= self.maxReplicas", "too many; expected at most maxReplicas", ".minReplicas"),
    ),
    "Compaction": _SCHEDULE,
    "SnapshotExpiry": _SCHEDULE,
    "OrphanRemoval": _SCHEDULE,
    "IcebergTableSpec": (
        _rule("self.identifier == oldSelf.identifier", "identifier cannot change; make another table", ".identifier"),
        _rule("self.schema == oldSelf.schema", "schema cannot change; make another table", ".schema"),
        _rule(
            "self.decimals == oldSelf.decimals",
            "decimals cannot change: Iceberg never changes a scale; make another table and let the feed's stream name it",
            ".decimals",
        ),
        _rule(
            "self.properties.all(name, !name.startsWith('k2.'))",
            "properties that begin with k2. are reserved for K2's own bookkeeping; leave them out",
            ".properties",
        ),
        *_COLUMNS,
        *LAYOUT_RULES,
    ),
    "FurtherColumn": _COLUMN,
}

LISTS: Mapping[str, Mapping[str, Any]] = {
    # Streams by type and conditions by type: a second one of a type is refused, and two writers never replace all.
    "Streams": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["dataType"]},
    "Conditions": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    "Topics": {"x-kubernetes-list-type": "atomic"},
    "Columns": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
}
