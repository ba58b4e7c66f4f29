"""The questions answered in this process, from the catalog of the settings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any, Self, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from k2.client.answer import Answer
from k2.client.protocol import Params, SqlAsking, one_by_one
from k2.forms import audits, bodies
from k2.forms.aggregate_parameters import AggregationsBody, AsofParams
from k2.forms.aggregates import asof_envelope, asof_query, bars_envelope, bars_query
from k2.forms.calendars import CalendarParams, calendar_body
from k2.forms.companies import reference_envelope, reference_query
from k2.forms.lasts import LastParams, last_envelope, last_query
from k2.forms.own_sql import sql_envelope
from k2.forms.parameters import (
    AuditParams,
    DiffParams,
    EventsParams,
    LiveParams,
    PinBody,
    ReferenceParams,
    SnapshotsParams,
    StatsParams,
    SummaryParams,
    SymbolsParams,
)
from k2.forms.replay_parameters import StreamStart
from k2.forms.selection import asked_for
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.times import parse_date, parse_time
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.asked.pace import Pace
from k2.query.asked.requests import At, EventsQuery, SummaryQuery, exchange_code
from k2.query.asked.sql_requests import SqlQuery
from k2.query.events.player import Player
from k2.query.opening import open_own_sql, open_questions
from k2.query.own_sql import SqlAnswer

_BATCH_ROWS = 65_536
_TAKE_SECONDS = 1.0
_LISTS = ("symbol", "symbols", "fields", "conditions", "exclude_conditions", "company_id", "kind")

P = TypeVar("P", bound=BaseModel)


class Local:
    """The service's questions without the service. Close it, or use it as a context manager. Threads may share it.

    Args:
        settings: the catalog's; with `live` also Kafka's and the registry's.
        live: answers hold what is in the topics beyond the tables, as the service's do.
    """

    def __init__(self, settings: Settings, *, live: bool = False) -> None:
        if live:
            settings.kafka_config()
            settings.registry_config()
        config = _config(settings)
        self._questions, self._engine = open_questions(config, settings, live=live)
        self._sql = open_own_sql(config, settings, self._questions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sql.close()
        self._questions.close()
        self._engine.close()

    def events(self, data_type: DataType, params: Params) -> Answer:
        """Trades or quotes, oldest first; without a symbol: of all."""
        return self._streamed(
            asked_for(data_type, _checked(EventsParams, one_by_one(_unpaged(params))), self._questions)
        )

    def diff(self, params: Params) -> Answer:
        """What a table got between two snapshots."""
        given = _checked(DiffParams, one_by_one(_unpaged(params)))
        return self._streamed(asked_for(given.table, given, self._questions))

    def bars(self, symbols: tuple[str, ...], params: Params) -> Answer:
        """OHLCV, VWAP and TWAP of each bucket of time."""
        given = _checked(AggregationsBody, {**params, "symbols": list(symbols)})
        query = bars_query(symbols, given, QueryConfig().max_rows)
        found = self._questions.bars(query)
        return _whole(found.rows, bars_envelope(found, query))

    def asof(self, params: Params) -> Answer:
        """Trades with the quotes that prevailed."""
        given = _checked(AsofParams, one_by_one(params))
        found = self._questions.asof(asof_query(given, QueryConfig().max_rows, self._questions))
        return _whole(found.rows, asof_envelope(found))

    def last(self, params: Params) -> Answer:
        """The newest trade and quote of each symbol."""
        found = self._questions.last(last_query(_checked(LastParams, one_by_one(params))))
        return _whole(found.rows, last_envelope(found))

    def summary(self, symbol: str, date: str, params: Params) -> dict[str, Any]:
        """OHLCV and VWAP of a trading date."""
        given = _checked(SummaryParams, params)
        exchange = exchange_code(given.exchange)
        prints = given.prints_of(given.session, exchange)
        query = SummaryQuery(
            symbol, parse_date(date, "date"), exchange, given.at, given.session, prints, given.adjusting
        )
        return bodies.summary(self._questions.summary(query))

    def reference(self, params: Params) -> Answer:
        """What is known of companies: their symbols by date, dividends, splits and mergers."""
        given = _checked(ReferenceParams, one_by_one(params))
        found = self._questions.reference(reference_query(given, QueryConfig().max_rows))
        return _whole(found.rows, reference_envelope(found))

    def sql(self, query: str, params: Params, asking: SqlAsking) -> Answer:
        """The rows of a query in the asker's own SQL."""
        at = _checked(LiveParams, params).at
        if asking.limit is not None and asking.limit < 1:
            raise UserError("limit cannot be used", found=asking.limit, expected="1 or more")
        return _first(self._sql.ask(SqlQuery(query, at, asking.values, asking.frames), asking.told), asking.limit)

    def symbols(self, params: Params) -> dict[str, Any]:
        """Every symbol of a table."""
        given = _checked(SymbolsParams, params)
        found = self._questions.symbols(given.table, given.at, exchange_code(given.exchange))
        return {"data": [bodies.symbol(info) for info in found.symbols], **bodies.provenance(found.provenance)}

    def calendar(self, exchange: str, params: Params) -> dict[str, Any]:
        """Trading dates of an exchange, as this process knows it."""
        return calendar_body(exchange, _checked(CalendarParams, params), time.time_ns() // 1000)

    def stats(self, params: Params) -> dict[str, Any]:
        """Size and reach of the tables."""
        at = At.parse(None, _checked(StatsParams, params).as_of)
        return {"tables": [bodies.stats(table) for table in self._questions.all_stats(at)]}

    def snapshots(self, params: Params) -> dict[str, Any]:
        """Retained snapshots of a table."""
        given = _checked(SnapshotsParams, params)
        return bodies.snapshots(self._questions.snapshots(given.table), given.limit)

    def audit(self, params: Params) -> dict[str, Any]:
        """Whether every offset that a table records is in it once."""
        given = _checked(AuditParams, params)
        return audits.all_audited(self._questions.audits(given.table, given.sequences))

    def make_pin(self, body: Params) -> dict[str, Any]:
        """Fix the snapshots of several tables."""
        given = _checked(PinBody, body)
        return bodies.pin(self._questions.make_pin(given.tables, given.at, timedelta(seconds=given.ttl_seconds)))

    def pins(self) -> dict[str, Any]:
        """Pins that have not lapsed."""
        return bodies.pins(self._questions.pins())

    def delete_pin(self, pin: str) -> None:
        """Let go of a pin."""
        self._questions.delete_pin(pin)

    def replay(self, asked: Params) -> LocalPlayback:
        """Quotes and trades in one order of events, played in this process."""
        given = _checked(StreamStart, asked)
        replay = given.replay(self._questions, follow=given.follow)
        return LocalPlayback(Player(replay, given.pace), given.batch_rows or _BATCH_ROWS)

    def _streamed(self, query: EventsQuery) -> Answer:
        stream = self._questions.stream(query, batch_rows=_BATCH_ROWS)
        said = bodies.provenance(stream.provenance) | ({} if stream.note is None else {"note": stream.note})
        said |= {} if query.since is None else {"from_snapshot_id": str(query.since)}
        return Answer(stream.schema, stream.batches(), said, lambda: {"count": stream.rows, "more": bool(stream.last)})


class LocalPlayback:
    """A replay that is played in this process; see `Playback`."""

    def __init__(self, player: Player, most_rows: int) -> None:
        self._player = player
        self._most_rows = most_rows

    @property
    def cursor(self) -> str:
        """Where another replay goes on after the last batch that was taken."""
        return self._player.cursor.encode()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        while not self._player.ended:
            batch = self._player.take(_TAKE_SECONDS, self._most_rows)
            if batch is not None:
                return batch.rows
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pause(self) -> None:
        """Give nothing until `resume`."""
        self._player.pause()

    def resume(self) -> None:
        """Go on; the time of the pause does not count."""
        self._player.resume()

    def seek(self, time: str) -> None:
        """Go on from another time, in the same snapshots."""
        self._player.seek(parse_time(time, "time"))

    def change_pace(self, *, speed: float | None = None, rate: float | None = None) -> None:
        """Go on at another pace from where it stands."""
        self._player.change_pace(Pace(speed, rate))

    def close(self) -> None:
        """Stop reading."""
        self._player.close()


def _config(settings: Settings) -> QueryConfig:
    try:
        return QueryConfig.model_validate({str(data_type): names for data_type, names in settings.tables.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"The tables of {where} cannot be used", found=first["input"], expected=first["msg"]) from None


def _whole(rows: pa.Table, envelope: dict[str, Any]) -> Answer:
    return Answer(rows.schema, iter(rows.to_batches()), envelope)


def _first(found: SqlAnswer, limit: int | None) -> Answer:
    """So many of its rows; None: all. What runs for the others is stopped."""
    said: dict[str, Any] = {"count": 0, "more": False}

    def batches() -> Iterator[pa.RecordBatch]:
        with closing(found.rows.batches) as rows:
            for batch in rows:
                kept = batch if limit is None else batch.slice(0, limit - said["count"])
                said["count"] += kept.num_rows
                if kept.num_rows:
                    yield kept
                if kept.num_rows < batch.num_rows:
                    said["more"] = True
                    return

    return Answer(
        found.rows.schema, batches(), sql_envelope(found.sources), lambda: said, close=found.rows.batches.close
    )


def _unpaged(params: Params) -> Params:
    if params.get("page_token") is not None:
        raise UserError("page_token is of a query service", expected="start, at the time of the last row")
    return params


def _checked(model: type[P], params: Params) -> P:
    """The parameters as the service checks them, or a `UserError`; what may be given several times may have commas."""
    given: dict[str, Any] = {name: value for name, value in params.items() if value is not None}
    listed: Mapping[str, list[str]] = {name: [given[name]] for name in _LISTS if isinstance(given.get(name), str)}
    try:
        return model.model_validate({**given, **listed})
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))} cannot be used", found=first["input"], expected=first["msg"]
        ) from None
