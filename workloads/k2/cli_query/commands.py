"""All commands of the queries under one name, and what their errors become."""

from __future__ import annotations

import copy
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.main import get_group

from k2.cli_query import aggregates, calendars, companies, events, pins, replays, tables
from k2.cli_query.options import examples
from k2.cli_query.printing import say
from k2.model.errors import K2Error, UserError

_USER_ERROR, _WORLD_ERROR, _INTERRUPTED = 2, 1, 130
_COLLECT_AFTER = 50_000

app = typer.Typer(
    name="k2-query",
    help="Ask the tables: events, bars, joins, summaries; what there is, what is whole, what changed; replay.",
    epilog=examples(
        "k2-query trades BHP --start 2014-03-09T23:00Z --limit 20",
        "k2-query bars BHP --interval 5m --date 2014-03-10 --session regular --chart",
        "k2-query summary BHP 2014-03-10 --output json",
        "k2-query quotes BHP --all --output csv > quotes.csv",
        "k2-query audit",
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (events, aggregates, companies, tables, calendars, pins, replays):
    part.register(app)


def register(parent: typer.Typer) -> None:
    """Add the commands as `k2 query …`, and `k2 sql`, which asks no service."""
    from k2.cli_query import own_sql  # `k2-query` does without it

    parent.add_typer(app, name="query")
    parent.command(epilog=own_sql.EXAMPLES)(own_sql.sql)


def main() -> None:
    """Entry point of `k2-query`: exit code 2 for what the user can mend, 1 for what the world did."""
    # To look for rubbish while some hundred modules are loaded takes a tenth of a command's start; plugins of pydantic, for
    # which every package that is installed would be asked, another.
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        _asked_for(sys.argv[1:])()
    except K2Error as error:
        say(f"error: {error}")
        sys.exit(_USER_ERROR if isinstance(error, UserError) else _WORLD_ERROR)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _asked_for(words: Sequence[str]) -> Callable[[], Any]:
    """The commands without those that are not asked for: to read the parameters of all takes as long as most questions do.

    Completion, help of all, and what is no command's name have all of them.
    """
    if words and not any(name.endswith("_COMPLETE") for name in os.environ):
        for command in app.registered_commands:
            if command.callback is not None and command.callback.__name__ == words[0]:
                alone = copy.copy(app)
                alone.registered_commands = [command]
                return get_group(alone)
    return app
