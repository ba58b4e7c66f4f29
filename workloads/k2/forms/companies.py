"""Questions about reference data from the parameters of a request, and what stands beside their records. Pure."""

from __future__ import annotations

from typing import Any

from k2.forms import bodies
from k2.forms.parameters import ReferenceParams
from k2.forms.selection import symbols_of
from k2.model.errors import UserError
from k2.model.times import parse_date
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import exchange_code
from k2.query.reference.records import Reference


def reference_query(params: ReferenceParams, max_rows: int) -> ReferenceQuery:
    """The question, or a `UserError`; without a limit of its own it has the service's, where that is lower."""
    if "limit" in params.model_fields_set and params.limit > max_rows:
        raise UserError("limit is too large", found=params.limit, expected=f"at most {max_rows}")
    return ReferenceQuery(
        symbols=tuple(dict.fromkeys(symbols_of(params))),
        companies=tuple(dict.fromkeys(params.company_id or ())),
        kinds=tuple(dict.fromkeys(params.kind or ())),
        exchange=exchange_code(params.exchange),
        day=None if params.date is None else parse_date(params.date, "date"),
        history=params.history,
        limit=min(params.limit, max_rows),
        at=params.at,
    )


def reference_envelope(found: Reference) -> dict[str, Any]:
    """What stands beside the records."""
    return {
        "count": found.rows.num_rows,
        "more": found.more,
        **bodies.provenance(found.provenance),
        **({} if found.note is None else {"note": found.note}),
    }
