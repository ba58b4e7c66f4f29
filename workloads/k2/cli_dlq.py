"""`k2 dlq …`: dead letters as a person meets them: counted, looked at, sent again, cleared away. docs/dead-letters.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings, settings
from k2.model.times import duration_us, parse_time, to_datetime
from k2.model.topics import TopicName

if TYPE_CHECKING:
    from k2.bus.dead_letters import BuriedLetter, DeadLetter
    from k2.bus.redrive import KnownLetter, LetterFilter, RedriveTally

SOME_LEFT = 4
"""Exit code when not everything that was asked for could be done: letters that were not sent, a payload that is gone."""
_UNITS = ("m", "h", "d", "w")
_SHOWN_BYTES = 512
_OFFSETS = re.compile(r"([0-9]{1,18})?(-)?([0-9]{1,18})?")

_Topic = Annotated[str, typer.Argument(help="The feed's topic, or its dead-letter topic (`….dlq`).")]
_Reason = Annotated[
    str | None, typer.Option(help="A class of reasons, as `k2 dlq list` names them, or a part of the reason's text.")
]
_From = Annotated[str | None, typer.Option("--from", help="Put aside since then: a time, or 12h, 3d (ago).")]
_To = Annotated[str | None, typer.Option("--to", help="Put aside before then.")]
_Offset = Annotated[
    str | None, typer.Option(help="Offsets of the dead-letter topic, both ends meant: 12, 10-20, 10- or -20.")
]
_Partition = Annotated[int | None, typer.Option(min=0, help="Partition of the dead-letter topic.")]
_Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="table or json (on stdout).")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    dlq_app = typer.Typer(
        help="Dead letters: what could not become rows. Count them, look at them, send them again, clear them away.",
        no_args_is_help=True,
    )
    dlq_app.command("list", epilog="Example: k2 dlq list market.equities.trades.asx --from 1d")(list_letters)
    dlq_app.command("show", epilog="Example: k2 dlq show market.equities.trades.asx 17 --out letter.bin")(show)
    dlq_app.command("redrive", epilog="Example: k2 dlq redrive market.equities.trades.asx --reason unknown_schema")(
        redrive
    )
    dlq_app.command("purge", epilog="Example: k2 dlq purge market.equities.trades.asx --before 18 --yes")(purge)
    app.add_typer(dlq_app, name="dlq")


def list_letters(
    topic: Annotated[str | None, typer.Argument(help="The feed's topic or its `….dlq`; default: all of them.")] = None,
    reason: _Reason = None,
    since: _From = None,
    until: _To = None,
    partition: _Partition = None,
    offset: _Offset = None,
    output: _Output = "table",
) -> None:
    """Count letters by the class of their reason. A letter counts once, however often it was tried or written."""
    from k2.bus.admin import topics_ending
    from k2.bus.redrive import counted, known_letters

    kafka, wanted = settings().kafka_config(), _filter(reason, since, until, partition, offset)
    topics = [_name(topic).dead_letters] if topic is not None else topics_ending(kafka, ".dlq")
    found: dict[str, dict[str, list[KnownLetter]]] = {}
    for each in topics:
        with _progress(f"reading {each}") as told:
            found[each] = counted(known_letters(kafka, each, wanted, told))
    if output == "json":
        print(json.dumps([_listed(name, groups) for name, groups in found.items()], indent=2))
        return
    for name, groups in found.items():
        if groups or topic is not None:
            _print_list(name, groups)
    if topic is None and not any(found.values()):
        _say("No dead letters.")


def show(
    topic: _Topic,
    offset: Annotated[int, typer.Argument(min=0, help="Its offset in the dead-letter topic.")],
    partition: Annotated[int, typer.Option(min=0, help="Its partition there.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the payload, byte for byte, into this file; one that was cut is fetched where it was."
        ),
    ] = None,
    output: _Output = "table",
) -> None:
    """Show one letter: where it came from and why, and its payload as bytes and as its schema reads it.

    Exit code 4: with --out, when only the head of the payload is left anywhere.
    """
    env, name = settings(), _name(topic)
    buried = _letter_at(env, name.dead_letters, partition, offset)
    letter = buried.letter
    payload = letter.payload or b""
    decoded, why_not = _decoded(env, letter)
    if output == "json":
        body = _document(buried) | {"payload_hex": payload.hex(), "decoded": decoded}
        print(json.dumps(body, indent=2, default=_plain))
    else:
        _print_letter(buried, decoded, why_not)
    if out is not None and not _written(env, name, letter, out):
        raise typer.Exit(SOME_LEFT)


def redrive(
    topic: _Topic,
    reason: _Reason = None,
    since: _From = None,
    until: _To = None,
    partition: _Partition = None,
    offset: _Offset = None,
    parked: Annotated[bool, typer.Option("--parked", help="Also letters that failed five times already.")] = False,
    dry_run: _DryRun = False,
    output: _Output = "table",
) -> None:
    """Send letters to the topic that they came from again, each once, with its key and a count of its attempts.

    An event that the table has already is dropped there by its id, so sending one again adds nothing. What fails again comes
    back as a letter with its attempts counted; after five it is parked.

    Exit codes: 0 all were sent, 4 some were not (the summary says why), 1 Kafka failed: run the same command again.
    """
    from k2.bus.redrive import Redriver, known_letters, letters_at

    kafka, name = settings().kafka_config(), _name(topic)
    wanted = _filter(reason, since, until, partition, offset)
    with _progress(f"reading {name.dead_letters}") as told:
        known = known_letters(kafka, name.dead_letters, wanted, told)
    with _progress(f"sending to {name}") as told, Redriver(kafka, name, parked=parked, dry_run=dry_run) as driver:
        for buried in letters_at(kafka, name.dead_letters, known, told):
            driver.send(buried.letter)
    tally = driver.tally
    if output == "json":
        body = {"topic": str(name), "letters": len(known), "dry_run": dry_run} | asdict(tally)
        print(json.dumps(body, indent=2))
    else:
        _print_tally(name, len(known), tally, dry_run=dry_run)
    if tally.left:
        raise typer.Exit(SOME_LEFT)


def purge(
    topic: _Topic,
    before: Annotated[int | None, typer.Option(min=0, help="Delete what lies before this offset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all letters that are there now.")] = False,
    partition: _Partition = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False,
    dry_run: _DryRun = False,
    output: _Output = "table",
) -> None:
    """Delete letters for good: the oldest, up to an offset.

    Kafka can delete the beginning of a partition and nothing else, so there is no purging by reason or time.
    """
    from k2.bus.admin import beginning_offsets, delete_before, end_offsets

    if everything == (before is not None):
        raise UserError("k2 dlq purge needs to know how far", expected="--before OFFSET, or --all")
    kafka, name = settings().kafka_config(), _name(topic)
    dlq = name.dead_letters
    first, ends = beginning_offsets(kafka, dlq), end_offsets(kafka, dlq, "read_uncommitted")
    chosen = sorted(first) if partition is None else [partition]
    if partition is not None and partition not in first:
        raise UserError(f"{dlq} has no such partition", found=partition, expected=f"0 to {max(first)}")
    if before is not None and len(chosen) > 1:
        raise UserError(f"{dlq} has {len(chosen)} partitions, each with offsets of its own", expected="--partition")
    upto = {each: ends[each] if before is None else before for each in chosen}
    for each in chosen:
        if upto[each] > ends[each]:
            raise UserError(f"{dlq}/{each} ends before that offset", found=upto[each], expected=f"at most {ends[each]}")
    upto = {each: at for each, at in upto.items() if at > first[each]}
    count = sum(at - first[each] for each, at in upto.items())
    if count and not (yes or dry_run):
        raise UserError(
            f"This deletes {count:,} letters of {dlq} for good", expected="--yes", remedy="Look first: k2 dlq list"
        )
    if not dry_run:
        delete_before(kafka, dlq, upto)
    if output == "json":
        body = {"topic": dlq, "deleted": count, "dry_run": dry_run, "before": {str(p): at for p, at in upto.items()}}
        print(json.dumps(body, indent=2))
    else:
        print(f"{dlq}: {count:,} letters {'would be' if dry_run else 'are'} deleted")


def _filter(
    reason: str | None, since: str | None, until: str | None, partition: int | None, offset: str | None
) -> LetterFilter:
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


def _name(topic: str) -> TopicName:
    return TopicName.parse(topic.removesuffix(".dlq"))


def _letter_at(env: Settings, dlq: str, partition: int, offset: int) -> BuriedLetter:
    from k2.bus.dead_letters import buried_letters

    for buried in buried_letters(env.kafka_config(), dlq, {partition: offset}):
        if buried.offset == offset:
            return buried
        break
    raise UserError(f"There is no letter at offset {offset} of {dlq}/{partition}", remedy="Look: k2 dlq list")


def _decoded(env: Settings, letter: DeadLetter) -> tuple[dict[str, Any] | None, str]:
    """The payload by its schema, or why it is not there."""
    from k2.bus.registry import Schemas
    from k2.model.codec.record import read_record

    if letter.truncated:
        return None, "the payload was cut"
    try:
        schemas = Schemas(env.registry_config())
        try:
            found = read_record(letter.payload or b"", schemas.schema)
        finally:
            schemas.close()
    except (UserError, WorldError) as error:
        return None, str(error)
    return found, "" if found is not None else "no schema of the registry reads it"


def _written(env: Settings, name: TopicName, letter: DeadLetter, out: Path) -> bool:
    """Write the payload; False when it is the head alone."""
    from k2.bus.redrive import Originals

    payload, whole = letter.payload or b"", not letter.truncated
    if letter.truncated and letter.file is None:
        originals = Originals(env.kafka_config(), str(name))
        try:
            original = originals.of(letter)
        finally:
            originals.close()
        if original is not None:
            payload, whole = original[1] or b"", True
    out.write_bytes(payload)
    if whole:
        _say(f"{len(payload):,} bytes written to {out}")
    else:
        _say(f"{out} has the first {len(payload):,} of {letter.size:,} bytes: the whole is not kept any more")
    return whole


def _listed(topic: str, groups: dict[str, list[KnownLetter]]) -> dict[str, Any]:
    return {
        "topic": topic,
        "letters": sum(map(len, groups.values())),
        "reasons": [_group(reason, letters) for reason, letters in groups.items()],
    }


def _group(reason: str, letters: Sequence[KnownLetter]) -> dict[str, Any]:
    newest = max(letters, key=lambda each: (each.time or datetime.min.replace(tzinfo=UTC), each.offset))
    return {
        "reason": reason,
        "letters": len(letters),
        "tried_again": sum(each.attempts > 0 for each in letters),
        "parked": sum(each.parked for each in letters),
        "truncated": sum(each.truncated for each in letters),
        "from_files": sum(each.from_file for each in letters),
        "newest": None if newest.time is None else newest.time.isoformat(),
        "partition": newest.partition,
        "offset": newest.offset,
        "example": newest.example,
    }


def _print_list(topic: str, groups: dict[str, list[KnownLetter]]) -> None:
    listed = _listed(topic, groups)
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


def _document(buried: BuriedLetter) -> dict[str, Any]:
    letter = buried.letter
    key = letter.key
    return {
        "partition": buried.partition,
        "offset": buried.offset,
        "reason": letter.reason,
        "time": letter.time,
        "origin": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
        if letter.file is None
        else {"file": letter.file, "line": letter.line},
        "attempts": letter.attempts,
        "key": None if key is None else key.decode("utf-8", "backslashreplace"),
        "data_type": letter.data_type,
        "size": len(letter.payload or b"") if letter.size is None else letter.size,
        "truncated": letter.truncated,
        "tombstone": letter.payload is None,
    }


def _print_letter(buried: BuriedLetter, decoded: dict[str, Any] | None, why_not: str) -> None:
    for name, value in _document(buried).items():
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


def _print_tally(name: TopicName, asked: int, tally: RedriveTally, *, dry_run: bool) -> None:
    print(f"{name}: {asked:,} letters, {tally.sent:,} {'would be sent' if dry_run else 'sent'} again")
    for count, why in (
        (tally.parked, "parked: they failed five times (--parked sends them)"),
        (tally.from_files, "rows of files: mend the file and load it again"),
        (tally.gone, "cut, and their topic does not keep the whole any more"),
        (tally.foreign, "name another topic as theirs"),
        (tally.refused, "too large for the topic now"),
    ):
        if count:
            print(f"  {count:,} left, {why}")


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _one_line(text: str) -> str:
    """Without what would move a terminal's cursor: a reason may quote what came."""
    return "".join(each if each.isprintable() else "·" for each in text)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
