"""What the REST interfaces of venues have in common: answers that are none, steps of prices, batches of symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec

from k2.feeds.venues.reading import REFUSED, NoMessageError, loosely, rows, shown
from k2.feeds.venues.venue import Unreadable
from k2.model.errors import WorldError

Answer = TypeVar("Answer")
Row = TypeVar("Row")


def parts(
    decoder: msgspec.json.Decoder[list[Row]], body: bytes, kind: type[Row], what: str
) -> tuple[list[Row], list[Unreadable]]:
    """The parts of an answer that is a list of them, and those that are none: one bad trade does not cost the others.

    Args:
        decoder: of the whole list.
        body: as it came.
        kind: the typed part.
        what: what such a part is called: trade.

    Raises:
        WorldError: the answer is no such list.
    """
    try:
        return decoder.decode(body), []
    except REFUSED:
        found = untyped(body, f"a list of {what}s")
    if not isinstance(found, list):
        raise WorldError(f"The venue's answer is not a list of {what}s: found {shown(body)}")
    return rows(found, kind, what)


def answer(decoder: msgspec.json.Decoder[Answer], body: bytes, expected: str) -> Answer:
    """The body of an answer as its type.

    Raises:
        WorldError: it is not of that type (a proxy's page, an error of the venue's).
    """
    try:
        return decoder.decode(body)
    except REFUSED as error:
        raise WorldError(f"The venue's answer is not {expected}: {error}; found {shown(body)}") from None


def untyped(body: bytes, expected: str) -> Any:
    """The body of an answer without a type, its numbers as their texts.

    Raises:
        WorldError: it is no JSON.
    """
    try:
        return loosely(body)
    except NoMessageError as error:
        raise WorldError(f"The venue's answer is not {expected}: it {error}") from None


def step(told: str | None) -> Decimal | None:
    """The smallest step of prices or quantities; None where the listing has none."""
    try:
        value = Decimal(told or "")
    except InvalidOperation:
        return None
    return value if value.is_finite() and value > 0 else None


def in_batches(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The symbols, at most so many at a time."""
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]
