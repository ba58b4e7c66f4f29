"""What the commands of `k2 upkeep` take alike, and how they say it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from k2.model.errors import UserError

if TYPE_CHECKING:
    from k2.lake.catalog import TableSource
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


_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def bytes_a_second(text: str) -> float:
    """`50MB/s` → bytes a second; `0` is as many as there are."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(|[kMG]|[KMG]i)(?:B|B/s)?", text)
    if found is None:
        raise UserError(
            "That is no rate", found=text, expected="bytes a second, such as 50MB/s or 200MiB/s; 0: without a limit"
        )
    return float(found[1]) * _UNITS[found[2]]


def record(catalog: TableSource, table: str, task: str, began: float, figures: Mapping[str, Any]) -> None:
    """Leave in the table what a run came to, for the operator to tell.

    Args:
        catalog: where the table is loaded from.
        table: its identifier.
        task: of upkeep.
        began: `time.monotonic()` then.
        figures: see `TaskRun`.
    """
    from k2.lake.upkeep_runs import TaskRun, record_run

    record_run(catalog, table, TaskRun(task, time.time_ns() // 1000, time.monotonic() - began, figures))
