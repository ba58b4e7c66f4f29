"""Which events are asked for, from parameters or a body. Pure."""

from __future__ import annotations

from k2.forms.parameters import DiffParams, EventsParams, NamesParams, QueryBody, SnapshotBody
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery, exchange_code

Asking = EventsParams | DiffParams | QueryBody | SnapshotBody
"""What a selection of events is asked for with."""


def asked_for(data_type: DataType, params: EventsParams | DiffParams) -> EventsQuery:
    """What the parameters alone ask for; a `UserError` when one of them cannot be used."""
    return query_of(data_type, symbols_of(params), listed(params.fields), params, params.at)


def query_of(
    data_type: DataType, symbols: tuple[str, ...], fields: tuple[str, ...], params: Asking, at: At
) -> EventsQuery:
    """The question about these symbols and fields that the rest of the parameters make; a `UserError` as above."""
    return EventsQuery(
        data_type,
        tuple(dict.fromkeys(symbols)),
        exchange_code(params.exchange),
        params.window,
        params.limit,
        at,
        tuple(dict.fromkeys(fields)),
        since=params.since if isinstance(params, DiffParams) else None,
    )


def symbols_of(params: NamesParams) -> tuple[str, ...]:
    """Those that were given one by one as they are, and those that were given with commas."""
    return (*(params.symbol or ()), *listed(params.symbols))


def listed(texts: list[str] | None) -> tuple[str, ...]:
    """Repeated parameters, each of which may be a list with commas."""
    return tuple(name for text in texts or () for name in text.split(",") if name)
