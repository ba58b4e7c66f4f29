"""A feed's account of gaps as a JSON object, and as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from k2.model.gaps import GapAccount, GapKind
from k2.model.missing import MissingRange
from k2.model.times import iso


def account_body(topic: str, account: GapAccount) -> dict[str, Any]:
    """What an account comes to, and all that it lists: what is open, unknown and unfillable, in this order."""
    counts = account.counts
    return {
        "topic": topic,
        "complete": is_complete(account),
        "as_of": _time(account.newest),
        "open": counts.open,
        "filled": counts.filled,
        "unfillable": counts.unfillable,
        "unknown": counts.unknown,
        "dead_lettered": counts.dead_lettered,
        "symbols": len(account.checked),
        "gaps": [*_open(account), *_unknown(account), *_unfillable(account)],
        "restarts": [
            {"symbol": each.symbol, "at": _time(each.at), "first": each.first, "last_before": each.last}
            for each in account.restarts
        ],
    }


def is_complete(account: GapAccount) -> bool:
    """Whether nothing that an exchange traded is missing, as far as the account goes back."""
    counts = account.counts
    return not (counts.open or counts.unfillable or counts.unknown)


def _open(account: GapAccount) -> list[dict[str, Any]]:
    found = [(symbol, each) for symbol, held in account.open.items() for each in held]
    return [_range("open", *each) for each in sorted(found, key=lambda each: each[1].since)]


def _unfillable(account: GapAccount) -> list[dict[str, Any]]:
    found = [(symbol, each) for symbol, held in account.unfillable.items() for each in held]
    return [_range(str(GapKind.UNFILLABLE), *each) for each in sorted(found, key=lambda each: each[1].since)]


def _unknown(account: GapAccount) -> Iterator[dict[str, Any]]:
    for each in sorted(account.unknown.values(), key=lambda each: each.after or 0):
        yield {
            "state": str(GapKind.UNKNOWN),
            "symbol": each.symbol,
            "first": None,
            "last": None,
            "trades": None,
            "after": _time(each.after),
            "before": _time(each.before),
            "since": _time(each.since),
            "reason": each.why,
        }


def _range(state: str, symbol: str, each: MissingRange) -> dict[str, Any]:
    return {
        "state": state,
        "symbol": symbol,
        "first": each.first,
        "last": each.last,
        "trades": each.count,
        "after": _time(each.after),
        "before": _time(each.before),
        "since": _time(each.since),
        "reason": each.why,
    }


def _time(micros: int | None) -> str | None:
    return None if micros is None else iso(micros)
