"""`k2 sink …`: what a person decides for a sink that refused to go on."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from k2.model.errors import UserError
from k2.model.settings import settings


def register(app: typer.Typer) -> None:
    """Add the commands."""
    sink_app = typer.Typer(help="What a person decides for a sink that refused to go on.", no_args_is_help=True)
    sink_app.command("reset")(reset)
    sink_app.command("schemas")(schemas)
    app.add_typer(sink_app, name="sink")


def reset(
    table: Annotated[str, typer.Argument(help="The table, `namespace.name`.")],
    to_snapshot: Annotated[
        int | None, typer.Option(help="Take the offsets of this snapshot (the current one, after a rollback).")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The topic, for --forget and --skip-to-earliest.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="The topic was made anew: read it from its beginning.")
    ] = False,
    skip_to_earliest: Annotated[
        bool, typer.Option("--skip-to-earliest", help="Give up what retention deleted; counted as lost in the audit.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; each later audit tells it.")] = "",
    by: Annotated[str | None, typer.Option(help="Who decides (default: this user at this host).")] = None,
) -> None:
    """Decide where a sink goes on that refuses to (rolled-back table, topic made anew, retention). It waits, and goes on by itself.

    A sink of that topic that is at work all the same is to be stopped first.
    The table keeps who decided what, when and why; each later audit tells it.
    """
    from k2.bus.admin import beginning_offsets
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.proof.decisions import sign
    from k2.lake.proof.reset import forget_topic, reset_to_snapshot
    from k2.lake.proof.reset import skip_to_earliest as skip

    chosen = [to_snapshot is not None, forget, skip_to_earliest]
    if sum(chosen) != 1 or ((forget or skip_to_earliest) and topic is None):
        raise UserError(
            "k2 sink reset needs one decision",
            expected="--to-snapshot ID, or --topic T with --forget or with --skip-to-earliest",
        )
    env = settings()
    signed = sign(reason, by)
    loaded = load_table(open_catalog(env), table)
    if to_snapshot is not None:
        offsets = reset_to_snapshot(loaded, to_snapshot, signed)
    elif forget:
        offsets = forget_topic(loaded, topic or "", signed)
    else:
        offsets = skip(loaded, topic or "", beginning_offsets(env.kafka_config(), topic or ""), signed)
    Console(stderr=True).print(f"{table} now records: {offsets.to_json()}", highlight=False, soft_wrap=True)


def schemas(
    table: Annotated[str, typer.Argument(help="The table, `namespace.name`.")],
    topic: Annotated[str, typer.Option(help="The topic.")],
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Kept ids go on meaning what they always meant; the registry stays as it is now."),
    ] = False,
    take: Annotated[
        int | None,
        typer.Option(
            metavar="ID", help="Messages of this id that are not in the table yet mean what the registry says now."
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; each later audit tells it.")] = "",
    by: Annotated[str | None, typer.Option(help="Who decides (default: this user at this host).")] = None,
) -> None:
    """Show which schema ids a table keeps of a topic and what the registry says of them; or decide, where it has forgotten.

    The sink need not be stopped: it goes on by itself with what was decided. The table keeps who decided what, when and why.
    """
    from k2.bus.registry import Schemas
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.kept_schemas import ids_named
    from k2.lake.proof.decisions import sign
    from k2.lake.proof.schema_decisions import keep_schemas, standing, take_schema

    if keep and take is not None:
        raise UserError("k2 sink schemas takes one decision at a time", expected="--keep, or --take ID")
    env = settings()
    loaded = load_table(open_catalog(env), table)
    registry = Schemas(env.registry_config())
    said = Console(stderr=True)
    if take is not None:
        take_schema(loaded, topic, take, registry, sign(reason, by))
        said.print(f"{topic}: id {take} means what the registry says, from the recorded offsets on", highlight=False)
    elif keep:
        ids = keep_schemas(loaded, topic, registry, sign(reason, by))
        said.print(f"{topic}: {ids_named(ids)}: kept, whatever the registry says now", highlight=False)
    else:
        for schema_id, state in standing(loaded, topic, registry).items():
            print(f"{schema_id}: {state}")
