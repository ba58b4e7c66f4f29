"""Within what an id of the source's own names one event: a symbol for good, a day, the whole venue, or both; and in which space.

Vendors number trades anew each day, or for all symbols of a venue together; a venue numbers its trades, aggregate trades and
block trades apart. What an id is unique within is part of what is hashed (`k2.model.ids`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from typing import Self

from k2.model.errors import UserError

TIME_OF_DAY_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
MIDNIGHT = "00:00"
ID_SPACE_PATTERN = r"^[a-z][a-z0-9_-]{0,31}$"


class IdScope(StrEnum):
    """What an id of the source's own is unique within."""

    SYMBOL = "symbol"
    CIVIL_DAY = "civil_day"
    VENUE = "venue"
    VENUE_CIVIL_DAY = "venue_civil_day"

    @property
    def is_by_day(self) -> bool:
        """The same id on another day is another event."""
        return self in {IdScope.CIVIL_DAY, IdScope.VENUE_CIVIL_DAY}

    @property
    def is_by_symbol(self) -> bool:
        """The same id at another symbol is another event."""
        return self in {IdScope.SYMBOL, IdScope.CIVIL_DAY}


@dataclass(frozen=True, slots=True)
class IdRule:
    """What ids of a source are unique within.

    Attributes:
        scope: a symbol, a day, the venue.
        day_starts: when a day begins by the clocks of the exchange: a fixed time, never a calendar's, which is corrected later.
        space: which of a venue's number spaces they are of, such as `aggregate` or `block`; empty: the one that has no name.
    """

    scope: IdScope = IdScope.SYMBOL
    day_starts: time = time()
    space: str = ""

    @classmethod
    def of(cls, scope: str, day_starts: str | None, space: str | None = None) -> Self:
        """The rule of what a person wrote.

        Args:
            scope: one of `IdScope`.
            day_starts: HH:MM; None: midnight.
            space: a short name; None: the space without one.

        Raises:
            UserError: there is no such scope or time, a time is given for a scope without days, or the space is no name.
        """
        if scope not in set(IdScope):
            raise UserError("Unknown scope of ids", found=scope, expected=f"one of {', '.join(IdScope)}")
        if re.fullmatch(TIME_OF_DAY_PATTERN, day_starts or MIDNIGHT) is None:
            raise UserError("The start of a day is no time of day", found=day_starts, expected="HH:MM, such as 17:00")
        if day_starts is not None and not IdScope(scope).is_by_day:
            raise UserError(
                "A day's start is given, and ids are not by day",
                found=f"id scope {scope}",
                expected=f"{IdScope.CIVIL_DAY} or {IdScope.VENUE_CIVIL_DAY}",
            )
        if space is not None and re.fullmatch(ID_SPACE_PATTERN, space) is None:
            raise UserError(
                "The space of ids has no such name", found=space, expected="a short name such as aggregate or block"
            )
        return cls(IdScope(scope), time.fromisoformat(day_starts or MIDNIGHT), space or "")

    @property
    def options(self) -> dict[str, str]:
        """What it adds to the options that a load is known by: nothing for what all loads had before there was more."""
        scope = {} if self.scope is IdScope.SYMBOL else {"id_scope": str(self.scope)}
        starts = {"day_starts": f"{self.day_starts:%H:%M}"} if self.scope.is_by_day else {}
        return scope | starts | ({"id_space": self.space} if self.space else {})
