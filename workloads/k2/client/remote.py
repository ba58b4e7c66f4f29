"""The questions asked of a running service. Needs neither a catalog nor an engine here: HTTP, WebSocket and Arrow.

Arrow, WebSockets and (for a command) the HTTP library are loaded by the first answer that needs them: many a command takes one
object of JSON and ends.
"""

from __future__ import annotations

import io
import json
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from k2.client.answer import Answer
from k2.client.brief_http import CORRELATION, BriefHttp, Reply
from k2.client.credentials import Credentials
from k2.client.errors import not_installed, refusal
from k2.client.protocol import Params, SqlAsking, one_by_one
from k2.forms.wire import ending_of
from k2.model.errors import K2Error, UserError, WorldError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.query.asked.requests import check_symbol

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

    from k2.client.remote_replay import RemotePlayback

ANSWER_SECONDS = 120.0
IDENTITY_SECONDS = 10.0
_PIECE_BYTES = 1 << 20


class Remote:
    """A client of the service at `settings.api_url`. Close it, or use it as a context manager. Threads may share it.

    `brief`: it asks one question or two and ends, so an object of JSON is asked for without the HTTP library.
    """

    def __init__(
        self, settings: Settings, *, transport: httpx.BaseTransport | None = None, brief: bool = False
    ) -> None:
        if not settings.api_url:
            raise UserError(
                "The query service's address is not known",
                expected="--url, K2_API_URL, or platform.yaml",
                remedy="Start a platform with `k2 up`, or ask the catalog itself with --local",
            )
        self._url = settings.api_url.rstrip("/")
        self._transport = transport
        self._making = threading.Lock()
        self._made: httpx.Client | None = None
        self._brief = BriefHttp.to(self._url) if brief else None
        if self._brief is None:
            base = self._http.base_url
            port = base.port or (443 if base.scheme == "https" else 80)
        else:
            port = self._brief.port
        self._credentials = Credentials(settings.api_key or None, self._url, port, self._proof)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            self._made.close()

    def events(self, data_type: DataType, params: Params) -> Answer:
        """Trades or quotes, oldest first; without a symbol: of all."""
        if params.get("symbol") is None and not params.get("symbols"):
            return self._rows(self._post(f"/v1/{data_type.value}/query", {**params, "format": "arrow"}))
        return self._rows(self._get(f"/v1/{data_type.value}", {**one_by_one(params), "format": "arrow"}))

    def diff(self, params: Params) -> Answer:
        """What a table got between two snapshots."""
        return self._rows(self._get("/v1/snapshots/diff", {**one_by_one(params), "format": "arrow"}))

    def bars(self, symbols: tuple[str, ...], params: Params) -> Answer:
        """OHLCV, VWAP and TWAP of each bucket of time."""
        body = {**params, "symbols": [check_symbol(symbol) for symbol in symbols], "format": "arrow"}
        return self._rows(self._post("/v1/aggregations", body))

    def asof(self, params: Params) -> Answer:
        """Trades with the quotes that prevailed."""
        return self._rows(self._get("/v1/asof", {**one_by_one(params), "format": "arrow"}))

    def last(self, params: Params) -> Answer:
        """The newest trade and quote of each symbol."""
        return self._rows(self._get("/v1/last", {**one_by_one(params), "format": "arrow"}))

    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]:
        """OHLCV and VWAP of a trading date."""
        return self._said("GET", "/v1/summary", {**params, "symbol": check_symbol(symbol), "date": date})

    def reference(self, params: Params) -> Answer:
        """What is known of companies: their symbols by date, dividends, splits and mergers."""
        return self._rows(self._get("/v1/reference", {**one_by_one(params), "format": "arrow"}))

    def sql(self, query: str, params: Params, asking: SqlAsking) -> Answer:
        """Refused: see docs/sql.md."""
        del query, params, asking
        raise UserError(
            "SQL is not asked of a service: DuckDB has no walls inside, and whoever writes SQL sees more than a key may",
            found=self._url,
            expected="a catalog that is read in this process",
            remedy="k2.connect(local=True), where `k2 up` or K2_CATALOG_PROPERTIES say which, or k2.connect(catalog={…}); "
            "on the command line: k2 sql",
        )

    def symbols(self, params: Params) -> dict[str, Any]:
        """Every symbol of a table."""
        return self._said("GET", "/v1/symbols", params)

    def calendar(self, exchange: str, params: Params) -> dict[str, Any]:
        """Trading dates of an exchange."""
        return self._said("GET", f"/v1/calendar/{quote(exchange, safe='')}", params)

    def stats(self, params: Params) -> dict[str, Any]:
        """Size and reach of the tables."""
        return self._said("GET", "/v1/stats", params)

    def snapshots(self, params: Params) -> dict[str, Any]:
        """Retained snapshots of a table."""
        return self._said("GET", "/v1/snapshots", params)

    def audit(self, params: Params) -> dict[str, Any]:
        """Whether every offset that a table records is in it once."""
        return self._said("GET", "/v1/audit", params)

    def make_pin(self, body: Params) -> dict[str, Any]:
        """Fix the snapshots of several tables."""
        return self._said("POST", "/v1/pins", body=body)

    def pins(self) -> dict[str, Any]:
        """Pins that have not lapsed."""
        return self._said("GET", "/v1/pins")

    def delete_pin(self, pin: str) -> None:
        """Let go of a pin."""
        self._object("DELETE", f"/v1/pins/{quote(pin, safe='')}")

    def replay(self, asked: Params) -> RemotePlayback:
        """Quotes and trades in one order of events, over the WebSocket /v1/stream."""
        from k2.client.remote_replay import RemotePlayback

        return RemotePlayback(self._url, self._credentials.headers, _given(asked))

    def _get(self, path: str, params: Params) -> httpx.Response:
        return self._send(self._http.build_request("GET", path, params=_given(params)))

    def _post(self, path: str, body: Params) -> httpx.Response:
        return self._send(self._http.build_request("POST", path, json=_given(body)))

    def _send(self, request: httpx.Request) -> httpx.Response:
        """The reply, whose body is to be read and closed."""
        request.headers.update(self._credentials.headers())
        try:
            reply = self._http.send(request, stream=True)
            if reply.is_success:
                return reply
            reply.read()
        except _httpx().HTTPError as error:
            raise self._silent(error) from error
        raise _error(_whole(reply))

    def _proof(self, nonce: str) -> str | None:
        """What the service answers to a nonce (`k2.model.identity`); None: it does not know the question."""
        asked = {"nonce": nonce}
        if self._brief is not None:
            try:
                reply = self._brief.ask("GET", "/identity", params=asked, seconds=IDENTITY_SECONDS)
            except (OSError, HTTPException) as error:
                raise self._silent(error) from error
        else:
            try:
                reply = _whole(self._http.get("/identity", params=asked, timeout=IDENTITY_SECONDS))
            except _httpx().HTTPError as error:
                raise self._silent(error) from error
        try:
            said = json.loads(reply.body)["proof"] if _is_success(reply.status) else None
        except (ValueError, KeyError, TypeError):
            return None
        return said if isinstance(said, str) else None

    def _silent(self, error: Exception) -> WorldError:
        return WorldError(
            f"The query service at {self._url} does not answer: {error}. Start it with `k2 up`, or ask the catalog "
            "itself with --local"
        )

    def _said(
        self, method: str, path: str, params: Params | None = None, *, body: Params | None = None
    ) -> dict[str, Any]:
        """An answer that is one object of JSON."""
        try:
            return json.loads(self._object(method, path, params, body))
        except ValueError:
            raise WorldError(f"What answers at {self._url} is no query service: the answer is not JSON") from None

    def _object(self, method: str, path: str, params: Params | None = None, body: Params | None = None) -> bytes:
        """The whole of an answer."""
        given, said = (None if each is None else _given(each) for each in (params, body))
        if self._brief is None:
            reply = self._send(self._http.build_request(method, path, params=given, json=said))
            try:
                return reply.read()
            except _httpx().HTTPError as error:
                raise self._broken(error) from error
            finally:
                reply.close()
        headers = self._credentials.headers()
        try:
            found = self._brief.ask(method, path, params=given, body=said, headers=headers, seconds=ANSWER_SECONDS)
        except IncompleteRead as error:
            raise self._broken(error) from error
        except (OSError, HTTPException) as error:
            raise self._silent(error) from error
        if not _is_success(found.status):
            raise _error(found)
        return found.body

    @property
    def _http(self) -> httpx.Client:
        """Made at the first question that needs it."""
        with self._making:
            made = self._made
            if made is None:
                # To read the authorities takes 30 ms, more than most questions do; without any, TLS would be refused, never
                # trusted.
                verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self._url.startswith("http://") else True
                library = _httpx()
                try:
                    made = self._made = library.Client(
                        base_url=self._url, timeout=ANSWER_SECONDS, transport=self._transport, verify=verify
                    )
                except (library.InvalidURL, ValueError) as error:
                    raise UserError("Not an address", found=self._url, expected=f"http://host:port ({error})") from None
            return made

    def _rows(self, reply: httpx.Response) -> Answer:
        import pyarrow as pa
        import pyarrow.ipc as pa_ipc

        envelope: dict[str, Any] = {
            "more": reply.headers.get("K2-More") == "true",
            "snapshot_id": reply.headers.get("K2-Snapshot-Id"),
            "snapshot_time": reply.headers.get("K2-Snapshot-Time"),
            "complete_until": reply.headers.get("K2-Complete-Until"),
            **json.loads(reply.headers.get("K2-Sources", "{}")),
        }
        note = reply.headers.get("K2-Note")
        try:
            reader = pa_ipc.open_stream(pa.PythonFile(io.BufferedReader(_Body(reply), _PIECE_BYTES), "r"))
        except _httpx().HTTPError as error:
            reply.close()
            raise self._broken(error) from error
        except pa.ArrowInvalid:
            reply.close()
            raise WorldError(f"What answers at {self._url} is no query service: the answer is not Arrow") from None
        ending: dict[str, Any] = {}

        def batches() -> Iterator[pa.RecordBatch]:
            rows = 0
            try:
                while True:
                    # A long answer knows only at its end whether there was more.
                    batch, said = reader.read_next_batch_with_custom_metadata()
                    ending.update(ending_of(said))
                    ending.pop("next_page", None)  # of requests; here an answer is as long as it was asked for
                    rows += batch.num_rows
                    yield batch
            except StopIteration:
                ending["count"] = rows
            except (_httpx().HTTPError, pa.ArrowInvalid, OSError) as error:
                raise self._broken(error, rows) from error

        return Answer(
            reader.schema, batches(), envelope | ({"note": note} if note else {}), lambda: ending, close=reply.close
        )

    def _broken(self, error: Exception, rows: int = 0) -> WorldError:
        return WorldError(f"The answer of the query service at {self._url} broke off after {rows:,} rows: {error}")


def _given(params: Params) -> dict[str, Any]:
    """What is said; a `UserError` where it is no text: a command line brings whatever bytes there are."""
    given = {name: value for name, value in params.items() if value is not None}
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.end]
        raise UserError("A parameter is no text", found=found, expected="characters") from None
    return given


class _Body(io.RawIOBase):
    """The body of a reply as a file, read while it comes."""

    def __init__(self, reply: httpx.Response) -> None:
        super().__init__()
        self._pieces = reply.iter_bytes()
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        taken = min(len(buffer), len(self._piece))
        buffer[:taken] = self._piece[:taken]
        self._piece = self._piece[taken:]
        return taken


def _httpx() -> Any:
    """The library, or a `UserError` where it is not installed."""
    try:
        import httpx
    except ImportError as missing:
        raise not_installed() from missing
    return httpx


def _whole(reply: httpx.Response) -> Reply:
    return Reply(reply.status_code, reply.reason_phrase, reply.headers.get(CORRELATION), reply.content)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _error(reply: Reply) -> K2Error:
    try:
        detail = str(json.loads(reply.body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"The query service answered {reply.status} {reply.reason}"
    if reply.status >= 500:
        detail = f"{detail.rstrip('.')} (correlation id {reply.correlation_id})"
    return refusal(reply.status, detail)
