"""What a person types after `k2 dlq …`, and what it means."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from k2.model.errors import UserError
from k2.model.times import duration_us, parse_time, to_datetime
from k2.model.topics import TopicName

if TYPE_CHECKING:
    from k2.bus.redrive import LetterFilter

_UNITS = ("m", "h", "d", "w")
_OFFSETS = re.compile(r"([0-9]{1,18})?(-)?([0-9]{1,18})?")

Topic = Annotated[str, typer.Argument(help="The feed's topic, or its dead-letter topic (`….dlq`).")]
Reason = Annotated[
    str | None, typer.Option(help="A class of reasons, as `k2 dlq list` names them, or a part of the reason's text.")
]
Since = Annotated[str | None, typer.Option("--from", help="Put aside since then: a time, or 12h, 3d (ago).")]
Until = Annotated[str | None, typer.Option("--to", help="Put aside before then.")]
Offset = Annotated[
    str | None, typer.Option(help="Offsets of the dead-letter topic, both ends meant: 12, 10-20, 10- or -20.")
]
Partition = Annotated[int | None, typer.Option(min=0, help="Partition of the dead-letter topic.")]
Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="table or json (on stdout).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def letter_filter(
    reason: str | None, since: str | None, until: str | None, partition: int | None, offset: str | None
) -> LetterFilter:
    """Which letters a person means; a `UserError` names the option that says nothing."""
    from k2.bus.redrive import LetterFilter

    first, last = _range(offset)
    return LetterFilter(reason, _moment(since, "--from"), _moment(until, "--to"), partition, first, last)


def _range(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    found = _OFFSETS.fullmatch(text.strip())
    if found is None or not (found[1] or found[3]):
        raise UserError("--offset cannot be used", found=text, expected="12, 10-20, 10- or -20")
    first, last = (None if each is None else int(each) for each in (found[1], found[3]))
    return (first, last) if found[2] else (first, first)


def _moment(text: str | None, option: str) -> datetime | None:
    if text is None:
        return None
    ago = duration_us(text, _UNITS)
    return to_datetime(parse_time(text, option)) if ago is None else datetime.now(UTC) - timedelta(microseconds=ago)


def topic_name(topic: str) -> TopicName:
    """The feed's topic, of which a person may name the dead-letter topic instead."""
    return TopicName.parse(topic.removesuffix(".dlq"))
