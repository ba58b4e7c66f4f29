"""The command `k2`: every part of the platform, put together. The only place that knows both data and control plane."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from k2 import (
    __version__,
    cli_audit,
    cli_dlq,
    cli_doctor,
    cli_feed,
    cli_keys,
    cli_load,
    cli_query,
    cli_run,
    cli_sink,
    cli_up,
    cli_upkeep,
)
from k2.model.errors import K2Error, UserError
from k2.obs.logging import structlog_to_logging

USER_ERROR, WORLD_ERROR, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="k2",
    help="Market data platform: ticks through Kafka into Iceberg, answered by DuckDB.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    cli_up,
    cli_load,
    cli_feed,
    cli_query,
    cli_keys,
    cli_sink,
    cli_audit,
    cli_dlq,
    cli_doctor,
    cli_upkeep,
    cli_run,
):
    part.register(app)


def _version(value: bool) -> None:
    if value:
        print(f"k2 {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del version


def run_app_with_errors(application: typer.Typer) -> None:
    """Run a command line; K2's own errors become one clear message on stderr and an exit code (2: the user's, 1: the world's)."""
    try:
        application()
    except K2Error as error:
        # As text: what stands in brackets in a message is no markup.
        message = Text.assemble(("error: ", "bold red"), str(error))
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(USER_ERROR if isinstance(error, UserError) else WORLD_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def main() -> None:
    """Entry point of `k2`."""
    structlog_to_logging()
    run_app_with_errors(app)
