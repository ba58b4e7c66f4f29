"""What the REST interfaces of venues have in common: answers that are none, pages, steps of prices, batches of symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from k2.feeds.venues.reading import REFUSED, NoMessageError, loosely, rows, shown
from k2.feeds.venues.venue import Hole, Request, Unreadable
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


def page_before(request: Request, numbers: Iterable[int], hole: Hole) -> int | None:
    """Before which number the next page of a hole ends, where pages are asked for by `after` and come newest first.

    Args:
        request: what this page was the answer to.
        numbers: of the trades of this page, wanted or not.
        hole: what is to be filled.

    Returns:
        None: this page reached the hole's first trade, or it did not reach further back than what was asked: that would be asked for again
        for ever.
    """
    oldest = min(numbers, default=0)
    asked = int(parse_qs(urlsplit(request.path).query)["after"][0])
    return oldest if hole.first < oldest < asked else None


def in_batches(symbols: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The symbols, at most so many at a time."""
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]
