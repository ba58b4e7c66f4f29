"""The Python client: the same questions, typed, asked of a running service or straight of the catalog; see docs/python.md."""

from k2.client.answer import Answer, TruncatedWarning
from k2.client.asynchronous import AsyncAnswer, AsyncConnection, AsyncPlayback, connect_async
from k2.client.connection import Connection, connect
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
