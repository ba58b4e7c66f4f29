"""What could not become rows, over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from k2.api.request.admission import Asked
from k2.forms.letters import counted_body
from k2.forms.parameters import DeadLettersParams
from k2.model.topics import TopicName

router = APIRouter(prefix="/v1")


@router.get("/dead-letters", tags=["completeness"], summary="What of a topic could not become rows, by class of reason")
def dead_letters(service: Asked, params: Annotated[DeadLettersParams, Query()]) -> JSONResponse:
    """Counts the newest letters, each once, and shows the newest of each class; `complete` says whether there are older ones.

    Reasons may quote what came, so a key with rules for exchanges, symbols or days may not ask. One at a time.
    """
    topic = TopicName.parse(params.topic.removesuffix(".dlq"))
    return JSONResponse(counted_body(service.questions.dead_letters(topic, params.limit, params.reason)))
