"""A replay over the WebSocket /v1/stream. When the connection or the service dies it goes on where it stood, by its cursor."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pyarrow as pa
import pyarrow.ipc as pa_ipc

from k2.client.errors import not_installed, refusal
from k2.forms.wire import CURSOR, SUBPROTOCOL, TOO_MANY, TOO_SLOW
from k2.model.errors import UserError, WorldError

try:
    from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
    from websockets.sync.client import ClientConnection, connect
except ImportError as _missing:
    raise not_installed() from _missing

_OPEN_SECONDS, _CLOSE_SECONDS = 10.0, 2.0
# The service says something at least every 10 s: a connection that is silent for so long is dead.
SILENCE_SECONDS = 30.0
_MOST_FRAME_BYTES = 64 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# A cursor says all of the question; these are about how it is answered.
_BESIDE_CURSOR = ("type", "format", "batch_rows", "speed", "rate")


class RemotePlayback:
    """See `Playback`. One thread iterates; any may give commands.

    Args:
        url: of the service, http or https.
        headers: gives those of a connection that is to be made, the key's among them.
        asked: the first message of /v1/stream.
        patience_seconds: for so long it tries to connect again before it gives up.
    """

    def __init__(
        self,
        url: str,
        headers: Callable[[], dict[str, str]],
        asked: dict[str, Any],
        *,
        patience_seconds: float = 30.0,
    ) -> None:
        scheme, _, rest = url.partition("://")
        self._url = url
        self._address = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/v1/stream"
        self._headers = headers
        self._asked = {**asked, "type": "start", "format": "arrow"}
        self._patience = patience_seconds
        self._cursor: str | None = asked.get("cursor")
        self._closed = threading.Event()
        self._changed = threading.Lock()
        self._paused = False
        self._sought: str | None = None
        self._seeks = 0
        self._kept = contextlib.ExitStack()
        self._connection = self._opened()

    @property
    def cursor(self) -> str:
        """Where another replay goes on after the last batch that was taken."""
        assert self._cursor is not None
        return self._cursor

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        while not self._closed.is_set():
            try:
                message = self._connection.recv(timeout=SILENCE_SECONDS)
            except (ConnectionClosed, TimeoutError, OSError) as error:
                self._resume(error)
                continue
            if isinstance(message, str):
                self._heard(json.loads(message))
            elif not self._seeks:  # else it is of the place before
                return self._frame(message)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pause(self) -> None:
        """Give nothing until `resume`; what is on its way still comes."""
        with self._changed:
            self._paused = True
            self._say({"type": "pause"})

    def resume(self) -> None:
        """Go on; the time of the pause does not count."""
        with self._changed:
            self._paused = False
            self._say({"type": "resume"})

    def seek(self, time: str) -> None:
        """Go on from another time, in the same snapshots."""
        with self._changed:
            self._sought = time
            self._seeks += 1
            self._say({"type": "seek", "time": time})

    def change_pace(self, *, speed: float | None = None, rate: float | None = None) -> None:
        """Go on at another pace from where it stands."""
        with self._changed:
            self._asked |= {"speed": speed, "rate": rate}
            self._say({"type": "speed", "speed": speed, "rate": rate})

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._kept.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _frame(self, message: bytes) -> pa.RecordBatch:
        with pa_ipc.open_stream(message) as reader:
            batch = reader.read_next_batch()
            metadata = reader.schema.metadata or {}
        with self._changed:
            self._cursor = metadata[CURSOR].decode()
            self._sought = None
        return batch.replace_schema_metadata(None)

    def _heard(self, said: dict[str, Any]) -> None:
        if said["type"] == "end":
            self._cursor = said["cursor"]
            self.close()
        elif said["type"] == "error":
            self.close()
            raise refusal(said["status"], str(said["detail"]))
        elif said["type"] == "done" and said["command"] == "seek":
            with self._changed:
                self._seeks -= 1

    def _say(self, command: dict[str, Any]) -> None:
        """Send a command; when there is no connection it is given to the next one."""
        with contextlib.suppress(ConnectionClosed, OSError):
            self._connection.send(json.dumps(command))

    def _resume(self, lost: Exception) -> None:
        """Connect again and go on after the last batch that was taken."""
        if self._closed.is_set():
            return
        said = lost.rcvd if isinstance(lost, ConnectionClosed) else None
        if said is not None and 4400 <= said.code < 4500 and said.code not in (TOO_SLOW, TOO_MANY):
            self.close()
            raise UserError(said.reason)
        deadline, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        self._kept.close()
        while not self._closed.wait(pause):
            try:
                with self._changed:
                    self._connection = self._opened()
                    self._seeks = 0
                    if self._sought is not None:
                        self._seeks = 1
                        self._say({"type": "seek", "time": self._sought})
                    if self._paused:
                        self._say({"type": "pause"})
            except WorldError as error:
                if time.monotonic() > deadline:
                    raise WorldError(
                        f"The replay broke off ({lost}), and for {self._patience:g} s it could not be resumed: {error}. "
                        f"Go on later with cursor={self._cursor!r}"
                    ) from error
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def _opened(self) -> ClientConnection:
        """A connection on which the replay has started."""
        with contextlib.ExitStack() as opened:
            try:
                connection = opened.enter_context(
                    connect(
                        self._address,
                        additional_headers=self._headers(),
                        subprotocols=[SUBPROTOCOL],  # pyright: ignore[reportArgumentType]
                        open_timeout=_OPEN_SECONDS,
                        close_timeout=_CLOSE_SECONDS,
                        max_size=_MOST_FRAME_BYTES,
                        compression=None,
                        # The service's heartbeats tell; pings would be lost among frames that nobody takes yet.
                        ping_interval=None,
                    )
                )
                # One that is refused may be closed already; what was said before that is received all the same.
                with contextlib.suppress(ConnectionClosed):
                    connection.send(json.dumps(self._first()))
                said = json.loads(connection.recv(timeout=SILENCE_SECONDS))
            except InvalidURI:
                raise UserError("Not an address", found=self._url, expected="http://host:port") from None
            except (WebSocketException, OSError, TimeoutError, ValueError) as error:
                raise WorldError(
                    f"The query service at {self._url} does not stream: {error}. Start it with `k2 up`"
                ) from error
            if said["type"] == "error":
                raise refusal(said["status"], str(said["detail"]))
            self._kept = opened.pop_all()
        self._cursor = self._cursor or said["cursor"]
        return connection

    def _first(self) -> dict[str, Any]:
        if self._cursor is None:
            return self._asked
        return {"cursor": self._cursor} | {name: self._asked[name] for name in _BESIDE_CURSOR if name in self._asked}
