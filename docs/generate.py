"""Writes docs/configuration.md from the code (`make docs`); a test compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from k2.model.platform import Platform
from k2.model.settings import Settings
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig

OUTPUT = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Generated from the code by `make docs`; do not edit.

A workload takes addresses and credentials from the environment, and what it has to do from the JSON file that
`K2_CONFIG_FILE` names (the operator and `k2 up` write it). A command that a person types takes both from `platform.yaml`
in the data directory, unless the environment says otherwise.
"""


def render() -> str:
    """The whole page."""
    parts = [
        HEAD,
        "## Environment\n",
        _table("Variable", [(f"K2_{n.upper()}", f) for n, f in Settings.model_fields.items()]),
    ]
    parts += ["## platform.yaml\n", *_nested(Platform, "")]
    for title, model in (
        ("k2 run producer, k2 run load", ProducerConfig),
        ("k2 run sink", SinkConfig),
        ("k2 run query", QueryConfig),
    ):
        parts += [f"## Configuration file of `{title}`\n", _table("Field", list(model.model_fields.items()))]
    return "\n".join(parts).rstrip("\n") + "\n"


def _nested(model: type[BaseModel], prefix: str) -> list[str]:
    return [_table("Field", _rows(model, prefix))]


def _rows(model: type[BaseModel], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, field in model.model_fields.items():
        inner, wire = _model_of(field.annotation), prefix + (field.alias or name)
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
