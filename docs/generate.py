"""Writes docs/configuration.md from the code (`make docs`); a test compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from k2.api import connections
from k2.api.app import READY_SECONDS
from k2.bus import admin, producer, reachable, registry
from k2.client import remote, remote_replay
from k2.feeds.load import uris
from k2.lake import reachable as lake_reachable
from k2.lake import time_limits
from k2.model.platform import Platform
from k2.model.settings import Settings
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig
from k2.query.engine.store import request_seconds
from k2_operator.kube import client, watch
from k2_operator.process import OperatorSettings

OUTPUT = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Generated from the code by `make docs`; do not edit.

A workload takes addresses from the environment, credentials from files in directories that the environment names
([rotated secrets](kubernetes.md#rotated-secrets)), and what it has to do from the JSON file that `K2_CONFIG_FILE` names (the operator and `k2 up`
write it). A command that a person types takes the former from `platform.yaml` in the data directory, unless the environment says otherwise.
"""
TIME_LIMITS = """## Time limits

Every call that leaves a process has one. Those that are tried again are so with backoff. A silence is a time in which nothing comes.
"""


# What the keys of a section are.
_KEYS = {"exchanges": ".CODE", "calendars": ".NAME", "special": ".DATE"}


def render() -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## Environment\n",
        _table("Variable", [(f"K2_{n.upper()}", f) for n, f in Settings.model_fields.items()]),
        "## Environment of the operator\n",
        _table("Variable", [(f"K2_OPERATOR_{n.upper()}", f) for n, f in OperatorSettings.model_fields.items()]),
    ]
    parts += ["## platform.yaml\n", *_nested(Platform, "")]
    for title, model in (
        ("k2 run producer, k2 run load", ProducerConfig),
        ("k2 run sink", SinkConfig),
        ("k2 run query", QueryConfig),
    ):
        parts += [f"## Configuration file of `{title}`\n", _table("Field", list(model.model_fields.items()))]
    return "\n".join([*parts, *_time_limits()]).rstrip("\n") + "\n"


def _time_limits() -> list[str]:
    """How long each call that leaves a process may take."""
    query = QueryConfig()
    rows: list[tuple[str, str, str]] = [
        (
            "SQLite catalog: a locked file",
            f"{time_limits.ANSWER_SECONDS:g} s; the query service `catalog_seconds`",
            "`timeout=` in the catalog's `uri`",
        ),
        (
            "PostgreSQL catalog: connection, and silence in a statement",
            f"{time_limits.POSTGRESQL_SECONDS:g} s each",
            "",
        ),
        (
            "REST catalog: connection, and silence in an answer",
            f"{time_limits.CONNECT_SECONDS:g} s and {time_limits.ANSWER_SECONDS:g} s; the query service `catalog_seconds`",
            "`k2.answer-seconds` among the catalog's properties",
        ),
        (
            "Object store, by PyIceberg: connection, and silence",
            f"{time_limits.STORE_CONNECT_SECONDS:g} s and {time_limits.STORE_ANSWER_SECONDS:g} s, three tries",
            "`s3.connect-timeout`, `s3.request-timeout` among the catalog's properties",
        ),
        (
            "Object store, by DuckDB: a request",
            f"{request_seconds(query.timeout_seconds)} s, four tries: they end before the query's deadline",
            "follows `timeout_seconds`",
        ),
        ("Schema Registry: a request", f"{registry.REQUEST_SECONDS:g} s, three tries", ""),
        (
            "Schema Registry: whether ids mean what they meant, before a commit and in a tail",
            f"{registry.LOOK_SECONDS:g} s",
            "",
        ),
        ("Kafka: questions about topics, groups and offsets, topics made", f"{admin.REQUEST_SECONDS:g} s", ""),
        (
            "Operator: whether Kafka or the registry, the catalog, the store is there",
            f"{reachable.ANSWER_SECONDS:g} s, {lake_reachable.ANSWER_SECONDS:g} s, {lake_reachable.STORE_ANSWER_SECONDS:g} s three times",
            "",
        ),
        ("Kafka: a message until it is confirmed", f"{producer.DELIVERY_SECONDS:g} s", ""),
        ("Kafka: reading", "no call waits for more than a second; librdkafka mends connections by itself", ""),
        ("Kubernetes API: a request of the operator", f"{client.REQUEST_SECONDS:g} s", ""),
        (
            "Kubernetes API: a watch that brings nothing",
            f"{watch.SILENCE_SECONDS} s, then it is opened anew",
            "",
        ),
        ("Files from https://: silence", f"{uris.SILENCE_SECONDS} s", ""),
        ("Client: an answer of the query service", f"{remote.ANSWER_SECONDS:g} s", ""),
        ("Client: silence in a replay", f"{remote_replay.SILENCE_SECONDS:g} s", ""),
        (
            "Query service: a question",
            f"{query.max_wait_seconds:g} s for its turn, {query.timeout_seconds:g} s for its query",
            "`max_wait_seconds`, `timeout_seconds`",
        ),
        (
            "Query service: a request's head, its body, a client that takes nothing",
            f"{query.head_seconds:g} s, {connections.BODY_SECONDS:g} s, {query.stall_seconds:g} s",
            "`head_seconds`, `stall_seconds`",
        ),
        ("Query service: `/ready`", f"{READY_SECONDS:g} s", ""),
    ]
    lines = ["| Call | Longest | Setting |", "| --- | --- | --- |"]
    lines += [f"| {call} | {longest} | {setting} |" for call, longest, setting in rows]
    return [TIME_LIMITS, "\n".join(lines) + "\n"]


def _nested(model: type[BaseModel], prefix: str) -> list[str]:
    return [_table("Field", _rows(model, prefix))]


def _rows(model: type[BaseModel], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        inner, wire = _model_of(field.annotation), prefix + (field.alias or name)
        if get_origin(field.annotation) is dict and inner is not None:
            wire += _KEYS[name]
        rows += [(wire, field)] if inner is None else _rows(inner, f"{wire}.")
    return rows


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _table(heading: str, rows: list[tuple[str, Any]]) -> str:
    lines = [f"| {heading} | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in rows:
        default = "" if field.default is PydanticUndefined or field.default is None else f"`{_plain(field.default)}`"
        if field.is_required():
            default = "required"
        lines.append(f"| `{name}` | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    OUTPUT.write_text(render())
