"""The command `k2 load`: what a person types as a source of files, and the load and the wait that follow."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from k2.cli_load.printing import LoadOutcome, LoadWish, document, exit_code, summary
from k2.model.errors import UserError, WorldError
from k2.model.events import Decimals
from k2.model.exchanges import Exchange, exchange, known_exchange, with_options
from k2.model.feed_rules import Prices, read_rules
from k2.model.id_scopes import IdScope
from k2.model.mapping.named import FORMATS, GENERIC
from k2.model.settings import Settings, settings
from k2.model.tables import NAMESPACE
from k2.model.topics import AssetClass, DataType, TopicName

if TYPE_CHECKING:
    from k2.feeds.load.csv_source import CsvFiles
    from k2.feeds.load.load import LoadTally
    from k2.feeds.load.waiting import Waited
    from k2.lake.offsets import PartitionOffsets

_CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Description:
    """What the person said of the files: their form, and what they do not say of their rows."""

    form: str | None
    mapping: Path | None
    symbol: str | None
    currency: str | None
    kind: str | None
    ids: tuple[str | None, str | None, str | None]
    """Scope, start of a day, and space of their own ids."""


def register(app: typer.Typer) -> None:
    """Add `k2 load`."""
    app.command("load")(load)


def _sniff(path: Path | None) -> None:
    """Print a mapping to begin with and end: the option needs none of the command's arguments."""
    if path is None:
        return
    from k2.feeds.formats.containers import contents
    from k2.feeds.formats.sniffing import sniffed

    try:
        content = contents(path)[0]
        print(sniffed(content, exchange("SIM")), end="")
    except OSError as error:
        raise UserError(f"{path} cannot be read", found=error.strerror, expected="a readable file") from error
    raise typer.Exit


def load(
    data_type: Annotated[str, typer.Argument(help="trades, quotes or reference-data.")],
    files: Annotated[
        list[str],
        typer.Argument(
            help="Files in order of time, directories, patterns, https:// or s3:// URIs (also of prefixes and patterns), or - for standard input. "
            "CSV (also gz, zst, zip), Parquet or Arrow. All of them are one load."
        ),
    ],
    exchange_code: Annotated[str, typer.Option("--exchange", "-e", help="The exchange's code, for example ASX.")],
    symbol: Annotated[
        str | None, typer.Option("--symbol", "-s", help="The symbol of all rows, where the files do not name it.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", "-f", help=f"{', '.join(FORMATS)} (see docs/feeds.md); default: {GENERIC}."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", "-m", help="A mapping file that says how the files are written (docs/mappings.md)."),
    ] = None,
    sniff: Annotated[  # noqa: ARG001 - its callback does all and ends
        Path | None,
        typer.Option(
            "--sniff",
            callback=_sniff,
            is_eager=True,
            help="Show what K2 takes a file's first rows for, and print a mapping to begin with; loads nothing.",
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Currency of the prices; default: the exchange's.")] = None,
    time_zone: Annotated[
        str | None, typer.Option(help="Time zone of the exchange, such as Europe/Berlin; default: as K2 knows it.")
    ] = None,
    asset_class: Annotated[
        str | None, typer.Option(help=f"{', '.join(AssetClass)}: a part of the topic's name; default: the exchange's.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="split or merger, for ASX reference files whose name does not say it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the rows are in the table.")] = False,
    wait_timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait waits.")] = 300.0,
    table: Annotated[
        str | None, typer.Option(help="The table that --wait looks at; default: market_data and the data type.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Parse everything, send nothing. Needs no running platform.")
    ] = False,
    id_scope: Annotated[
        str | None,
        typer.Option(
            "--id-scope",
            help=f"What the files' own ids are unique within: {', '.join(IdScope)}. Default: as the format says.",
        ),
    ] = None,
    day_starts: Annotated[
        str | None,
        typer.Option(
            "--day-starts", help="HH:MM by the exchange's clocks: when a day of --id-scope begins (midnight)."
        ),
    ] = None,
    id_space: Annotated[
        str | None,
        typer.Option(
            "--id-space", help="Which of the venue's number spaces the files' own ids are of: aggregate, block."
        ),
    ] = None,
    decimals: Annotated[
        str | None,
        typer.Option(
            help=f"{' or '.join(Decimals)}: of the table that the topic ends in; default: those that the topic's schema has, "
            "in a dry run without a platform standard."
        ),
    ] = None,
    prices: Annotated[
        str | None,
        typer.Option(
            help="positive, or any: prices may be zero or negative too. Default: as the feed that runs in the data directory has it."
        ),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Where rejected rows are written; default: rejects/ in the data directory.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Send everything again, even what the ledger says is there.")
    ] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="An empty file is no error.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", help="The summary as table or json (on stdout).")] = "table",
) -> None:
    """Load files into their topic. Run again after an interruption it goes on; run again after the end it sends nothing.

    Exit codes: 0 all is well, 1 Kafka, the registry or the catalog failed, 2 the files or options cannot be used, 3 `--wait`
    timed out or no sink runs, 4 some rows were rejected or became dead letters, 130 interrupted.
    """
    from k2.feeds.run import stopping

    if output not in {"table", "json"}:
        raise UserError("Unknown --output", found=output, expected="table or json")
    env = settings()
    kind_of_data = DataType.parse(data_type)
    if kind_of_data is DataType.GAPS:
        raise UserError(
            "Gaps are not loaded",
            found=data_type,
            expected="trades, quotes or reference-data: a live feed tells its own",
        )
    venue = with_options(
        exchange_code, time_zone, None if known_exchange(exchange_code.strip()) else currency, asset_class
    )
    if known_exchange(venue.code) is None:
        Console(stderr=True).print(
            f"K2 does not know {venue.code}: questions by its trading dates need it under `exchanges` in the platform's settings "
            "(docs/exchanges.md).",
            highlight=False,
        )
    topic = str(TopicName.of(venue.asset_class, kind_of_data, venue.code))
    wish = LoadWish(
        kind_of_data,
        tuple(files),
        topic,
        table or f"{NAMESPACE}.{kind_of_data}",
        _prices(prices, env.data_dir, topic),
        _rejects_path(env, files, rejects, dry_run),
        dry_run,
        restart,
        wait,
        wait_timeout,
        *_decimals(env, topic, kind_of_data, decimals, dry_run=dry_run),
    )
    with stopping() as stop, tempfile.TemporaryDirectory(prefix="k2-mended-") as folder:
        said = _Description(form, mapping, symbol, currency, kind, (id_scope, day_starts, id_space))
        source = _source(wish, Path(folder), venue, said, allow_empty=allow_empty)
        outcome = _run(env, wish, source, stop)
    print(json.dumps(document(wish, outcome)) if output == "json" else summary(wish, outcome))
    code = exit_code(outcome)
    if code:
        raise typer.Exit(code)


def _decimals(
    env: Settings, topic: str, data_type: DataType, wanted: str | None, *, dry_run: bool
) -> tuple[Decimals, bool]:
    """Those that are sent into the topic, and whether that is only assumed: a dry run needs no platform."""
    if wanted is not None and wanted not in set(Decimals):
        raise UserError("Unknown --decimals", found=wanted, expected=" or ".join(Decimals))
    chosen = None if wanted is None else Decimals(wanted)
    if dry_run and (chosen is not None or not env.registry_url):
        return chosen or Decimals.STANDARD, chosen is None
    from k2.bus.registry import topic_decimals

    try:
        return topic_decimals(env.registry_config(), topic, data_type, chosen), False
    except WorldError:
        if not dry_run:
            raise
        return Decimals.STANDARD, True


def _source(wish: LoadWish, folder: Path, venue: Exchange, said: _Description, *, allow_empty: bool) -> CsvFiles:
    from k2.feeds.formats.layouts import Assembler, Files
    from k2.feeds.formats.registry import file_format, own_format
    from k2.feeds.load.csv_source import CsvFiles, ids_of
    from k2.feeds.load.gathering import brought, gathered
    from k2.feeds.load.objects import store_for
    from k2.feeds.load.rejects import is_rejects_file, unwrap

    paths: list[Path] = []
    names: list[str] = []
    for name, path in gathered(brought(wish.files, folder, store_for(wish.files, settings())), wish.data_type):
        pieces = unwrap(path, folder) if is_rejects_file(path) else [path]
        paths += pieces
        names += [name] * len(pieces)
    if said.form is not None and said.mapping is not None:
        raise UserError("Both --format and --mapping are given", expected="one of them")
    money = said.currency or venue.currency
    files = Files(wish.data_type, venue, said.symbol, money, paths, said.kind, wish.prices)
    chosen = file_format(said.form or GENERIC, files) if said.mapping is None else own_format(said.mapping, files)
    ids = ids_of(chosen, *said.ids)
    assembler = Assembler(wish.data_type, venue, money, str(venue.asset_class), ids, wish.decimals)
    return CsvFiles(paths, chosen, assembler, names=names, symbol=said.symbol, allow_empty=allow_empty)


def _prices(wanted: str | None, data_dir: Path, topic: str) -> Prices:
    """Which prices the files may have: as the person says, or else as the topic's feed."""
    if wanted is None:
        return read_rules(data_dir, topic).prices
    if wanted not in set(Prices):
        raise UserError("Unknown --prices", found=wanted, expected=" or ".join(Prices))
    return Prices(wanted)


def _run(env: Settings, wish: LoadWish, source: CsvFiles, stop: threading.Event) -> LoadOutcome:
    from k2.feeds.load.load import Load
    from k2.feeds.load.rejects import RejectsFile
    from k2.feeds.run import load_source

    rejects = RejectsFile(wish.rejects) if wish.rejects is not None else None
    warnings = _warnings(env, wish, source)
    for each in warnings:
        print(f"Warning: {each}", file=sys.stderr)
    before: Mapping[int, PartitionOffsets] = {}
    with _progress(source.size, wish) as report:
        if wish.dry_run:
            load = Load(source, None, None, rejects, report=report, stop=stop)
            return LoadOutcome(load.run(), None, None, warnings)
        if wish.wait:
            from k2.feeds.load.waiting import Recorded  # brings PyIceberg: only when it is needed

            before = Recorded(env, wish.table, wish.topic).partitions()
        tally, ledger = load_source(
            env,
            source,
            {wish.data_type: wish.topic},
            directory=env.data_dir / "ledger",
            stop=stop,
            rejects=rejects,
            report=report,
            restart=wish.restart,
            decimals={wish.data_type: wish.decimals},
        )
    waited = None
    if wish.wait and not tally.interrupted:
        waited = _wait(env, wish, ledger.progress.next_offsets.get(wish.topic, {}), before, stop)
    return LoadOutcome(tally, ledger.path, waited, warnings)


def _warnings(env: Settings, wish: LoadWish, source: CsvFiles) -> list[str]:
    """What is odd about the prices, where the table can be asked; a check that cannot be made stops no load."""
    if wish.data_type is DataType.REFERENCE_DATA or not (env.catalog_properties or env.catalog_secret_dir):
        return []
    from k2.feeds.load.odd_prices import odd_prices
    from k2.lake.catalog import LastingCatalog
    from k2.lake.last_prices import last_price

    market = TopicName.parse(wish.topic).exchange.upper()
    catalog = LastingCatalog(env, answer_seconds=_CHECK_SECONDS)
    try:
        held = catalog.load_table(wish.table)
    except Exception:  # noqa: BLE001 - whatever a catalog raises that is away, or has no such table yet
        return []

    def last(data_type: DataType, symbol: str) -> Decimal | None:
        try:
            return last_price(held, data_type, symbol, market)
        except Exception:  # noqa: BLE001 - as above, and a store's
            return None

    return odd_prices(source, last)


def _wait(
    env: Settings,
    wish: LoadWish,
    wanted: Mapping[int, int],
    before: Mapping[int, PartitionOffsets],
    stop: threading.Event,
) -> Waited:
    from k2.feeds.load.waiting import wait_for_table

    console = Console(stderr=True)
    with console.status(f"waiting for {wish.table}") as status:
        return wait_for_table(
            env,
            topic=wish.topic,
            table=wish.table,
            wanted=wanted,
            before=before,
            timeout=wish.wait_timeout,
            stop=stop,
            report=lambda missing: status.update(f"waiting for {wish.table}: {missing:,} messages to go"),
        )


@contextmanager
def _progress(size: int, wish: LoadWish) -> Generator[Callable[[LoadTally], None]]:
    """A progress bar on stderr, where that is a terminal: part done, rows, rows/s, time left."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    label = f"{'checking' if wish.dry_run else 'loading'} {wish.data_type}"
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(label, total=max(size, 1), rows=0, speed=0.0)

        def report(tally: LoadTally) -> None:
            bar.update(task, completed=tally.progress, rows=tally.read, speed=tally.rows_per_second)

        yield report


def _rejects_path(env: Settings, files: Sequence[str], wanted: Path | None, dry_run: bool) -> Path | None:
    if wanted is None:
        name = "stdin" if files[0] == "-" else Path(files[0]).name
        return None if dry_run else env.data_dir / "rejects" / f"{name}.rejects.csv"
    if any(wanted.resolve() == Path(file).resolve() for file in files):
        raise UserError("--rejects names a file that is to be loaded", found=str(wanted), expected="another file")
    return wanted
