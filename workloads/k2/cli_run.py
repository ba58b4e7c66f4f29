"""`k2 run …`: one workload, as its pod runs it. Configuration from `K2_CONFIG_FILE`, addresses from `K2_*`."""

from __future__ import annotations

from typing import Annotated

import typer

from k2.model.exchanges import known
from k2.model.settings import Settings, settings
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig, read_config
from k2.obs.logging import configure_logging
from k2.obs.traces import traced
from k2.obs.without_extras import without_extras


def register(app: typer.Typer) -> None:
    """Add the commands."""
    run_app = typer.Typer(
        help="Run one workload, as its pod does (configuration: `K2_CONFIG_FILE`).", no_args_is_help=True
    )
    run_app.callback()(without_extras)
    run_app.command("producer")(producer)
    run_app.command("load")(load)
    run_app.command("sink")(sink)
    run_app.command("query")(query)
    app.add_typer(run_app, name="run")


def producer() -> None:
    """Bring a live source into its topics, until stopped."""
    from k2.feeds.run import run_producer

    env = _started()
    run_producer(env, read_config(env.config_file, ProducerConfig))


def load() -> None:
    """Bring a finite source into its topics, once."""
    from k2.feeds.run import run_load

    env = _started()
    run_load(env, read_config(env.config_file, ProducerConfig))


def sink(
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop when the table holds what the topic holds now.")
    ] = False,
) -> None:
    """Move one topic into one table, exactly once, until stopped."""
    from k2.sink.run import run_sink

    env = _started()
    config = read_config(env.config_file, SinkConfig)
    if until_end:
        config = config.model_copy(update={"until_end": True})
    with traced(env, "k2-sink"):
        run_sink(env, config)


def query() -> None:
    """Serve the REST API, until stopped."""
    from k2.api.serve import run_query

    env = _started()
    with traced(env, "k2-query"):
        run_query(env, read_config(env.config_file, QueryConfig))


def _started() -> Settings:
    """The settings; a file of exchanges that cannot be used ends the process now and not at some event."""
    env = settings()
    configure_logging(env)
    known()
    return env
