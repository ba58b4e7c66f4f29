"""Which profile of an exchange a question has: the one that it names, or in regular sessions the exchange's default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from k2.model.errors import UserError
from k2.model.exchanges import Session, known, known_exchange
from k2.model.prints import Prints, UnknownProfileError, no_profile
from k2.model.topics import DataType

NONE = "none"
"""Said of a profile: all trades count, in regular sessions too."""


def with_profile(
    prints: Prints, profile: str | None, session: Session, exchange: str | None, data_types: Sequence[DataType]
) -> Prints:
    """The filters of a question with those of its profile, which hold for trades of the exchanges that have it.

    Args:
        prints: filters of its own.
        profile: a name, `none`, or None: the default of each exchange in the regular session, and none otherwise.
        session: which trades count by time.
        exchange: of the question; None: its answer may be of any.
        data_types: what is asked for.

    Raises:
        UnknownProfileError: the exchange has no such profile, or no exchange has.
        UserError: none of the data types is of trades.
    """
    if profile == NONE or (profile is None and session is not Session.REGULAR):
        return prints
    if DataType.TRADES not in data_types:
        if profile is None:
            return prints
        raise UserError(
            f"{' and '.join(each.value for each in data_types)} have no profiles",
            found=profile,
            expected="trades, which have",
            remedy="Ask for trades, or leave the profile out",
        )
    found = known_exchange(exchange) if exchange is not None else None
    markets = list(known().values()) if exchange is None else [] if found is None else [found]
    names = [(market, market.default_profile if profile is None else profile) for market in markets]
    of_each = [market.profile(name) for market, name in names if name is not None]
    chosen = tuple(replace(each, is_asked=profile is not None) for each in of_each if each is not None)
    if profile is not None and not chosen:
        if exchange is not None:
            raise no_profile(profile, exchange, [] if found is None else [name for name, _ in found.profiles])
        there = [f"{name} (of {market.code})" for market in markets for name, _ in market.profiles]
        raise UnknownProfileError(
            "No exchange has a profile of that name",
            found=profile,
            expected=f"{', '.join(there)}, or none" if there else "none: no exchange has profiles",
            remedy="Describe it under `exchanges` in the platform's settings (docs/exchanges.md)",
        )
    return (*prints, *chosen)


def profiles_described() -> str:
    """All profiles of all exchanges in one text: what a validator of an answer depends on beside the question."""
    return repr([(each.code, each.profiles, each.default_profile) for each in known().values() if each.profiles])
