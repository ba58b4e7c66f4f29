"""Within what an id of the source's own names one event: a symbol for good, a day, the whole venue, or both.

Vendors number trades anew each day, or for all symbols of a venue together. What an id is unique within is part of what is
hashed (`k2.model.ids`).
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
    """A scope, and when its days begin by the clocks of the exchange: a fixed time, never a calendar's, which is corrected later."""

    scope: IdScope = IdScope.SYMBOL
    day_starts: time = time()

    @classmethod
    def of(cls, scope: str, day_starts: str | None) -> Self:
        """The rule of what a person wrote.

        Args:
            scope: one of `IdScope`.
            day_starts: HH:MM; None: midnight.

        Raises:
            UserError: there is no such scope or time, or a time is given for a scope without days.
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
        return cls(IdScope(scope), time.fromisoformat(day_starts or MIDNIGHT))

    @property
    def options(self) -> dict[str, str]:
        """What it adds to the options that a load is known by: nothing for the scope that all loads had before there were others."""
        if self.scope is IdScope.SYMBOL:
            return {}
        starts = {"day_starts": f"{self.day_starts:%H:%M}"} if self.scope.is_by_day else {}
        return {"id_scope": str(self.scope), **starts}
