"""Messages of a venue that are not as they are typed: read all the same for what they hold.

Typed decoding is fast, and refuses the whole of a message for one wrong field. What it refuses is looked at again by itself: a number
may stand for a text, and one bad trade among good ones is left out alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

import msgspec

from k2.feeds.venues.venue import Unreadable

Row = TypeVar("Row")

Name = Annotated[str, msgspec.Meta(min_length=1)]
"""A text that is not empty, for typed messages: a symbol."""

REFUSED = (msgspec.DecodeError, RecursionError)
"""What msgspec raises for a message that is no JSON, not of its type, or nested beyond measure."""
_ANY = msgspec.json.Decoder(float_hook=str)
_SHOWN = 200


class NoMessageError(ValueError):
    """A message that says nothing: its text is the reason of a dead letter."""


def loosely(data: bytes) -> Any:
    """JSON without a type, its numbers as their texts, digit for digit.

    Raises:
        NoMessageError: it is none.
    """
    try:
        return _as_texts(_ANY.decode(data))
    except RecursionError:
        raise NoMessageError("is no message: its JSON is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise NoMessageError(f"is no message: {error}; found {shown(data)}") from None


def fields(data: bytes) -> Mapping[str, Any]:
    """The fields of a message, as `loosely` has them.

    Raises:
        NoMessageError: it has none.
    """
    found = loosely(data)
    if not isinstance(found, dict):
        raise NoMessageError(f"is no message: found {shown(data)}, expected a JSON object")
    return cast("dict[str, Any]", found)


def text(found: Mapping[str, Any], name: str) -> str:
    """A field that is a text; empty where it is none."""
    value = found.get(name)
    return value if isinstance(value, str) else ""


def rows(values: object, kind: type[Row], what: str) -> tuple[list[Row], list[Unreadable]]:
    """Parts of a message of `loosely` as that type, and those that are none, with the part alone as their message.

    Args:
        values: what stands where a list of them belongs; None: nothing.
        kind: the typed part.
        what: what such a part is called in reasons.
    """
    if values is None:
        return [], []
    if not isinstance(values, list):
        return [], [_none(values, f"has no list of {what}s: found {shown(values)}")]
    found: list[Row] = []
    bad: list[Unreadable] = []
    for value in cast("list[object]", values):
        try:
            found.append(msgspec.convert(value, kind, strict=False))
        except msgspec.ValidationError as error:
            bad.append(_none(value, f"is no {what}: {error}; found {shown(value)}"))
    return found, bad


def shown(value: object) -> str:
    """A message, or a part of one, as a reason shows it: its first 200 characters."""
    text = repr(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _none(value: object, reason: str) -> Unreadable:
    return Unreadable(msgspec.json.encode(value), reason)


def _as_texts(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {name: _as_texts(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_as_texts(inner) for inner in cast("list[Any]", value)]
    return str(value)
