"""`k2 upkeep …`: what is done for a table now and then, by hand or by a CronJob. docs/upkeep.md."""

from __future__ import annotations

import typer

from k2.cli_upkeep import bars, compaction, removal, restoring, scrubbing


def register(app: typer.Typer) -> None:
    """Add the commands."""
    upkeep_app = typer.Typer(
        help="Keep a table fast and small: by hand, or by the schedules of its IcebergTable.", no_args_is_help=True
    )
    upkeep_app.callback()(lambda: None)
    for command in (compaction.compact, removal.expire, removal.orphans, removal.metadata, scrubbing.scrub):
        name = command.__name__
        example = f"Example: k2 upkeep {name} --table market_data.trades --dry-run"
        upkeep_app.command(name, epilog=example)(command)
    example = "Example: k2 upkeep restore --table market_data.trades --all-damaged --dry-run"
    upkeep_app.command("restore", epilog=example)(restoring.restore)
    upkeep_app.command("bars", epilog=bars.EXAMPLE)(bars.bars)
    app.add_typer(upkeep_app, name="upkeep")
