"""The client for asyncio: the same methods, awaited. The work is done in threads; the event loop is never kept waiting."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import pyarrow as pa

from k2.client.answer import Answer
from k2.client.connecting import connect
from k2.client.connection import Connection
from k2.client.pin import Pin
from k2.client.protocol import Playback
from k2.client.shape import PriceType, Progress

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

P = ParamSpec("P")
T = TypeVar("T")


class AsyncAnswer:
    """An `Answer`: `async for` its batches, or await all of them as Arrow, polars or pandas."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def schema(self) -> pa.Schema:
        """Of every batch."""
        return self._answer.schema

    @property
    def envelope(self) -> dict[str, Any]:
        """What the service says beside the rows; `count` and `more` are there once all are read."""
        return self._answer.envelope

    @property
    def snapshot_id(self) -> str | None:
        """The snapshot that the rows are from."""
        return self._answer.snapshot_id

    @property
    def complete_until(self) -> str | None:
        """Time of the newest event in the snapshot and the tail, ISO 8601."""
        return self._answer.complete_until

    @property
    def note(self) -> str | None:
        """Why there are no rows."""
        return self._answer.note

    def __repr__(self) -> str:
        return repr(self._answer)

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """The rows, in batches, once."""
        batches = iter(self._answer)
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch
        finally:
            await asyncio.to_thread(self._answer.close)

    async def arrow(self) -> pa.Table:
        """All rows."""
        return await asyncio.to_thread(self._answer.arrow)

    async def pl(self) -> pl.DataFrame:
        """All rows as polars has them."""
        return await asyncio.to_thread(self._answer.pl)

    async def df(self) -> pd.DataFrame:
        """All rows as pandas has them."""
        return await asyncio.to_thread(self._answer.df)

    async def close(self) -> None:
        """Read no more."""
        await asyncio.to_thread(self._answer.close)


class AsyncPlayback:
    """A `Playback`: `async for` its batches, each given when it is due."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    @property
    def cursor(self) -> str:
        """Where another replay goes on after the last batch that was taken."""
        return self._playback.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        batch = await asyncio.to_thread(next, self._playback, None)
        if batch is None:
            raise StopAsyncIteration
        return batch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def pause(self) -> None:
        """Give nothing until `resume`."""
        await asyncio.to_thread(self._playback.pause)

    async def resume(self) -> None:
        """Go on; the time of the pause does not count."""
        await asyncio.to_thread(self._playback.resume)

    async def seek(self, time: str) -> None:
        """Go on from another time, in the same snapshots."""
        await asyncio.to_thread(self._playback.seek, time)

    async def change_pace(self, *, speed: float | None = None, rate: float | None = None) -> None:
        """Go on at another pace from where it stands."""
        await asyncio.to_thread(self._playback.change_pace, speed=speed, rate=rate)

    async def close(self) -> None:
        """Stop reading."""
        await asyncio.to_thread(self._playback.close)


def _asked(method: Callable[Concatenate[Connection, P], T]) -> Callable[Concatenate[AsyncConnection, P], Awaitable[T]]:
    """The method, done in a thread."""

    @functools.wraps(method)
    async def ask(self: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.connection, *args, **kwargs)

    return ask


def _answered(
    method: Callable[Concatenate[Connection, P], Answer],
) -> Callable[Concatenate[AsyncConnection, P], Awaitable[AsyncAnswer]]:
    """The method, done in a thread; so is the reading of its rows."""

    @functools.wraps(method)
    async def ask(self: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncAnswer:
        return AsyncAnswer(await asyncio.to_thread(method, self.connection, *args, **kwargs))

    return ask


def _played(
    method: Callable[Concatenate[Connection, P], Playback],
) -> Callable[Concatenate[AsyncConnection, P], Awaitable[AsyncPlayback]]:
    @functools.wraps(method)
    async def ask(self: AsyncConnection, *args: P.args, **kwargs: P.kwargs) -> AsyncPlayback:
        return AsyncPlayback(await asyncio.to_thread(method, self.connection, *args, **kwargs))

    return ask


class AsyncConnection:
    """A `Connection` whose methods are awaited: see there for what they ask and take.

    Args:
        connection: what does the work.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection, or of the engine."""
        await asyncio.to_thread(self.connection.close)

    async def release(self, pin: Pin) -> None:
        """Let go of a pin's snapshots."""
        await asyncio.to_thread(pin.release)

    trades = _answered(Connection.trades)
    quotes = _answered(Connection.quotes)
    bars = _answered(Connection.bars)
    panel = _answered(Connection.panel)
    asof = _answered(Connection.asof)
    last = _answered(Connection.last)
    diff = _answered(Connection.diff)
    reference = _answered(Connection.reference)
    sql = _answered(Connection.sql)
    symbols = _answered(Connection.symbols)
    snapshots = _answered(Connection.snapshots)
    calendar = _answered(Connection.calendar)
    summary = _asked(Connection.summary)
    stats = _asked(Connection.stats)
    audit = _asked(Connection.audit)
    pin = _asked(Connection.pin)
    pins = _asked(Connection.pins)
    replay = _played(Connection.replay)


def connect_async(
    url: str | None = None,
    *,
    key: str | None = None,
    catalog: Mapping[str, str] | None = None,
    local: bool = False,
    live: bool = False,
    tables: Mapping[str, str | Sequence[str]] | None = None,
    price_type: PriceType = "decimal",
    progress: Progress = False,
) -> AsyncConnection:
    """`connect` for asyncio. Nothing is awaited, and nothing is asked, before the first question."""
    connection = connect(
        url,
        key=key,
        catalog=catalog,
        local=local,
        live=live,
        tables=tables,
        price_type=price_type,
        progress=progress,
    )
    return AsyncConnection(connection)
