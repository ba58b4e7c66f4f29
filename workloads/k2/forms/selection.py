"""Which events are asked for, from parameters or a body. Pure."""

from __future__ import annotations

from k2.forms.parameters import DiffParams, EventsParams, NamesParams, QueryBody, SnapshotBody
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery, check_symbols, exchange_code
from k2.query.questions import Questions

Asking = EventsParams | DiffParams | QueryBody | SnapshotBody
"""What a selection of events is asked for with."""


def asked_for(data_type: DataType, params: EventsParams | DiffParams, questions: Questions) -> EventsQuery:
    """What the parameters alone ask for; a `UserError` when one of them cannot be used.

    `questions` say when trading dates are.
    """
    return query_of(data_type, params, params.at, questions)


def query_of(data_type: DataType, params: Asking, at: At, questions: Questions) -> EventsQuery:
    """The question that the parameters make of the rows at a snapshot; as above."""
    symbols, fields = (
        (symbols_of(params), listed(params.fields))
        if isinstance(params, NamesParams)
        else (tuple(params.symbols), tuple(params.fields))
    )
    check_symbols(symbols)
    exchange = exchange_code(params.exchange)
    return EventsQuery(
        data_type,
        tuple(dict.fromkeys(symbols)),
        exchange,
        questions.window_of({data_type: at}, symbols, exchange, params.period, params.session),
        params.limit,
        at,
        tuple(dict.fromkeys(fields)),
        since=params.since if isinstance(params, DiffParams) else None,
        prints=params.prints_of(params.session, exchange, (data_type,)),
        adjusted=None if isinstance(params, DiffParams) else params.adjusting,
    )


def symbols_of(params: NamesParams) -> tuple[str, ...]:
    """Those that were given one by one as they are, and those that were given with commas."""
    return (*(params.symbol or ()), *listed(params.symbols))


def listed(texts: list[str] | None) -> tuple[str, ...]:
    """Repeated parameters, each of which may be a list with commas."""
    return tuple(name for text in texts or () for name in text.split(",") if name)
