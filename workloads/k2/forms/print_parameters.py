"""The parameters that say which trades count, of every question about trades, with what the reference says of each."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.prints import MOST_CODES, PrintFilter, Prints, parse_amount
from k2.model.topics import DataType
from k2.query.asked.profiles import with_profile

Side = Literal["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]

_CODES = "Repeated, or with commas."


class PrintParams(BaseModel):
    """Which trades count. What is not given is no condition."""

    model_config = ConfigDict(extra="forbid")

    conditions: list[str | StrictInt] | None = Field(
        default=None,
        max_length=MOST_CODES,
        description=f"Only trades with at least one of these condition codes, as `trade_conditions` has them. {_CODES}",
    )
    exclude_conditions: list[str | StrictInt] | None = Field(
        default=None,
        max_length=MOST_CODES,
        description=f"Only trades with none of these condition codes. {_CODES}",
    )
    side: Side | None = Field(default=None, description="Only trades whose source says this side of the aggressor.")
    min_quantity: str | StrictInt | None = Field(
        default=None, description="Only trades of at least so many units: an exact decimal, 100 or 0.5."
    )
    max_quantity: str | StrictInt | None = Field(default=None, description="Only trades of at most so many units.")
    min_price: str | StrictInt | None = Field(
        default=None, description="Only trades at this price or above: an exact decimal, such as 36.75."
    )
    max_price: str | StrictInt | None = Field(default=None, description="Only trades at this price or below.")

    profile: str | None = Field(
        default=None,
        description="Only trades that this profile of their exchange lets through (docs/exchanges.md), or `none`. Default: in "
        "regular sessions the exchange's default profile, and none otherwise.",
    )

    def prints_of(
        self, session: Session, exchange: str | None, data_types: Sequence[DataType] = (DataType.TRADES,)
    ) -> Prints:
        """The filters and those of the profile; raises as `with_profile` does."""
        return with_profile(self.prints, self.profile, session, exchange, data_types)

    @property
    def prints(self) -> Prints:
        """The filters that hold together; a `UserError` when one cannot be used."""

        def amount(name: str) -> Decimal | None:
            said = getattr(self, name)
            return None if said is None else parse_amount(str(said), name)

        wanted = codes_of(self.conditions)
        if self.conditions is not None and not wanted:
            raise UserError("conditions names no code", expected="one or more, or no conditions at all")
        chosen = PrintFilter(
            conditions=wanted,
            exclude_conditions=codes_of(self.exclude_conditions),
            side=self.side,
            min_quantity=amount("min_quantity"),
            max_quantity=amount("max_quantity"),
            min_price=amount("min_price"),
            max_price=amount("max_price"),
        )
        return (chosen,) if chosen else ()


PRINT_PARAMETERS = tuple(PrintParams.model_fields)
"""Their names."""


def codes_of(given: list[str | int] | None) -> tuple[str, ...]:
    """Condition codes, each once: of a list, each member of which may be a list with commas."""
    return tuple(dict.fromkeys(code for each in given or () for part in str(each).split(",") if (code := part.strip())))


def told(prints: Prints) -> dict[str, Any]:
    """What an answer says of the trades that count in it: the question's filter, and the profile of each exchange."""
    own = [each.conditions_said() for each in prints if each.profile is None]
    profiles = {
        each.exchange: {"name": each.profile, **each.conditions_said()} for each in prints if each.profile is not None
    }
    return ({"filter": own[0]} if own else {}) | ({"profile": profiles} if profiles else {})
