"""What a person is told of a load: the exit code, the summary as text, and as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2.model.events import Decimals
from k2.model.feed_rules import Prices
from k2.model.topics import DataType

if TYPE_CHECKING:
    from k2.feeds.load.load import LoadTally
    from k2.feeds.load.waiting import Waited

NOT_IN_TABLE, SOME_REJECTED, INTERRUPTED = 3, 4, 130


@dataclass(frozen=True, slots=True)
class LoadWish:
    """What the person asked for, parsed."""

    data_type: DataType
    files: tuple[str, ...]
    topic: str
    table: str
    prices: Prices
    rejects: Path | None
    dry_run: bool
    restart: bool
    wait: bool
    wait_timeout: float
    decimals: Decimals
    decimals_assumed: bool


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What became of it."""

    tally: LoadTally
    ledger: Path | None
    waited: Waited | None
    warnings: list[str]


def exit_code(outcome: LoadOutcome) -> int:
    """0 when all is well; else what `k2 load --help` says."""
    waited = outcome.waited
    if outcome.tally.interrupted or (waited is not None and waited.interrupted):
        return INTERRUPTED
    if waited is not None and not waited.in_table:
        return NOT_IN_TABLE
    dead_letters = 0 if waited is None else waited.dead_letters
    return SOME_REJECTED if outcome.tally.rejected or dead_letters else 0


def document(wish: LoadWish, outcome: LoadOutcome) -> dict[str, Any]:
    """The summary for `--output json`."""
    waited = outcome.waited
    return {
        "topic": wish.topic,
        "files": list(wish.files),
        "dry_run": wish.dry_run,
        "decimals": str(wish.decimals),
        **outcome.tally.as_dict(),
        "warnings": outcome.warnings,
        "rejects_file": str(wish.rejects) if wish.rejects is not None and outcome.tally.rejected else None,
        "ledger": str(outcome.ledger) if outcome.ledger is not None else None,
        "table": None if waited is None else waited.table,
        "wait": None if waited is None else waited.outcome.value,
        "missing": None if waited is None else waited.missing,
        "dead_letters": None if waited is None else waited.dead_letters,
        "duplicates": None if waited is None else waited.duplicates,
        "exit_code": exit_code(outcome),
    }


def summary(wish: LoadWish, outcome: LoadOutcome) -> str:
    """The summary as lines of text."""
    tally = outcome.tally
    files = f"{len(wish.files)} file{'s' if len(wish.files) > 1 else ''}"
    lines = [f"{wish.topic}: {files}{', dry run: nothing was sent' if wish.dry_run else ''}"]
    lines.append(f"  read          {tally.read:>14,}")
    lines.append(f"  accepted      {tally.accepted:>14,}")
    lines.append(f"  rejected      {tally.rejected:>14,}")
    if not wish.dry_run:
        lines.append(f"  sent          {tally.sent:>14,}")
        lines.append(f"  already there {tally.already_there:>14,}")
    lines.append(f"  repeated rows {tally.identical:>14,}  (kept: each is an event)")
    lines.append(f"  out of order  {tally.out_of_order:>14,}")
    if wish.decimals is Decimals.WIDE:
        lines.append(f"  decimals      {wish.decimals:>14}")
    elif wish.decimals_assumed:
        lines.append(
            f"  decimals      {wish.decimals:>14}  (assumed: no registry was asked; --decimals wide for a wide table)"
        )
    if tally.blank:
        lines.append(f"  blank lines   {tally.blank:>14,}")
    if tally.passed_over:
        lines.append(f"  passed over   {tally.passed_over:>14,}  (no such events, by the mapping's `only`)")
    if tally.seconds:
        lines.append(f"  {tally.seconds:.1f} s, {tally.rows_per_second:,.0f} rows/s")
    if tally.rejected:
        lines += [f"  rejected: {reason}" for reason in tally.reasons]
        if wish.rejects is not None:
            lines.append(
                f"  All rejected rows: {wish.rejects}. Mend the last column and load that file in the same way."
            )
    if tally.finished and not tally.sent and tally.already_there and not wish.dry_run:
        lines.append("  These files were loaded before: nothing was sent (--restart sends them again).")
    if tally.interrupted:
        lines.append("  Interrupted. Run the same command again: it goes on after the last acknowledged row.")
    if outcome.waited is not None:
        lines.append(f"  {outcome.waited}")
    return "\n".join(lines)
