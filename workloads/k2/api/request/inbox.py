"""What a client sends: its request's body, within bounds, and then nothing until it goes away."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

MAX_BODY_BYTES = 10_000_000
_KEPT_BYTES = 4_096


class Inbox:
    """Stands before an app's `receive`.

    While an answer is worked out nobody else listens to the connection, so `gone` does: it waits until the client has left.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._sent_bytes = 0
        self._kept = bytearray()
        # A request without either header has no body: its one empty message may be read ahead.
        self._complete = asyncio.Event()
        if "content-length" not in headers and "transfer-encoding" not in headers:
            self._complete.set()
        self._ahead: deque[Message] = deque()
        self._left: asyncio.Event | None = None

    @property
    def beginning(self) -> str:
        """The first 4 KiB of the body, as far as the app has read it."""
        return self._kept.decode(errors="replace")

    async def receive(self) -> Message:
        """The app's `receive`.

        Raises:
            HTTPException: 413, the body is too large; what is left of it is not read.
        """
        if self._ahead:
            return self._ahead.popleft()
        if self._left is not None:
            await self._left.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            body: bytes = message.get("body", b"")
            self._sent_bytes += len(body)
            if self._sent_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, f"The body has more than {MAX_BODY_BYTES} bytes", {"Connection": "close"})
            self._kept += body[: _KEPT_BYTES - len(self._kept)]
            if not message.get("more_body", False):
                self._complete.set()
        return message

    async def gone(self) -> None:
        """Return when the client has left; before the body was read whole, it is the app that listens."""
        await self._complete.wait()
        self._left = asyncio.Event()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._left.set()
                return
            self._ahead.append(message)


def refusal(scope: Scope) -> tuple[int, str, str] | None:
    """Why a request's body is refused before a byte of it is read: status, kind and detail of the problem; None: it is not."""
    headers = Headers(scope=scope)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        # Unpacked, a few kilobytes may be gigabytes; a question is small as it is.
        return 415, "encoding", "The request's body has a Content-Encoding: send it as it is"
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return 413, "body", f"The body has {length} bytes: at most {MAX_BODY_BYTES} are read"
    return None
