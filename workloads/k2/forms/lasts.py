"""The newest trade and quote of symbols: parameters, the question that they make, and what stands beside its rows."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from k2.forms import bodies
from k2.forms.parameters import LiveParams, NamesParams
from k2.forms.selection import symbols_of
from k2.model.errors import UserError
from k2.query.aggregates.lasts import Last
from k2.query.asked.last_requests import LastQuery
from k2.query.asked.requests import check_symbols, exchange_code


class LastParams(LiveParams, NamesParams):
    """Parameters of /v1/last."""

    exchange: str | None = Field(
        default=None, description="Needed where a symbol is traded on several.", examples=["ASX"]
    )


def last_query(params: LastParams) -> LastQuery:
    """The question, or a `UserError`."""
    symbols = symbols_of(params)
    if not symbols:
        raise UserError("No symbol is given", expected="symbol, or symbols")
    check_symbols(symbols)
    return LastQuery(tuple(dict.fromkeys(symbols)), exchange_code(params.exchange), params.at)


def last_envelope(found: Last) -> dict[str, Any]:
    """What stands beside the rows; `quotes` says from where the quotes are."""
    return {
        "count": found.rows.num_rows,
        "more": False,
        **bodies.provenance(found.provenance),
        "quotes": None if found.quotes is None else bodies.provenance(found.quotes),
        **({} if found.note is None else {"note": found.note}),
    }
