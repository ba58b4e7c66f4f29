"""One document → a resource, or the list of what is wrong with its fields, each named by its path with the nearest right name."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from k2.model.errors import UserError
from k2_operator.spec.conditions import Reason
from k2_operator.spec.resources import (
    API_VERSION,
    KINDS,
    MAX_FEED_NAME,
    NAME_PATTERN,
    PATTERN_HELP,
    IcebergTable,
    MarketFeed,
    Metadata,
)

_DOCUMENT_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


class ResourceError(UserError):
    """Something in a resource that its author has to change. Becomes a condition in a cluster, a line of `k2 up` here.

    Args:
        resource: `Kind namespace/name`.
        path: where it stands, such as `spec.streams[0].dataType`.
        what: what is wrong, without the path.
        reason: of the condition that tells of it.
    """

    def __init__(
        self,
        resource: str,
        path: str,
        what: str,
        *,
        found: object = None,
        expected: str = "",
        remedy: str = "",
        reason: Reason = Reason.INVALID_SPEC,
    ) -> None:
        super().__init__(what, found=found, expected=expected, remedy=remedy)
        self.resource = resource
        self.path = path
        self.reason = reason

    @property
    def text(self) -> str:
        """`path: what; found, expected; remedy`, without the resource."""
        text = f"{self.path}: {self.what}"
        if self.found is not None:
            text += f": found {_show(self.found)}"
        if self.expected:
            text += f"{',' if self.found is not None else ';'} expected {self.expected}"
        if self.remedy:
            text += f"; {self.remedy}"
        return text

    def __str__(self) -> str:
        return f"{self.resource}: {self.text}"


def parse(document: Mapping[str, Any]) -> tuple[MarketFeed | IcebergTable | None, list[ResourceError]]:
    """A document of a manifest → the resource, or None with every error of its fields."""
    kind = document.get("kind")
    who = describe(document)
    errors = _check_envelope(document, who)
    if kind not in KINDS or not isinstance(document.get("spec"), Mapping):
        return None, errors
    metadata, more = _metadata(document, who, MAX_FEED_NAME if kind == "MarketFeed" else 63)
    errors += more
    try:
        # As JSON and strict: what the API server would refuse ("6" for a number) is refused here too, and a date that YAML
        # has already read is text again.
        spec = KINDS[str(kind)].model_validate_json(
            json.dumps(document.get("spec"), default=str), strict=True, by_alias=True, by_name=False
        )
    except ValidationError as error:
        return None, errors + _field_errors(who, KINDS[str(kind)], error)
    if errors or metadata is None:
        return None, errors
    wrapper = MarketFeed if kind == "MarketFeed" else IcebergTable
    return wrapper.model_construct(metadata=metadata, spec=spec), []


def describe(document: Mapping[str, Any]) -> str:
    """`Kind namespace/name` of a document, whatever state it is in."""
    metadata = document.get("metadata")
    known: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    return (
        f"{document.get('kind') or 'document'} {known.get('namespace') or 'default'}/{known.get('name') or '(no name)'}"
    )


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    plain = {each.replace("_", "").replace("-", "").lower(): each for each in known}
    close = difflib.get_close_matches(name.replace("_", "").replace("-", "").lower(), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def path_of(location: Sequence[str | int], root: str = "spec") -> str:
    """A field's place as a person writes it: `spec.streams[0].dataType`. Which of several forms a value has is no part of it."""
    written = (part for part in location if not _is_form(part))
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in written)


def _is_form(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("(")


def _check_envelope(document: Mapping[str, Any], who: str) -> list[ResourceError]:
    errors = [
        _unknown_field(who, str(name), str(name), _DOCUMENT_FIELDS) for name in document if name not in _DOCUMENT_FIELDS
    ]
    if document.get("apiVersion") != API_VERSION:
        found = document.get("apiVersion")
        errors.append(ResourceError(who, "apiVersion", "not K2's", found=found or "nothing", expected=API_VERSION))
    kind = document.get("kind")
    if kind not in KINDS:
        guess = nearest(str(kind), list(KINDS))
        remedy = f'did you mean "{guess}"?' if guess else ""
        expected = " or ".join(KINDS)
        errors.append(
            ResourceError(who, "kind", "unknown kind", found=kind or "nothing", expected=expected, remedy=remedy)
        )
    elif not isinstance(document.get("spec"), Mapping):
        errors.append(ResourceError(who, "spec", "missing", expected=f"the fields of a {kind}"))
    return errors


def _metadata(document: Mapping[str, Any], who: str, longest: int) -> tuple[Metadata | None, list[ResourceError]]:
    raw = document.get("metadata")
    name = raw.get("name") if isinstance(raw, Mapping) else None
    if not isinstance(name, str) or not re.fullmatch(NAME_PATTERN, name) or len(name) > longest:
        expected = f"{PATTERN_HELP[NAME_PATTERN]}, at most {longest} characters"
        return None, [
            ResourceError(who, "metadata.name", "not a usable name", found=name or "nothing", expected=expected)
        ]
    return Metadata.model_validate_json(json.dumps(raw, default=str)), []


def _field_errors(who: str, model: type[BaseModel], error: ValidationError) -> list[ResourceError]:
    schema = model.model_json_schema(by_alias=True)
    # A typo of a required field gives two errors, the unknown name and the missing one; the first says it all.
    details = error.errors()
    mistyped = {
        (*each["loc"][:-1], nearest(str(each["loc"][-1]), _fields(schema, each["loc"][:-1])))
        for each in details
        if each["type"] == "extra_forbidden"
    }
    return [
        _field_error(who, schema, each)
        for each in details
        if not (each["type"] == "missing" and each["loc"] in mistyped)
        # An item that is wrong is also counted as absent.
        and not (each["type"] == "too_short" and any(_is_below(other["loc"], each["loc"]) for other in details))
    ]


def _is_below(place: Sequence[str | int], parent: Sequence[str | int]) -> bool:
    return len(place) > len(parent) and tuple(place[: len(parent)]) == tuple(parent)


def _field_error(who: str, schema: dict[str, Any], detail: Any) -> ResourceError:
    location: tuple[str | int, ...] = detail["loc"]
    kind, context = detail["type"], detail.get("ctx", {})
    path = path_of(location)
    if kind == "extra_forbidden":
        return _unknown_field(who, path, str(location[-1]), _fields(schema, location[:-1]))
    if kind == "missing":
        return ResourceError(who, path, "missing", expected=_description(schema, location).rstrip("."))
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return ResourceError(
            who, path, "not usable", found=detail["input"], expected=PATTERN_HELP.get(pattern, f"text like {pattern}")
        )
    expected = detail["msg"].removeprefix("Input should be ").removeprefix("Input should ")
    expected = str(context.get("expected", expected))
    if kind in ("too_short", "too_long"):
        expected = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
    return ResourceError(who, path, "not usable", found=detail["input"], expected=expected)


def _unknown_field(who: str, path: str, name: str, known: Sequence[str]) -> ResourceError:
    guess = nearest(name, known)
    if guess:
        return ResourceError(who, path, "unknown field", remedy=f'did you mean "{guess}"?')
    return ResourceError(who, path, "unknown field", expected=f"one of {', '.join(known)}" if known else "no fields")


def _node(schema: dict[str, Any], location: Sequence[str | int]) -> dict[str, Any]:
    """The part of a JSON schema that describes a place; {} where there is none."""

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node or "anyOf" in node:
            if "$ref" in node:
                node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
            else:
                node = next(each for each in node["anyOf"] if each.get("type") != "null")
        return node

    node = resolve(schema)
    for part in location:
        if _is_form(part):
            wanted = "array" if part == "(names)" else "object"
            following = next((each for each in map(resolve, node.get("oneOf", ())) if each["type"] == wanted), None)
        else:
            following = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
        if following is None:
            return {}
        node = resolve(following)
    return node


def _fields(schema: dict[str, Any], location: Sequence[str | int]) -> list[str]:
    return list(_node(schema, location).get("properties", {}))


def _description(schema: dict[str, Any], location: Sequence[str | int]) -> str:
    parent = _node(schema, location[:-1])
    return str(parent.get("properties", {}).get(location[-1], {}).get("description", ""))


def _show(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text if len(text) <= 80 else text[:77] + "…"
    return f"'{text}'" if isinstance(value, str) else text
