"""The Python client: the same questions, typed, asked of a running service or straight of the catalog; see docs/python.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2.client.answer import Answer, TruncatedWarning
    from k2.client.asynchronous import AsyncAnswer, AsyncConnection, AsyncPlayback, connect_async
    from k2.client.connecting import connect
    from k2.client.connection import Connection
    from k2.client.pin import Pin
    from k2.client.protocol import Playback
    from k2.client.summary import DaySummary

__all__ = [
    "Answer",
    "AsyncAnswer",
    "AsyncConnection",
    "AsyncPlayback",
    "Connection",
    "DaySummary",
    "Pin",
    "Playback",
    "TruncatedWarning",
    "connect",
    "connect_async",
]
# The command line takes its client from in here and needs none of these: each is loaded when it is asked for.
_HOMES = {
    "Answer": "answer",
    "AsyncAnswer": "asynchronous",
    "AsyncConnection": "asynchronous",
    "AsyncPlayback": "asynchronous",
    "Connection": "connection",
    "DaySummary": "summary",
    "Pin": "pin",
    "Playback": "protocol",
    "TruncatedWarning": "answer",
    "connect": "connecting",
    "connect_async": "asynchronous",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'k2.client' has no attribute {name!r}")
    return getattr(import_module(f"k2.client.{_HOMES[name]}"), name)
