"""The commands of `k2 dlq`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2.cli_dlq.options import DryRun, Offset, Output, Partition, Reason, Since, Topic, Until, letter_filter, topic_name
from k2.cli_dlq.printing import print_letter, print_list, print_tally, progress, say
from k2.forms.letters import letter_body, letters_body
from k2.model.errors import UserError, WorldError
from k2.model.letters import KnownLetter, counted
from k2.model.settings import Settings, settings
from k2.model.topics import TopicName

if TYPE_CHECKING:
    from k2.bus.dead_letters import BuriedLetter, DeadLetter

SOME_LEFT = 4
"""Exit code when not everything that was asked for could be done: letters that were not sent, a payload that is gone."""


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
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    offset: Offset = None,
    output: Output = "table",
) -> None:
    """Count letters by the class of their reason. A letter counts once, however often it was tried or written."""
    from k2.bus.admin import topics_ending
    from k2.bus.redrive import known_letters

    kafka, wanted = settings().kafka_config(), letter_filter(reason, since, until, partition, offset)
    topics = [topic_name(topic).dead_letters] if topic is not None else topics_ending(kafka, ".dlq")
    found: dict[str, dict[str, list[KnownLetter]]] = {}
    for each in topics:
        with progress(f"reading {each}") as told:
            found[each] = counted(known_letters(kafka, each, wanted, told))
    if output == "json":
        print(json.dumps([letters_body(name, groups) for name, groups in found.items()], indent=2))
        return
    for name, groups in found.items():
        if groups or topic is not None:
            print_list(name, groups)
    if topic is None and not any(found.values()):
        say("No dead letters.")


def show(
    topic: Topic,
    offset: Annotated[int, typer.Argument(min=0, help="Its offset in the dead-letter topic.")],
    partition: Annotated[int, typer.Option(min=0, help="Its partition there.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the payload, byte for byte, into this file; one that was cut is fetched where it was."
        ),
    ] = None,
    output: Output = "table",
) -> None:
    """Show one letter: where it came from and why, and its payload as bytes and as its schema reads it.

    Exit code 4: with --out, when only the head of the payload is left anywhere.
    """
    env, name = settings(), topic_name(topic)
    buried = _letter_at(env, name.dead_letters, partition, offset)
    letter = buried.letter
    payload = letter.payload or b""
    decoded, why_not = _decoded(env, letter)
    if output == "json":
        body = letter_body(buried) | {"payload_hex": payload.hex(), "decoded": decoded}
        print(json.dumps(body, indent=2, default=_plain))
    else:
        print_letter(buried, decoded, why_not)
    if out is not None and not _written(env, name, letter, out):
        raise typer.Exit(SOME_LEFT)


def redrive(
    topic: Topic,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    offset: Offset = None,
    parked: Annotated[bool, typer.Option("--parked", help="Also letters that failed five times already.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Write rows of files into this new folder: a rejects file for each file, to be mended and loaded.",
        ),
    ] = None,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Send letters to the topic that they came from again, each once, with its key and a count of its attempts.

    An event that the table has already is dropped there by its id, so sending one again adds nothing. What fails again comes
    back as a letter with its attempts counted; after five it is parked.

    Rows of files go to no topic: --rejects writes them as `k2 load` does those that it rejects.

    Exit codes: 0 all were sent, 4 some were not (the summary says why), 1 Kafka failed: run the same command again.
    """
    from k2.bus.redrive import Redriver, known_letters, letters_at
    from k2.feeds.load.rejects import check_new, write_letters

    if rejects is not None:
        check_new(rejects)
    kafka, name = settings().kafka_config(), topic_name(topic)
    wanted = letter_filter(reason, since, until, partition, offset)
    with progress(f"reading {name.dead_letters}") as told:
        known = known_letters(kafka, name.dead_letters, wanted, told)
    rows: list[DeadLetter] = []
    with progress(f"sending to {name}") as told, Redriver(kafka, name, parked=parked, dry_run=dry_run) as driver:
        for buried in letters_at(kafka, name.dead_letters, known, told):
            letter = buried.letter
            if rejects is not None and letter.file is not None and not letter.truncated:
                rows.append(letter)
            else:
                driver.send(letter)
    tally = driver.tally
    written = write_letters(rejects, rows) if rejects is not None and not dry_run else []
    if output == "json":
        files = {"rows_written": len(rows), "rejects_files": [str(path) for path in written]}
        print(
            json.dumps(
                {"topic": str(name), "letters": len(known), "dry_run": dry_run} | asdict(tally) | files, indent=2
            )
        )
    else:
        print_tally(name, len(known), tally, dry_run=dry_run)
        for path in written:
            print(f"  written: {path}. Mend the last column and load that file as its rows were loaded.")
    if tally.left:
        raise typer.Exit(SOME_LEFT)


def purge(
    topic: Topic,
    before: Annotated[int | None, typer.Option(min=0, help="Delete what lies before this offset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all letters that are there now.")] = False,
    partition: Partition = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Delete letters for good: the oldest, up to an offset.

    Kafka can delete the beginning of a partition and nothing else, so there is no purging by reason or time.
    """
    from k2.bus.admin import beginning_offsets, delete_before, end_offsets

    if everything == (before is not None):
        raise UserError("k2 dlq purge needs to know how far", expected="--before OFFSET, or --all")
    kafka, name = settings().kafka_config(), topic_name(topic)
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
    from k2.model.codec.record import read_record, schema_id_of

    if letter.truncated:
        return None, "the payload was cut"
    payload, why_not = letter.payload or b"", "no schema of the registry reads it, and none that a table keeps"
    found = None
    try:
        schemas = Schemas(env.registry_config())
        try:
            found = read_record(payload, schemas.schema)
        finally:
            schemas.close()
    except (UserError, WorldError) as error:
        why_not = str(error)
    # A registry that is away, or has forgotten: the table keeps by which schemas its sink has read the topic.
    if found is None and schema_id_of(payload) is not None:
        found = read_record(payload, _kept(env, letter.topic).get)
    return found, "" if found is not None else why_not


def _kept(env: Settings, topic: str | None) -> dict[int, str]:
    """The schemas that tables keep of a topic, by id; none where there is no catalog to ask."""
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.kept_schemas import kept_of_topic
    from k2.model.tables import NAMESPACE

    if topic is None:
        return {}
    try:
        with open_catalog(env) as catalog:
            tables = [load_table(catalog, ".".join(name)).metadata for name in catalog.list_tables(NAMESPACE)]
            return kept_of_topic(tables, topic)
    except Exception:  # noqa: BLE001 - whatever a catalog raises: the payload is shown without it
        return {}


def _written(env: Settings, name: TopicName, letter: DeadLetter, out: Path) -> bool:
    """Write the payload; False when it is the head alone."""
    from k2.bus.redrive import original_of

    payload, whole = letter.payload or b"", not letter.truncated
    if letter.truncated and letter.file is None:
        original = original_of(env.kafka_config(), str(name), letter)
        if original is not None:
            payload, whole = original.payload or b"", True
    out.write_bytes(payload)
    if whole:
        say(f"{len(payload):,} bytes written to {out}")
    else:
        say(f"{out} has the first {len(payload):,} of {letter.size:,} bytes: the whole is not kept any more")
    return whole


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
