"""Requests for every route that an app's OpenAPI lists: what the parameters' names call for, each value in turn.

A new route is asked by itself; a new parameter that a route needs and nobody gave values for fails the test that asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

Name = str | tuple[str, str]


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    template: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    def mentions(self, word: str) -> bool:
        """Whether the request says the word."""
        return word in f"{self.path} {dict(self.params)} {self.body}"

    def instead(self, word: str, other: str) -> Ask:
        """The same request with another word in its place."""
        return replace(
            self,
            path=self.path.replace(word, other),
            params=_replaced(self.params, word, other),
            body=None if self.body is None else _replaced(self.body, word, other),
        )

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path} {dict(self.params)} {self.body or ''}"


def requests(
    spec: Mapping[str, Any], values: Mapping[Name, Sequence[Any]], always: Sequence[str], together: Sequence[str]
) -> Iterator[Ask]:
    """Requests for all operations under /v1.

    Args:
        spec: the app's OpenAPI.
        values: by parameter name (or route and name, where it means something else there), what to give it; the first is the usual one.
        always: parameters that get their usual value wherever they exist, needed or not.
        together: parameters of which every combination of values is asked.
    """
    for template, operations in spec["paths"].items():
        if not template.startswith("/v1"):
            continue
        for method, operation in operations.items():
            yield from _of_operation(spec, template, method, operation, values, always, together)


def _of_operation(spec, template, method, operation, values, always, together):
    listed = [(p["in"], p["name"], p.get("required", False), p["schema"]) for p in operation.get("parameters", ())]
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        schema = _resolved(spec, content["schema"])
        needed = schema.get("required", ())
        listed += [("body", name, name in needed, inner) for name, inner in schema["properties"].items()]
    choices: dict[tuple[str, str], list[Any]] = {}
    for place, name, required, schema in listed:
        found = _choices(spec, schema, values.get((template, name), values.get(name)))
        assert found or not required, f"{method} {template} needs {name}: say in this test what to give it"
        if found:
            choices[place, name] = found
    usual = {
        (place, name): choices[place, name][0]
        for place, name, required, _ in listed
        if (required or name in always) and (place, name) in choices
    }
    seen: list[Any] = []
    combined = [key for key in choices if key[1] in together]
    each = [dict(zip(combined, chosen, strict=True)) for chosen in product(*(choices[key] for key in combined))]
    single = [{key: value} for key in choices if key not in combined for value in choices[key]]
    for changed in [{}, *each, *single]:
        given = usual | changed
        if given not in seen:
            seen.append(given)
            yield _ask(template, method, given, has_body=content is not None)


def _ask(template, method, given, *, has_body):
    path, params, body = template, {}, {}
    for (place, name), value in given.items():
        if place == "path":
            path = path.replace(f"{{{name}}}", str(value))
        elif place == "query":
            params[name] = value
        elif place == "body":
            body[name] = value
    return Ask(method, template, path, params, body if has_body else None)


def _choices(spec, schema, found):
    schema = _resolved(spec, schema)
    options = [_resolved(spec, option) for option in schema.get("anyOf", (schema,))]
    is_list = any(option.get("type") == "array" for option in options)
    if found is None:
        items = [_resolved(spec, option.get("items", option)) for option in options]
        found = [value for option in items for value in option.get("enum", ())]
        examples = [] if found else list(schema.get("examples", ()))
        return [[value] for value in found] if is_list and found else [*found, *examples]
    return [value if isinstance(value, list) else [value] for value in found] if is_list else list(found)


def _resolved(spec, schema):
    while "$ref" in schema:
        found = spec
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _replaced(values: Mapping[str, Any], word: str, other: str) -> dict[str, Any]:
    def change(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(word, other)
        return [change(item) for item in value] if isinstance(value, list) else value

    return {name: change(value) for name, value in values.items()}
