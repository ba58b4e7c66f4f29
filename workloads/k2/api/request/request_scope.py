"""One request on its way through the service: what is counted of it, and what is to be done when its answer begins and ends."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from k2.obs.tally import Tally
from k2.query.engine.caller import Caller

_SCOPE = "k2.visit"


@dataclass(slots=True)
class Visit:
    """A request, or a WebSocket from its opening to its end.

    Attributes:
        tally: what was read and given for it.
        caller: who waits for it.
        key_name: name of its API key, once known.
        headers: further headers of its answer.
        at_answer: called once, when the answer begins.
        at_end: called once, when the request is over, however it ends.
    """

    tally: Tally
    caller: Caller
    key_name: str | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    at_answer: list[Callable[[], None]] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)

    def answer_begins(self) -> None:
        """The first byte is about to be sent."""
        for call in self.at_answer:
            call()
        self.at_answer.clear()

    def end(self) -> None:
        """It is over."""
        for call in self.at_end:
            call()
        self.at_end.clear()


def visit_of(scope: MutableMapping[str, Any]) -> Visit:
    """The visit that a scope is of."""
    found: Visit = scope[_SCOPE]
    return found


def open_visit(scope: MutableMapping[str, Any], visit: Visit) -> None:
    """Let everything below find the visit."""
    scope[_SCOPE] = visit
