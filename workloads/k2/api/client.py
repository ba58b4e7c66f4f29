"""The same questions against a running service (`Remote`) or straight against the catalog (`Local`): the same answers.

Rows are Arrow tables, everything else the JSON objects of the API (`bodies.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import httpx
import pyarrow as pa
import pyarrow.ipc as pa_ipc
from pydantic import BaseModel, ValidationError

from k2.api import bodies
from k2.api.aggregates import asof_envelope, asof_query, bars_envelope, bars_query
from k2.api.params import EventsParams, SnapshotsParams, StatsParams, SummaryParams, SymbolsParams
from k2.api.params_aggregates import AsofParams, BarsParams
from k2.api.selection import asked_for
from k2.api.streaming import ending_of
from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.cursor import Cursor, ReplayQuery
from k2.query.pace import Pace
from k2.query.player import Player
from k2.query.requests import At, EventsQuery, SummaryQuery, Window, check_symbol, exchange_code, parse_date

_TIMEOUT_SECONDS = 120.0

P = TypeVar("P", bound=BaseModel)

Params = Mapping[str, str | int | None]
"""Parameters by their names in the API; None is absent."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Events, and what the API says beside them (more, snapshot_id, complete_until, note)."""

    rows: pa.Table
    envelope: dict[str, Any]


class Client(Protocol):
    """What can be asked, of either."""

    def events(self, data_type: DataType, params: Params) -> Rows: ...  # noqa: D102
    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]: ...  # noqa: D102
    def bars(self, symbol: str, params: Params) -> Rows: ...  # noqa: D102
    def asof(self, params: Params) -> Rows: ...  # noqa: D102
    def symbols(self, params: Params) -> dict[str, Any]: ...  # noqa: D102
    def stats(self, params: Params) -> dict[str, Any]: ...  # noqa: D102
    def snapshots(self, params: Params) -> dict[str, Any]: ...  # noqa: D102


class Remote:
    """A client of the service at `settings.api_url`. Close it, or use it as a context manager."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        if not settings.api_url:
            raise UserError(
                "The query service's address is not known",
                expected="--url, K2_API_URL, or platform.yaml",
                remedy="Start a platform with `k2 up`, or ask the catalog itself with --local",
            )
        self._url = settings.api_url.rstrip("/")
        key = settings.api_key.get_secret_value() if settings.api_key else None
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=_TIMEOUT_SECONDS, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def events(self, data_type: DataType, params: Params) -> Rows:
        """Trades or quotes."""
        return self._rows(f"/v1/{data_type.value}", params)

    def bars(self, symbol: str, params: Params) -> Rows:
        """OHLCV, VWAP and TWAP of each bucket of time."""
        return self._rows(f"/v1/bars/{_segment(check_symbol(symbol))}", params)

    def asof(self, params: Params) -> Rows:
        """Trades with the quotes that prevailed."""
        return self._rows("/v1/asof", params)

    def _rows(self, path: str, params: Params) -> Rows:
        reply = self._get(path, {**params, "format": "arrow"})
        rows, ending = _arrow(reply.content)
        envelope = {
            "count": rows.num_rows,
            "more": reply.headers.get("K2-More") == "true",
            "snapshot_id": reply.headers.get("K2-Snapshot-Id"),
            "snapshot_time": reply.headers.get("K2-Snapshot-Time"),
            "complete_until": reply.headers.get("K2-Complete-Until"),
            **json.loads(reply.headers.get("K2-Sources", "{}")),
        }
        note = reply.headers.get("K2-Note")
        return Rows(rows, envelope | ({"note": note} if note else {}) | ending | {"count": rows.num_rows})

    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]:
        """OHLCV and VWAP of a trading date."""
        path = f"/v1/summary/{_segment(check_symbol(symbol))}/{parse_date(date, 'date').isoformat()}"
        return self._get(path, params).json()

    def symbols(self, params: Params) -> dict[str, Any]:
        """Every symbol of a table."""
        return self._get("/v1/symbols", params).json()

    def stats(self, params: Params) -> dict[str, Any]:
        """Size and reach of the tables."""
        return self._get("/v1/stats", params).json()

    def snapshots(self, params: Params) -> dict[str, Any]:
        """Retained snapshots of a table."""
        return self._get("/v1/snapshots", params).json()

    def _get(self, path: str, params: Params) -> httpx.Response:
        given = {name: value for name, value in params.items() if value is not None}
        try:
            reply = self._http.get(path, params=given)
        except httpx.HTTPError as error:
            raise WorldError(
                f"The query service at {self._url} does not answer: {error}. Start it with `k2 up`, or ask the catalog "
                "itself with --local"
            ) from error
        if reply.is_success:
            return reply
        raise _error(reply)


class Local:
    """The same questions answered in this process, from the catalog of the settings."""

    def __init__(self, settings: Settings) -> None:
        from k2.api.app import open_questions

        self._questions, self._engine = open_questions(QueryConfig(), settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()

    def events(self, data_type: DataType, params: Params) -> Rows:
        """Trades or quotes."""
        query = _events_query(data_type, params)
        if not query.symbols:
            raise UserError("symbol is missing", expected="one or more symbols")
        found = self._questions.events(query)
        return Rows(found.rows, bodies.events_envelope(found))

    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]:
        """OHLCV and VWAP of a trading date."""
        given = _checked(SummaryParams, params)
        exchange = exchange_code(given.exchange)
        query = SummaryQuery(symbol, parse_date(date, "date"), exchange, given.at, given.session)
        return bodies.summary(self._questions.summary(query))

    def bars(self, symbol: str, params: Params) -> Rows:
        """OHLCV, VWAP and TWAP of each bucket of time."""
        query = bars_query((symbol,), _checked(BarsParams, params), QueryConfig().max_rows)
        found = self._questions.bars(query)
        return Rows(found.rows, bars_envelope(found, query))

    def asof(self, params: Params) -> Rows:
        """Trades with the quotes that prevailed."""
        found = self._questions.asof(asof_query(_checked(AsofParams, params), QueryConfig().max_rows))
        return Rows(found.rows, asof_envelope(found))

    def symbols(self, params: Params) -> dict[str, Any]:
        """Every symbol of a table."""
        given = _checked(SymbolsParams, params)
        found = self._questions.symbols(given.table, given.at, exchange_code(given.exchange))
        return {"data": [bodies.symbol(info) for info in found.symbols], **bodies.provenance(found.provenance)}

    def stats(self, params: Params) -> dict[str, Any]:
        """Size and reach of the tables."""
        at = At.parse(None, _checked(StatsParams, params).as_of)
        return {"tables": [bodies.stats(table) for table in self._questions.all_stats(at)]}

    def snapshots(self, params: Params) -> dict[str, Any]:
        """Retained snapshots of a table."""
        given = _checked(SnapshotsParams, params)
        return bodies.snapshots(self._questions.snapshots(given.table), given.limit)

    def play(self, data_types: Sequence[DataType], params: Params, pace: Pace, cursor: str | None) -> Player:
        """Quotes and trades in one order of events, given out when they are due; `cursor` goes on where one stood."""
        if cursor is not None:
            return Player(self._questions.replay_from(Cursor.decode(cursor)), pace)
        symbol = _text(params, "symbol")
        query = ReplayQuery(
            tuple(data_types),
            () if symbol is None else (symbol,),
            exchange_code(_text(params, "exchange")),
            Window.parse(_text(params, "start"), _text(params, "end")),
            dict.fromkeys(data_types, _at(params)),
        )
        return Player(self._questions.replay_merged(query), pace)

    def replay(self, data_type: DataType, params: Params) -> Iterator[pa.RecordBatch]:
        """All events that match, in event order, in batches; memory does not grow with their number."""
        return self._questions.replay(_events_query(data_type, params))


def _arrow(content: bytes) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of a stream, and what stands after them: a long answer knows only then whether there was more."""
    batches: list[pa.RecordBatch] = []
    ending: dict[str, Any] = {}
    with pa_ipc.open_stream(content) as reader:
        while True:
            try:
                batch, said = reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                return pa.Table.from_batches(batches, reader.schema), ending
            batches.append(batch)
            ending |= ending_of(said)


def _events_query(data_type: DataType, params: Params) -> EventsQuery:
    given = _checked(EventsParams, params)
    if given.page_token is not None:
        raise UserError("page_token is of a query service", expected="start, at the time of the last row")
    return asked_for(data_type, given)


def _checked(model: type[P], params: Params) -> P:
    """The parameters as the service checks them, or a `UserError`; what may be given several times may have commas."""
    given = {name: value for name, value in params.items() if value is not None}
    listed = {name: [str(given[name])] for name in ("symbols", "fields") if name in given}
    try:
        return model.model_validate(given | listed)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))} cannot be used", found=first["input"], expected=first["msg"]
        ) from None


def _at(params: Params) -> At:
    return At.parse(_text(params, "snapshot"), _text(params, "as_of"))


def _text(params: Params, name: str) -> str | None:
    value = params.get(name)
    return None if value is None else str(value)


def _segment(text: str) -> str:
    return httpx.URL("", params={"x": text}).query.decode().removeprefix("x=").replace("+", "%20")


def _error(reply: httpx.Response) -> Exception:
    try:
        detail = str(reply.json()["detail"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        detail = f"The query service answered {reply.status_code} {reply.reason_phrase}"
    if reply.status_code == 401:
        return UserError(detail, remedy="Set K2_API_KEY; `k2 up` leaves one in the data directory")
    if reply.is_client_error:
        return UserError(detail)
    return WorldError(f"{detail} (correlation id {reply.headers.get('X-Correlation-ID')})")
