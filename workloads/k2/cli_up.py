"""Commands that run the whole platform on this machine: up, status, down, demo, demo-reset.

Only reads what a person typed and shows what comes back; the work is in `k2_local`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from k2.model.settings import Settings
from k2.obs.without_extras import without_extras

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="MarketFeed and IcebergTable files or folders; default: manifests/samples.", show_default=False
    ),
]
Port = Annotated[int, typer.Option(help="Port of the query service on 127.0.0.1.", min=1, max=65535)]

_LISTENERS = {"--port": "the query service", "--kafka-port": "Kafka", "--registry-port": "the schema registry"}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("up")(up)
    app.command("status")(status)
    app.command("down")(down)
    app.command("demo")(demo)
    app.command("demo-reset")(demo_reset)


def up(
    files: Files = None,
    *,
    detach: Annotated[bool, typer.Option(help="Run in the background; return when everything is ready.")] = False,
    port: Port = 8000,
    kafka: Annotated[str | None, typer.Option(help="An existing Kafka, host:port,… (default: start one).")] = None,
    registry: Annotated[str | None, typer.Option(help="An existing Schema Registry's URL (Confluent's API).")] = None,
    catalog: Annotated[
        str | None, typer.Option(help="An existing Iceberg catalog: http(s)://… (REST), postgresql+psycopg2://… (SQL).")
    ] = None,
    warehouse: Annotated[str | None, typer.Option(help="Where an existing catalog keeps its data, a URI.")] = None,
    kafka_port: Annotated[
        int | None, typer.Option(help="Port of the Kafka that is started; default: a free one.")
    ] = None,
    registry_port: Annotated[int | None, typer.Option(help="Port of the registry that is started.")] = None,
    kafka_heap: Annotated[
        str, typer.Option(help="Memory limit of the Kafka that is started, as Java writes it.")
    ] = "512m",
) -> None:
    """Start the platform on this machine: Kafka, registry, catalog, and what the resources ask for. Ctrl-C stops it."""
    without_extras()
    from k2_local import background, manifests, show, state
    from k2_local.services.parts import Wishes
    from k2_local.up import Up

    state.refuse_running(_data_dir())  # in the background it would be said by the process and by who waits for it
    _refuse_taken({"--port": port, "--kafka-port": kafka_port, "--registry-port": registry_port})
    paths = files or manifests.sample_paths()
    wishes = Wishes(kafka, registry, catalog, warehouse, kafka_port, registry_port, kafka_heap)
    platform = Up(
        data_dir=_data_dir(),
        documents=manifests.read(paths),
        wishes=wishes,
        api_port=port,
        tell=_tell,
        on_ready=lambda state: show.ready(state, _data_dir()),
    )
    if not detach:
        platform.run()
        return
    platform.check()
    started = background.start(_data_dir(), [arg for arg in sys.argv[1:] if arg != "--detach"], _tell)
    show.ready(started, _data_dir(), detached=True)


def status(
    output: Annotated[Literal["table", "json"], typer.Option(help="How to show it.")] = "table",
) -> None:
    """Show what runs here: addresses, processes, readiness, logs, memory and disk. Exit code 1 when not all is ready."""
    from k2_local import show, state

    found = state.read(_data_dir())
    if found is None or not found.alive:
        _tell(f"Nothing runs in {_data_dir()}. Start it with `k2 up`.")
        raise typer.Exit(1)
    if output == "json":
        told = asdict(found) | {"api_url": found.serving_at, "usage": show.usage(found, _data_dir())}
        print(json.dumps(told, indent=2))
    else:
        show.status(found, _data_dir())
    raise typer.Exit(0 if found.ready else 1)


def down() -> None:
    """Stop what `k2 up` started in this data directory; the data stays."""
    from k2_local import background

    stopped = background.stop(_data_dir(), _tell)
    _tell("Stopped." if stopped else f"Nothing runs in {_data_dir()}.")


def demo(
    port: Annotated[int | None, typer.Option(help="Port of the query service; default: a free one.")] = None,
) -> None:
    """Show the platform at work in about a minute: start it, load a sample market, query it, check it, stop it."""
    from k2_local import demo as demonstration

    raise typer.Exit(demonstration.run(port))


def demo_reset(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep a part: data, logs or key. Can be given several times.")
    ] = None,
) -> None:
    """Delete what the demo left."""
    from k2_local import demo as demonstration

    found = demonstration.leftovers(keep or [])
    if not found:
        _tell("The demo has left nothing.")
        return
    for path, size in found:
        print(f"{'would delete' if dry_run else 'delete'} {path} ({size / 1e6:.1f} MB)")
    if dry_run:
        return
    if not yes and not typer.confirm("Delete these?"):
        raise typer.Exit(1)
    demonstration.delete([path for path, _ in found])


def _refuse_taken(asked: Mapping[str, int | None]) -> None:
    """Before the rest is imported: whoever is to choose another port should not wait for it."""
    from k2_local.host import ports, processes

    # What an earlier run of this directory has left is ended, and one that still runs is told of, where both are looked for.
    own = [record.pid for record in processes.read_records(_data_dir() / "run") if record.process()]
    for option, port in asked.items():
        if port:
            ports.refuse_taken(port, what=_LISTENERS[option], option=option, but_by=own)


def _data_dir() -> Path:
    return Settings().data_dir.absolute()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
