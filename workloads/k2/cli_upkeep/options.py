"""What the commands of `k2 upkeep` take alike, and how they say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from k2.lake.upkeep.noted import Emptied

SECOND_US = 1_000_000

TableName = Annotated[str, typer.Option("--table", "-t", help="The table, `namespace.name`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to show it.")]
Delay = Annotated[
    int, typer.Option(min=0, help="How long a file is noted before a run deletes it: longer than any question takes.")
]


def noted_files(number: int, path: str | None) -> str:
    """How many files are on a new list, and where it lies."""
    return f"{number:,} files noted" + (f" in {path}" if path else "")


def emptied_lists(emptied: Emptied) -> str:
    """What became of earlier lists."""
    kept = (
        f", {emptied.kept:,} of earlier lists stay: they changed, or something refers to them" if emptied.kept else ""
    )
    return f", {emptied.deleted:,} of {mib(emptied.bytes)} deleted{kept}"


def mib(size: float) -> str:
    """A size as people read it."""
    return f"{size / (1 << 20):,.1f} MiB"
