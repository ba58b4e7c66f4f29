"""The WebSocket /v1/stream: a replay that is played, in frames of JSON or Arrow, under the client's commands.

A client that reads slowly slows the replay down: nothing is kept for it but a frame or two. One that reads nothing for too
long is dropped, with a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.ipc as pa_ipc
from anyio import CancelScope, CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError

from k2.api.request import problems
from k2.api.request.admission import Service, known_key, service_of, take_turn
from k2.api.request.problems import UnauthorizedError
from k2.forms import bodies
from k2.forms.replay_parameters import StreamCommand, StreamStart
from k2.forms.text_columns import json_rows
from k2.forms.wire import BAD_MESSAGE, CURSOR, NORMAL, SUBPROTOCOL, TOO_MANY, TOO_SLOW
from k2.model.errors import K2Error, UserError
from k2.model.times import iso, parse_time
from k2.obs.logging import get_logger
from k2.obs.tally import count_rows
from k2.query.events.player import Player
from k2.query.events.replay import ReplayBatch
from k2.query.questions import Questions

_log = get_logger(__name__)

_HELLO_SECONDS = 10.0
_HEARTBEAT_SECONDS = 10.0
_TAKE_SECONDS = 0.25
_FRAMES_AHEAD = 2
# Frames stay under a mebibyte, which is the most that many clients take unless they are told otherwise.
_FRAME_ROWS = {"json": 1_000, "arrow": 2_048}
_MOST_COMMAND = 65_536
_LONGEST_REASON = 120

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many streams there may be at a time, and how long one may wait for its client."""

    most: int
    stall_seconds: float


class _DroppedError(Exception):
    """The stream ends with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


def stream_router(limits: StreamLimits) -> APIRouter:
    """The route, with the limits that all its streams share."""
    router = APIRouter(prefix="/v1")
    # Streams wait in threads: with threads of their own they never keep plain requests from one.
    threads = CapacityLimiter(limits.most)
    open_streams: set[object] = set()

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        service = service_of(websocket)
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        token = object()
        talk = _Talk(websocket, limits.stall_seconds, threads)
        try:
            questions = await _admitted(talk, service)
            if len(open_streams) < limits.most:
                open_streams.add(token)
                await _play(talk, questions)
            else:
                await talk.end(TOO_MANY, "There are as many streams as the service serves: try again later")
        except _DroppedError as dropped:
            await talk.end(dropped.code, dropped.reason)
        except K2Error as error:
            await talk.fail(error)
        except WebSocketDisconnect:
            pass
        finally:
            open_streams.discard(token)

    return router


async def _admitted(talk: _Talk, service: Service) -> Questions:
    """The questions as the client's key may ask them. The key is in the header, or in the first message (browsers)."""
    key = talk.websocket.headers.get("x-api-key")
    if key is None:
        said = await talk.receive(_HELLO_SECONDS)
        if said.get("type") != "auth" or not isinstance(said.get("key"), str):
            raise UnauthorizedError(
                "There is no API key",
                expected='the header X-API-Key, or {"type": "auth", "key": …} as the first message',
            )
        key = str(said["key"])
    known = known_key(service.keys, key)
    await take_turn(talk.websocket, service, known)
    return service.questions.seen_by(known.sight)


async def _play(talk: _Talk, questions: Questions) -> None:
    asked = _parsed(StreamStart, await talk.receive(_HELLO_SECONDS))
    replay = await talk.in_thread(lambda: asked.replay(questions, follow=asked.follow))
    player = Player(replay, asked.pace)
    start = replay.start
    await talk.say({"type": "started", **bodies.replay_snapshots(start), "cursor": start.encode()})
    frames: asyncio.Queue[_Frame | None] = asyncio.Queue(_FRAMES_AHEAD)
    place = _Place(replay.start.encode())
    tasks = [
        asyncio.create_task(_make(talk, player, asked, frames)),
        asyncio.create_task(_send(talk, player, frames, place)),
        asyncio.create_task(_obey(talk, player, place)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] in done and tasks[0].exception() is None:  # all is made: the rest is to be sent
            done, _ = await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        player.close()
        for task in tasks:
            task.cancel()
        # Shielded: who is cancelled once more while it waits would end with the cancellation of its tasks, not its own.
        with CancelScope(shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A message that is ready to be sent. `turn`: of which place, where the client seeks (see `Player.turn`)."""

    turn: int
    content: bytes | str
    rows: int
    cursor: str


@dataclass(slots=True)
class _Place:
    """Where to go on after the last frame that was sent, or is about to be. The player is ahead of it by the frames that were not."""

    cursor: str


async def _make(talk: _Talk, player: Player, asked: StreamStart, frames: asyncio.Queue[_Frame | None]) -> None:
    """Take what is due and make frames of it, a frame or two ahead of the sending."""
    encode: Callable[[ReplayBatch, str], bytes | str] = _arrow if asked.format == "arrow" else _json
    most = asked.batch_rows or _FRAME_ROWS[asked.format]

    def take() -> _Frame | None:
        batch = player.take(_TAKE_SECONDS, most)
        if batch is None:
            return None
        count_rows("replay", batch.rows.num_rows)
        cursor = batch.cursor.encode()
        return _Frame(batch.turn, encode(batch, cursor), batch.rows.num_rows, cursor)

    while not player.ended:
        made = await talk.in_thread(take)
        if made is not None:
            await frames.put(made)
    await frames.put(None)


async def _send(talk: _Talk, player: Player, frames: asyncio.Queue[_Frame | None], place: _Place) -> None:
    """Send the frames, and a heartbeat where there is none for a while."""
    rows = 0
    while True:
        try:
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                frame = await frames.get()
        except TimeoutError:
            now = iso(time.time_ns() // 1000)
            await talk.say({"type": "heartbeat", "time": now, "cursor": place.cursor, "rows": rows})
            continue
        if frame is None:
            await talk.say({"type": "end", "rows": rows, "cursor": player.cursor.encode()})
            await talk.end(NORMAL, "the replay is at its end")
            return
        if frame.turn == player.turn:
            place.cursor = frame.cursor  # before it is sent: what is said later comes after it
            await talk.send(frame.content)
            rows += frame.rows


async def _obey(talk: _Talk, player: Player, place: _Place) -> None:
    """Do what the client says, until it leaves or says stop."""
    while True:
        command = _parsed(StreamCommand, await talk.receive(None))
        answer: dict[str, Any] = {"type": "done", "command": command.type}
        if command.type == "pause":
            player.pause()
        elif command.type == "resume":
            player.resume()
        elif command.type == "speed":
            player.change_pace(command.pace)
        elif command.type == "seek":
            if command.time is None:
                raise UserError("seek has no time", expected='{"type": "seek", "time": …}')
            player.seek(parse_time(str(command.time), "time"))
            place.cursor = player.cursor.encode()
        else:
            await talk.say(answer | {"cursor": place.cursor})
            await talk.end(NORMAL, "stopped as asked")
            return
        await talk.say(answer)


@dataclass(slots=True)
class _Talk:
    """A client's connection: one message at a time, none of them waited for without end."""

    websocket: WebSocket
    stall_seconds: float
    threads: CapacityLimiter
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_over: bool = False

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work beside the event loop."""
        return await run_sync(work, limiter=self.threads, abandon_on_cancel=True)

    async def receive(self, within: float | None) -> dict[str, Any]:
        """The next message, a JSON object."""
        try:
            async with asyncio.timeout(within):
                text = await self.websocket.receive_text()
        except TimeoutError:
            raise _DroppedError(BAD_MESSAGE, f"No message came within {within:g} s") from None
        except KeyError:
            raise _DroppedError(BAD_MESSAGE, "A message was binary: commands are JSON text") from None
        try:
            said = json.loads(text) if len(text) <= _MOST_COMMAND else None
            # JSON can say half of a surrogate pair, which is no character: nothing could be answered with it.
            json.dumps(said, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise _DroppedError(BAD_MESSAGE, "A message was not a JSON object of at most 64 KiB")
        return said

    async def say(self, message: dict[str, Any]) -> None:
        """Send a JSON object."""
        await self.send(json.dumps(message, separators=(",", ":"), ensure_ascii=False))

    async def send(self, content: bytes | str) -> None:
        """Send a message; a client that takes nothing for too long is dropped."""
        websocket = self.websocket
        sending: Callable[[], Awaitable[None]] = (
            (lambda: websocket.send_text(content))
            if isinstance(content, str)
            else (lambda: websocket.send_bytes(content))
        )
        try:
            async with asyncio.timeout(self.stall_seconds), self._sending:
                await sending()
        except TimeoutError:
            raise _DroppedError(TOO_SLOW, f"Nothing was taken for {self.stall_seconds:g} s") from None

    async def fail(self, error: K2Error) -> None:
        """Say what went wrong, and end."""
        status, said = _described(error)
        with contextlib.suppress(_DroppedError, WebSocketDisconnect, RuntimeError):
            await self.say({"type": "error", **said})
        await self.end(4000 + status % 1000, said["detail"])

    async def end(self, code: int, reason: str) -> None:
        """Close the connection, once."""
        if self._is_over:
            return
        self._is_over = True
        if code == TOO_SLOW:
            _log.warning("stream.dropped", reason=reason)
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(1.0 if code == TOO_SLOW else self.stall_seconds):
                await self.websocket.close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))


def _parsed(model: type[M], said: dict[str, Any]) -> M:
    try:
        return model.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        raise UserError(f"{where} cannot be used", found=str(first.get("input"))[:100], expected=first["msg"]) from None


def _described(error: K2Error) -> tuple[int, dict[str, Any]]:
    """An error as its HTTP status and the members of its problem."""
    if isinstance(error, UnauthorizedError):
        return 401, {"title": "An API key is needed", "status": 401, "detail": str(error)}
    answer = problems.of_error(error, "/v1/stream")
    said: dict[str, Any] = json.loads(bytes(answer.body))
    return answer.status_code, {"problem": said.pop("type"), **said}


def _json(batch: ReplayBatch, cursor: str) -> str:
    rows = str(json_rows(batch.rows, ",")[:-1], "utf-8")
    return f'{{"type":"batch","count":{batch.rows.num_rows},"cursor":"{cursor}","rows":[{rows}]}}'


def _arrow(batch: ReplayBatch, cursor: str) -> bytes:
    schema = batch.rows.schema.with_metadata({CURSOR: cursor})
    sink = pa.BufferOutputStream()
    with pa_ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(batch.rows.columns, schema=schema))
    return sink.getvalue().to_pybytes()
