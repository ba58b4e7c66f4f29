"""What is heard of an exchange: named symbols, or those that its listing has; checked before anything is subscribed to. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from k2.feeds.venues.venue import Instrument
from k2.model.amounts import HELD_BY_WIDE
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.sources import SYMBOL_PATTERN, SymbolSelection

_NEAREST = 3
_WRITABLE = re.compile(SYMBOL_PATTERN)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to hear, and what is to be told of it."""

    symbols: tuple[str, ...]
    currencies: Mapping[str, str]
    """Of every symbol that is listed."""
    left_out: Mapping[str, str]
    """Symbols that were asked for, or selected, and are not heard: why."""
    not_trading: Mapping[str, str]
    """Symbols that are heard and do not trade now: their status."""


def chosen(
    venue: str,
    asked: Sequence[str] | SymbolSelection,
    listed: Sequence[Instrument],
    decimals: Decimals,
    before: Collection[str] = (),
) -> Chosen:
    """Decide what is heard.

    Args:
        venue: its name, for messages.
        asked: symbols by name, or what they must be like.
        listed: what the exchange lists.
        decimals: of the tables.
        before: what has been heard until now. With nothing before, a name that is not listed is an error: the
            feed begins. Later it is one that was delisted or renamed.

    Raises:
        UserError: a name is not listed, or its prices do not fit the tables; nothing is selected.
    """
    by_name = {each.symbol: each for each in listed}
    currencies = {each.symbol: each.quote for each in listed}
    left_out: dict[str, str] = {}
    if isinstance(asked, SymbolSelection):
        names = _selected(asked, listed, before)
        if not names and not before:
            found = ", ".join(sorted({each.quote for each in listed})[:20])
            raise UserError(
                f"{venue} lists nothing that source.live.symbols selects",
                found=asked.model_dump(by_alias=True, exclude_none=True),
                expected=f"a quote currency of {found}, and a status that symbols have",
            )
    else:
        unknown = [name for name in asked if name not in by_name]
        if unknown and not before:
            raise UserError(
                f"{venue} does not list {_some(unknown)}",
                found=unknown[0],
                expected=_nearest(unknown[0], by_name),
                remedy="Write symbols as the exchange does, in source.live.symbols",
            )
        left_out |= dict.fromkeys(unknown, "is not listed any more")
        names = [name for name in asked if name in by_name]
    heard: list[str] = []
    for name in names:
        unfit = _unfit(by_name[name], decimals)
        if unfit is None or name in before:
            heard.append(name)
        elif isinstance(asked, SymbolSelection):
            left_out[name] = unfit
        else:
            raise UserError(f"{name} of {venue} {unfit}")
    halted = {name: by_name[name].status or "not trading" for name in heard if not by_name[name].trading}
    return Chosen(tuple(heard), currencies, left_out, halted)


def _selected(asked: SymbolSelection, listed: Sequence[Instrument], before: Collection[str]) -> list[str]:
    """Names that fit, those that are heard already first, then the most traded."""
    fit = [
        each
        for each in listed
        if (asked.quote is None or each.quote.upper() == asked.quote.upper())
        and (each.trading if asked.status is None else each.status.lower() == asked.status.lower())
        and _WRITABLE.fullmatch(each.symbol)
    ]
    at = {each.symbol: place for place, each in enumerate(fit)}
    fit.sort(key=lambda each: (each.symbol not in before, -(each.volume or Decimal(0)), at[each.symbol]))
    return [each.symbol for each in fit[: asked.limit]]


def _unfit(instrument: Instrument, decimals: Decimals) -> str | None:
    for what, step in (("price", instrument.tick), ("quantity", instrument.lot)):
        if step is None or not step:
            continue
        places = -int(step.normalize().as_tuple().exponent)
        if places > decimals.scale:
            held = HELD_BY_WIDE if places <= Decimals.WIDE.scale and decimals is Decimals.STANDARD else ""
            return f"has a {what} in steps of {step:f}, finer than the {decimals.scale} decimals of its table{held}"
    return None


def _nearest(name: str, known: Collection[str]) -> str:
    plain = {_plain(each): each for each in known}
    same = plain.get(_plain(name))
    near = [same] if same is not None else []
    near += [plain[each] for each in difflib.get_close_matches(_plain(name), list(plain), n=_NEAREST, cutoff=0.5)]
    near = list(dict.fromkeys(near))[:_NEAREST]
    return (
        " or ".join(near) if near else f"one of {len(known):,} symbols, such as {', '.join(sorted(known)[:_NEAREST])}"
    )


def _plain(name: str) -> str:
    """A symbol without its separators and case: what people get wrong."""
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NEAREST
    return ", ".join(names[:_NEAREST]) + (f" and {more} more" if more > 0 else "")
