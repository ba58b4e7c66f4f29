"""What a feed decides of its events, beyond what every event must be: which prices there are, and when two rows are one event.

A sink records its rules beside its offsets (`k2.lake.offsets`): so a tail judges in the same way what no table has yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from k2.model.errors import UserError

TOLERANCE_US = 1_000_000
"""How far apart one event may be told, unless a feed says otherwise."""

FILE = "feeds.json"


class Prices(StrEnum):
    """Which prices the events of a feed may have. Sizes are above zero under either."""

    POSITIVE = "positive"
    ANY = "any"

    @property
    def options(self) -> dict[str, str]:
        """What it adds to the options that a load is known by: nothing for what all loads had before there was a choice."""
        return {} if self is Prices.POSITIVE else {"prices": str(self)}


TAKES_ANY = f"a feed with prices: {Prices.ANY} takes it"
"""What is said of a price that only the feed's setting refuses."""


@dataclass(frozen=True, slots=True)
class FeedRules:
    """A feed's rules.

    Attributes:
        prices: which prices there are.
        keeps_duplicates: an event whose id the table has becomes another row.
        tolerance_us: how far apart in time one event may be told.
    """

    prices: Prices = Prices.POSITIVE
    keeps_duplicates: bool = False
    tolerance_us: int = TOLERANCE_US

    def recorded(self) -> dict[str, Any]:
        """What is recorded of them: only what is other than usual, for it stands in every snapshot.

        The usual is part of the form, and stays: what was recorded yesterday must mean the same tomorrow.
        """
        told: dict[str, Any] = {}
        if self.prices is not Prices.POSITIVE:
            told["prices"] = str(self.prices)
        if self.keeps_duplicates:
            told["duplicates"] = "keep"
        if self.tolerance_us != TOLERANCE_US:
            told["tolerance_us"] = self.tolerance_us
        return told

    @classmethod
    def of_recorded(cls, told: Any) -> Self:
        """The inverse of `recorded`. What nothing is known of is usual, and so is what another version may have meant."""
        if not isinstance(told, Mapping):
            return cls()
        prices, tolerance = told.get("prices"), told.get("tolerance_us")
        return cls(
            Prices.ANY if prices == Prices.ANY else Prices.POSITIVE,
            told.get("duplicates") == "keep",
            tolerance if isinstance(tolerance, int) and tolerance >= 0 else TOLERANCE_US,
        )


def write_rules(data_dir: Path, rules: Mapping[str, FeedRules]) -> None:
    """Tell the loads of a data directory the rules of its topics (atomically: readers see the old or the new ones)."""
    draft = data_dir / f".{FILE}"
    draft.write_text(json.dumps({topic: each.recorded() for topic, each in sorted(rules.items())}, indent=1))
    draft.replace(data_dir / FILE)


def read_rules(data_dir: Path, topic: str) -> FeedRules:
    """The rules of a topic as the platform of the data directory was told them; the usual ones where nothing is said.

    Raises:
        UserError: the file cannot be read.
    """
    path = data_dir / FILE
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return FeedRules()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read", found=str(error), expected="what `k2 up` wrote") from error
    return FeedRules.of_recorded(told.get(topic) if isinstance(told, Mapping) else None)
