"""The options that say which trades count, shared by every command that asks for trades.

They are the same everywhere: a decorator adds them to a command, which gets what was typed as one dict.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from k2.cli_query.options import with_options

_PANEL = "Which trades"
_CODES = "(repeatable, or with commas)."


class TradeSide(StrEnum):
    """The sides that a source may say."""

    BUY = "BUY"
    SELL = "SELL"
    SELL_SHORT = "SELL_SHORT"
    UNKNOWN = "UNKNOWN"


def _amount(text: str) -> Any:
    return Annotated[str | None, typer.Option(help=text, metavar="DECIMAL", rich_help_panel=_PANEL)]


def _codes(text: str) -> Any:
    return Annotated[list[str] | None, typer.Option(metavar="A,B,…", help=f"{text} {_CODES}", rich_help_panel=_PANEL)]


Prints = dict[str, Any]
"""What was typed, by parameter of the API."""

NO_PRINTS: Prints = {}

OPTIONS: dict[str, Any] = {
    "conditions": _codes("Only trades with one of these condition codes"),
    "exclude_conditions": _codes("Only trades with none of these condition codes"),
    "side": Annotated[
        TradeSide | None,
        typer.Option(case_sensitive=False, help="Only trades of this side of the aggressor.", rich_help_panel=_PANEL),
    ],
    "min_quantity": _amount("Only trades of at least so many units."),
    "max_quantity": _amount("Only trades of at most so many units."),
    "min_price": _amount("Only trades at this price or above."),
    "max_price": _amount("Only trades at this price or below."),
    "profile": Annotated[
        str | None,
        typer.Option(
            metavar="NAME|none",
            help="Only trades that this profile of their exchange lets through (default: in regular sessions the exchange's "
            "default profile, otherwise none).",
            rich_help_panel=_PANEL,
        ),
    ],
}
"""By parameter of the API, what typer makes an option of."""


def with_prints(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options beside its own; its parameter `prints` gets them as parameters of the API."""

    def run(**given: Any) -> None:
        prints = {name: given.pop(name) for name in OPTIONS}
        command(**given, prints={name: value for name, value in prints.items() if value not in (None, [])})

    return with_options(command, run, OPTIONS, without="prints")
