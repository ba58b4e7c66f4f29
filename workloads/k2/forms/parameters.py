"""The parameters of the routes of /v1, with what the reference says of each."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from k2.forms.formats import Format
from k2.forms.print_parameters import PrintParams
from k2.model.adjusted import Adjusted
from k2.model.exchanges import Session
from k2.model.sequences import SequenceScope
from k2.model.times import DAY_SECONDS, parse_zone
from k2.model.topics import DataType
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.bar_requests import Dates, parse_period
from k2.query.asked.reference_requests import MOST_RECORDS
from k2.query.asked.requests import CURRENT, DEFAULT_LIMIT, MOST_ROWS, MOST_SYMBOLS, At, Window

EventTable = Literal[DataType.TRADES, DataType.QUOTES]
"""The tables that hold events of symbols."""

ReferenceKind = Literal["company", "dividend", "split", "merger"]

_LIMIT = "Most rows. More than the service's max_rows only in NDJSON, CSV, Parquet or as an Arrow stream."
_FIELDS = "Columns of the answer, in this order; default: all of the event."
_PAGE_TOKEN = "The next_page of an answer: goes on after its last row, in the same snapshot."  # noqa: S105
TIME = (
    "ISO 8601 (of tz, or UTC, when it has no offset), or a number since 1970 with its unit: 1394445600000000000ns, also us, ms and s; "
    "19 digits alone are nanoseconds."
)


DATE = "A trading date of the exchange (2014-03-10), in its own time zone, instead of start and end."


def as_text(value: str | int | None) -> str | None:
    """An instant or an id as it was given, in JSON as a number or a text."""
    return None if value is None else str(value)


class Params(BaseModel):
    """Parameters of a route; others are refused."""

    # A misspelt parameter must not be taken for an absent one: it would answer another question.
    model_config = ConfigDict(extra="forbid")


class ZonedParams(Params):
    """Parameters with times."""

    tz: str | None = Field(
        default=None,
        description="Time zone of times without an offset, such as Australia/Sydney; default: UTC.",
        examples=["Australia/Sydney"],
    )

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone; a `UserError` when there is none of that name."""
        return parse_zone(self.tz)


class DatesParams(ZonedParams):
    """Parameters that choose events by the exchange's own dates."""

    date: str | None = Field(default=None, description=DATE)
    last_date: str | None = Field(default=None, description="With date: the last of several trading dates.")
    session: Session = Field(
        default=Session.ALL, description="With date: all of it, or the exchange's regular session of each date."
    )


class AdjustedParams(Params):
    """Parameters of routes whose prices can be adjusted."""

    adjusted: Adjusted | None = Field(
        default=None,
        description="Prices and quantities adjusted by reference data as known at the snapshot: `splits` (and mergers), or `all`: "
        "prices for dividends too. Default: as they were traded.",
    )

    @property
    def adjusting(self) -> Adjusting | None:
        """How; None: not at all."""
        return None if self.adjusted is None else Adjusting(self.adjusted)


class PinnedParams(ZonedParams):
    """Parameters of routes whose answer comes from one snapshot."""

    snapshot: str | None = Field(
        default=None, description="Answer from this snapshot (an id from /v1/snapshots), of its table alone."
    )
    as_of: str | None = Field(default=None, description=f"Answer as was known at this time. {TIME}")
    pin: str | None = Field(default=None, description="Answer from the snapshot that this pin fixes (see /v1/pins).")
    format: Format | None = Field(default=None, description="Instead of the Accept header.")

    @property
    def at(self) -> At:
        """The snapshot that answers."""
        return At.parse(self.snapshot, self.as_of, self.pin, zone=self.zone)


class LiveParams(PinnedParams):
    """Parameters of routes whose answer may hold more than a snapshot."""

    hybrid: bool | None = Field(
        default=None,
        description="Whether the answer holds what is in the topics beyond the table's snapshot, each event once. Default: "
        "yes where the service knows of Kafka, and no with snapshot, as_of or pin.",
    )

    @property
    def at(self) -> At:
        """The snapshot that answers, and whether what came after it is asked for."""
        return At.parse(self.snapshot, self.as_of, self.pin, self.hybrid, self.zone)


class NamesParams(Params):
    """Parameters that name symbols: one, or several."""

    symbol: list[str] | None = Field(
        default=None,
        description="Symbol on its exchange, of any characters; several: repeated. Needed unless there are symbols.",
        examples=[["BHP"]],
    )
    symbols: list[str] | None = Field(
        default=None, description="Several symbols, none of which has a comma of its own: repeated, or with commas."
    )


class SelectionParams(NamesParams, DatesParams, PrintParams):
    """Parameters that choose events."""

    exchange: str | None = Field(
        default=None, description="Needed where the symbol is traded on several.", examples=["ASX"]
    )
    start: str | None = Field(default=None, description=f"First instant. {TIME}", examples=["2014-03-09T23:00:00Z"])
    end: str | None = Field(
        default=None, description=f"First instant no more. {TIME}", examples=["2014-03-10T06:00:00Z"]
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MOST_ROWS, description=_LIMIT)
    fields: list[str] | None = Field(
        default=None,
        description=f"{_FIELDS} Repeated, or with commas.",
        examples=[["timestamp,symbol,source_sequence"]],
    )
    page_token: str | None = Field(default=None, description=_PAGE_TOKEN)

    @property
    def period(self) -> Window | Dates:
        """When; a `UserError` when it is none."""
        return parse_period(self.start, self.end, self.date, self.last_date, self.zone)


class EventsParams(LiveParams, SelectionParams, AdjustedParams):
    """Parameters of /v1/trades and /v1/quotes."""


class DiffParams(SelectionParams):
    """Parameters of /v1/snapshots/diff."""

    table: EventTable = Field(default=DataType.TRADES, description="trades or quotes.")
    from_: str | None = Field(
        default=None, alias="from", description="The earlier snapshot, of the same table; needed on the first page."
    )
    to: str | None = Field(default=None, description="The later snapshot; default: the current one.")
    format: Format | None = Field(default=None, description="Instead of the Accept header.")

    @property
    def at(self) -> At:
        """The later snapshot: what is not in the table yet was not added to it."""
        return At.parse(self.to, None, None, hybrid=False)

    @property
    def since(self) -> int | None:
        """The earlier snapshot."""
        return At.parse(self.from_, None).snapshot


class WindowBody(DatesParams):
    """The part of a body that says when: texts, or numbers."""

    start: str | StrictInt | None = Field(
        default=None, description=f"First instant. {TIME}", examples=["2014-03-09T23:00:00Z"]
    )
    end: str | StrictInt | None = Field(
        default=None, description=f"First instant no more. {TIME}", examples=["2014-03-10T06:00:00Z"]
    )

    @property
    def period(self) -> Window | Dates:
        """When; a `UserError` when it is none."""
        return parse_period(as_text(self.start), as_text(self.end), self.date, self.last_date, self.zone)


class EventsBody(WindowBody, PrintParams):
    """Body of the routes that ask for events by POST."""

    symbols: list[str] = Field(
        default_factory=list, description="Any of these; none: all.", examples=[["BHP", "CBA"]], max_length=MOST_SYMBOLS
    )
    exchange: str | None = Field(default=None, description="Needed where a symbol is traded on several.")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MOST_ROWS, description=_LIMIT, examples=[100])
    fields: list[str] = Field(
        default_factory=list, description=_FIELDS, examples=[["timestamp", "symbol"]], max_length=100
    )
    page_token: str | None = Field(default=None, description=_PAGE_TOKEN)
    format: Format | None = Field(default=None, description="Instead of the Accept header.", examples=["json"])


class LiveBody(ZonedParams):
    """The part of a body that says which snapshot answers, of answers that may hold more than a snapshot."""

    snapshot: str | StrictInt | None = Field(default=None, description="Answer from this snapshot.")
    as_of: str | StrictInt | None = Field(default=None, description=f"Answer as was known at this time. {TIME}")
    pin: str | None = Field(default=None, description="Answer from the snapshot that this pin fixes.")
    hybrid: bool | None = Field(
        default=None, description="Whether with what is in the topics beyond the table's snapshot."
    )

    @property
    def at(self) -> At:
        """The snapshot that answers, and whether what came after it is asked for."""
        return At.parse(as_text(self.snapshot), as_text(self.as_of), self.pin, self.hybrid, self.zone)


class QueryBody(LiveBody, EventsBody, AdjustedParams):
    """Body of /v1/trades/query and /v1/quotes/query."""


class SnapshotBody(EventsBody, AdjustedParams):
    """Body of /v1/snapshots/{snapshot}/query."""

    table: EventTable = Field(default=DataType.TRADES, description="trades or quotes.")

    @property
    def at(self) -> At:
        """The path says it."""
        return CURRENT


class PinBody(Params):
    """Body of POST /v1/pins."""

    tables: list[DataType] = Field(
        default_factory=lambda: [DataType.TRADES, DataType.QUOTES],
        min_length=1,
        max_length=3,
        description="Whose snapshots are fixed; those that have none yet are left out.",
        examples=[["trades", "quotes"]],
    )
    as_of: str | StrictInt | None = Field(default=None, description=f"As was known at this time. {TIME}")
    snapshots: dict[DataType, str] = Field(
        default_factory=dict, description="Snapshots by table, where they are not the current ones."
    )
    ttl_seconds: int = Field(
        default=DAY_SECONDS,
        ge=60,
        le=30 * DAY_SECONDS,
        description="After so long the pin lapses: 1 minute to 30 days.",
        examples=[600],
    )

    @property
    def at(self) -> dict[DataType, At]:
        """Which snapshot of each table."""
        return {
            table: At.parse(self.snapshots.get(table), as_text(self.as_of), None, hybrid=False) for table in self.tables
        }


class SummaryParams(LiveParams, PrintParams, AdjustedParams):
    """Parameters of /v1/summary."""

    exchange: str | None = Field(default=None, description="Needed where the symbol is traded on several.")
    session: Session = Field(
        default=Session.ALL, description="All prints of the date, or those of the exchange's regular session."
    )


class NamedSummaryParams(SummaryParams):
    """Parameters of /v1/summary where no path says the symbol and the date."""

    symbol: str = Field(description="Symbol on its exchange, of any characters.", examples=["BHP"])
    date: str = Field(description="A date of the exchange's own calendar.", examples=["2014-03-10"])


class SymbolsParams(PinnedParams):
    """Parameters of /v1/symbols."""

    table: EventTable = Field(default=DataType.TRADES, description="trades or quotes.")
    exchange: str | None = Field(default=None, description="Only symbols of this exchange.")


class DateRangeParams(SymbolsParams):
    """Parameters of /v1/date-range."""

    symbol: str = Field(description="Symbol on its exchange.", examples=["BHP"])


class ReferenceParams(LiveParams, NamesParams):
    """Parameters of /v1/reference."""

    symbol: list[str] | None = Field(
        default=None,
        description="Of the companies that have or had this symbol; several: repeated. Neither symbols nor company ids: all.",
        examples=[["BHP"]],
    )
    company_id: list[str] | None = Field(
        default=None, description="Of the company with this id; several: repeated.", examples=[["7078"]]
    )
    kind: list[ReferenceKind] | None = Field(
        default=None, description="company, dividend, split or merger; several: repeated. Default: all."
    )
    exchange: str | None = Field(default=None, description="Only records of this exchange.", examples=["ASX"])
    date: str | None = Field(
        default=None,
        description="A symbol means the company that it belonged to on this date, and records of companies are those that "
        "hold on it.",
        examples=["2014-03-10"],
    )
    history: bool = Field(
        default=False,
        description="Also the records that newer ones took the place of; the column superseded tells which.",
    )
    limit: int = Field(default=MOST_RECORDS, ge=1, le=MOST_ROWS, description="Most records.")


class StatsParams(Params):
    """Parameters of /v1/stats."""

    as_of: str | None = Field(default=None, description=f"As was known at this time. {TIME}")


class SnapshotsParams(Params):
    """Parameters of /v1/snapshots."""

    table: DataType = Field(default=DataType.TRADES, description="trades, quotes, reference_data or gaps.")
    limit: int = Field(default=100, ge=1, le=10_000, description="Most snapshots, newest first.")


class AuditParams(Params):
    """Parameters of /v1/audit."""

    table: DataType | None = Field(
        default=None, description="trades, quotes, reference_data or gaps; default: all that are there."
    )
    sequences: SequenceScope | None = Field(
        default=None,
        description="Also which numbers of the source's own sequence are missing or there twice, by trading day: "
        "`symbol`, where each symbol's events are numbered for themselves, `exchange`, where those of all symbols are "
        "numbered together; `symbol-continuous` and `exchange-continuous`, where the numbers go on over midnight. Reads all rows' numbers once per snapshot.",
    )


class DeadLettersParams(Params):
    """Parameters of /v1/dead-letters."""

    topic: str = Field(
        description="The feed's topic, or its dead-letter topic.", examples=["market.equities.trades.asx"]
    )
    reason: str | None = Field(
        default=None, description="A class of reasons, or a part of the reason's text, in any case."
    )
    limit: int = Field(
        default=1_000, ge=1, le=10_000, description="Most messages that are looked at in each partition, the newest."
    )
