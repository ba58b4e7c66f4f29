"""The way to an exchange: WebSockets and REST over TLS that is always verified, through a proxy where there is one. aiohttp lives here."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import aiohttp

from k2 import __version__
from k2.feeds.gaps.filling import LimitedError
from k2.feeds.venues.venue import Request
from k2.model.errors import UserError, WorldError

LARGEST_MESSAGE = 32 * 1024 * 1024
_CLOSING_SECONDS = 1.0
_REFUSED_PLACE = (451, 403)
_LIMITED = (429, 418)

if TYPE_CHECKING:
    Stream = aiohttp.ClientWebSocketResponse[Literal[False]]
else:
    Stream = aiohttp.ClientWebSocketResponse
"""An open WebSocket whose text comes as bytes."""


class RefusedPlaceError(WorldError):
    """The exchange does not serve the place that we ask from (451, 403)."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an exchange is, and how to get there.

    Attributes:
        venue: its name, for messages.
        stream_url: of the WebSockets, without a slash at the end.
        rest_url: of the REST interface, likewise.
        ca_file: PEM file of authorities to trust in place of the system's.
        proxy: URL of a proxy for both; None: what HTTPS_PROXY and NO_PROXY say.
    """

    venue: str
    stream_url: str
    rest_url: str
    ca_file: Path | None = None
    proxy: str | None = None


class Web:
    """A session with an exchange. Use as an asynchronous context manager, in one loop.

    Args:
        address: where.
        seconds: that opening a connection, or an answer, may take.

    Raises:
        UserError: the CA file cannot be used.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._tls = _trusting(address.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            trust_env=True,
            headers={"User-Agent": f"k2/{__version__}"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def open(self, path: str) -> Stream:
        """Open a WebSocket.

        Raises:
            RefusedPlaceError: 451 or 403.
            LimitedError: 429 or 418.
            WorldError: it cannot be opened.
        """
        assert self._session is not None
        url = self._address.stream_url.rstrip("/") + path
        try:
            return await self._session.ws_connect(
                _exact(url),
                max_msg_size=LARGEST_MESSAGE,
                decode_text=False,  # bytes as they came: what is no UTF-8 is one bad message, and not the end of the connection
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSING_SECONDS),  # pyright: ignore[reportCallIssue]
                proxy=self._address.proxy,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise self._refusal(error.status, dict(error.headers or {}), "", "a connection") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(url, error) from error

    async def get(self, request: Request) -> bytes:
        """The answer to a request.

        Raises:
            RefusedPlaceError: 451 or 403.
            LimitedError: 429 or 418.
            WorldError: there is none, or it is none of the interface.
        """
        assert self._session is not None
        url = self._address.rest_url.rstrip("/") + request.path
        try:
            async with self._session.get(
                _exact(url), headers=dict(request.headers), proxy=self._address.proxy
            ) as response:
                body = await response.read()
                if response.status != 200:
                    text = body[:200].decode("utf-8", "replace")
                    raise self._refusal(response.status, dict(response.headers), text, request.path)
                kind = response.content_type
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._unreachable(url, error) from error
        if kind == "text/html":
            raise WorldError(
                f"{self._address.venue} was asked for {request.path} and a web page came: found {body[:80]!r}. "
                "Look at the proxy between, and at source.live.urls"
            )
        return body

    def _refusal(self, status: int, headers: dict[str, str], text: str, asked: str) -> WorldError:
        venue, said = self._address.venue, f" ({text})" if text else ""
        if status in _REFUSED_PLACE:
            return RefusedPlaceError(
                f"{venue} refuses this place: HTTP {status} for {asked}{said}. "
                "Run the feed where the exchange serves, or set source.live.proxy"
            )
        if status in _LIMITED:
            after = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
            seconds = float(after) if after.isascii() and after.isdigit() else None
            again = "" if seconds is None else f", again after {after} s"
            return LimitedError(f"{venue} wants fewer requests: HTTP {status} for {asked}{again}", seconds)
        return WorldError(f"{venue} answered HTTP {status} for {asked}{said}")

    def _unreachable(self, url: str, error: Exception) -> WorldError:
        where = url.partition("?")[0]
        if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
            return WorldError(
                f"The certificate of {where} is not trusted ({error}). "
                "Name its authority in source.live.caFile, or mend source.live.urls"
            )
        if isinstance(error, TimeoutError):
            return WorldError(f"{where} did not answer within {self._seconds:g} s")
        return WorldError(f"{where} cannot be reached: {str(error) or type(error).__name__}")


def _exact(url: str) -> Any:
    """The URL as it is written: `!` and `@` in names of streams are not escaped."""
    from yarl import URL

    return URL(url, encoded=True)


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            "The file of authorities cannot be used", found=f"{ca_file} ({error})", expected="certificates in PEM"
        ) from error
