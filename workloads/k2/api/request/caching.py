"""Validators of answers: what a snapshot holds never changes, so an answer is known by the question and its tables' snapshots.

`If-None-Match` is looked at before anything is read. Answers that hold more than a snapshot have no validator.
"""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256

from fastapi import Request, Response

from k2 import __version__
from k2.forms.formats import Format
from k2.lake.reader import TableMissingError
from k2.model.errors import WorldError
from k2.model.exchanges import said_digest
from k2.model.topics import DataType
from k2.query.asked.profiles import profiles_described
from k2.query.asked.requests import At, TableSnapshots
from k2.query.plan.provenance import Provenance
from k2.query.questions import Questions
from k2.query.rows.visibility import Sight

VARY = "Accept, X-API-Key"
REVALIDATE, CLOSED = "private, no-cache", "private, max-age=86400"


def headers(request: Request, questions: Questions, at: At, provenance: Provenance, form: Format) -> dict[str, str]:
    """`ETag`, `Cache-Control` and `Vary` of an answer."""
    if provenance.unconfirmed is not None:  # the same snapshot's answer is another one when the catalog is back
        return {"Vary": VARY, "Cache-Control": "no-store"}
    return _headers(request, questions, at, () if provenance.is_hybrid else provenance.pinned, form)


def unchanged(request: Request, questions: Questions, data_type: DataType, at: At, form: Format) -> Response | None:
    """304, where the client has the answer already; None: it has to be made. Raises as `Questions.answering` does."""
    known = request.headers.get("if-none-match")
    if known is None or questions.is_hybrid(at):
        return None
    try:
        snapshots = questions.answering(data_type, at)
    except TableMissingError:
        raise
    except WorldError:
        return None  # nobody can say now whether it is unchanged
    if not _have_data(snapshots):
        return None
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    if "*" not in tags and _etag(request, questions, snapshots, form).removeprefix("W/") not in tags:
        return None
    return Response(status_code=304, headers=_headers(request, questions, at, snapshots, form))


def _headers(request: Request, questions: Questions, at: At, snapshots: TableSnapshots, form: Format) -> dict[str, str]:
    found = {"Vary": VARY, "Cache-Control": CLOSED if _is_closed(at) else REVALIDATE}
    if _have_data(snapshots):
        found["ETag"] = _etag(request, questions, snapshots, form)
    return found


def _have_data(snapshots: TableSnapshots) -> bool:
    return any(found is not None for _, found in snapshots)


def _is_closed(at: At) -> bool:
    """Whether the same question gives the same answer for ever: a time may still lie in the current snapshot's reign."""
    return at.snapshot is not None or at.pin is not None or bool(at.tables and not at.ends)


def _etag(request: Request, questions: Questions, snapshots: TableSnapshots, form: Format) -> str:
    query = "&".join(sorted(request.url.query.split("&")))
    ids = ",".join(str(found) for _, found in snapshots)
    settings = (_described(questions.sight), said_digest(), profiles_described())
    parts = (__version__, request.url.path, query, form.value, ids, *settings)
    # Weak: compression changes the bytes, not the answer.
    return f'W/"{sha256(chr(10).join(parts).encode()).hexdigest()[:32]}"'


def _described(sight: Sight) -> str:
    """The same text in every process: sets have no order."""
    parts = (getattr(sight, each.name) for each in fields(sight))
    return repr([sorted(part) if isinstance(part, frozenset) else part for part in parts])
