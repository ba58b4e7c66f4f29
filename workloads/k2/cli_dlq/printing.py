"""What a person sees of dead letters: tables on stdout, all else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from k2.forms.letters import letter_body, letters_body
from k2.model.letters import KnownLetter
from k2.model.topics import TopicName

if TYPE_CHECKING:
    from k2.bus.dead_letters import BuriedLetter
    from k2.bus.redrive import RedriveTally

_SHOWN_BYTES = 512


def print_list(topic: str, groups: dict[str, list[KnownLetter]]) -> None:
    """The counts of one dead-letter topic."""
    listed = letters_body(topic, groups)
    _console().print(f"{topic}: {listed['letters']:,} letters", markup=False)
    if not groups:
        return
    grid = Table(box=None, pad_edge=False)
    names = ("letters", "tried again", "parked", "truncated", "from files")
    grid.add_column("reason", no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right", no_wrap=True)
    for name in ("newest", "at", "its reason"):
        grid.add_column(name, no_wrap=True)
    for group in listed["reasons"]:
        numbers = [f"{group[name.replace(' ', '_')]:,}" for name in names]
        at = f"{group['partition']}/{group['offset']}"
        grid.add_row(group["reason"], *numbers, (group["newest"] or "?")[:19], at, _one_line(group["example"]))
    _console().print(grid, markup=False)


def print_letter(buried: BuriedLetter, decoded: dict[str, Any] | None, why_not: str) -> None:
    """One letter: what its headers say, its fields or why there are none, its first bytes."""
    for name, value in letter_body(buried).items():
        if value is not None:
            said = " ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
            print(f"{name:<10} {_one_line(str(said))}")
    if decoded is None:
        print(f"not decoded: {why_not}")
    else:
        print("as its schema reads it:")
        for name, value in decoded.items():
            print(f"  {name:<20} {_one_line(str(value))}")
    payload = buried.letter.payload or b""
    for at in range(0, min(len(payload), _SHOWN_BYTES), 16):
        row = payload[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"{at:06x}  {row.hex(' '):<47}  {text}")
    if len(payload) > _SHOWN_BYTES:
        print(f"… and {len(payload) - _SHOWN_BYTES:,} bytes more: --out FILE writes all")


def print_tally(name: TopicName, asked: int, tally: RedriveTally, *, dry_run: bool) -> None:
    """What became of the letters that were asked for."""
    print(f"{name}: {asked:,} letters, {tally.sent:,} {'would be sent' if dry_run else 'sent'} again")
    for count, why in (
        (tally.parked, "parked: they failed five times (--parked sends them)"),
        (tally.from_files, "rows of files (--rejects FOLDER writes them, to be mended and loaded)"),
        (tally.gone, "cut, and their topic does not keep the whole any more"),
        (tally.foreign, "name another topic as theirs"),
        (tally.refused, "too large for the topic now"),
    ):
        if count:
            print(f"  {count:,} left, {why}")


@contextmanager
def progress(what: str) -> Generator[Callable[[int, int], None]]:
    """A progress bar on stderr, where that is a terminal."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _one_line(text: str) -> str:
    """Without what would move a terminal's cursor: a reason may quote what came."""
    return "".join(each if each.isprintable() else "·" for each in text)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def say(text: str) -> None:
    """A line on stderr."""
    print(text, file=sys.stderr)
