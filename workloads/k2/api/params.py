"""The parameters of the routes of /v1, with what the reference says of each."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from k2.api.formats import Format
from k2.model.topics import DataType
from k2.query.requests import DEFAULT_LIMIT, At

TIME = "ISO 8601 (UTC when it has no offset) or nanoseconds since 1970."


class Params(BaseModel):
    """Parameters of a route; others are refused."""

    # A misspelt parameter must not be taken for an absent one: it would answer another question.
    model_config = ConfigDict(extra="forbid")


class PinnedParams(Params):
    """Parameters of routes whose answer comes from one snapshot."""

    snapshot: str | None = Field(default=None, description="Answer from this snapshot (an id from /v1/snapshots).")
    as_of: str | None = Field(default=None, description=f"Answer as was known at this time. {TIME}")
    format: Format | None = Field(default=None, description="Instead of the Accept header.")

    @property
    def at(self) -> At:
        """The snapshot that answers."""
        return At.parse(self.snapshot, self.as_of)


class EventsParams(PinnedParams):
    """Parameters of /v1/trades and /v1/quotes."""

    symbol: str = Field(description="Symbol on its exchange.", examples=["BHP"])
    exchange: str | None = Field(
        default=None, description="Needed where the symbol is traded on several.", examples=["ASX"]
    )
    start: str | None = Field(default=None, description=f"First instant. {TIME}", examples=["2014-03-09T23:00:00Z"])
    end: str | None = Field(
        default=None, description=f"First instant no more. {TIME}", examples=["2014-03-10T06:00:00Z"]
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, description="Most rows.")


class SummaryParams(PinnedParams):
    """Parameters of /v1/summary."""

    exchange: str | None = Field(default=None, description="Needed where the symbol is traded on several.")


class SymbolsParams(PinnedParams):
    """Parameters of /v1/symbols."""

    table: DataType = Field(default=DataType.TRADES, description="trades or quotes.")
    exchange: str | None = Field(default=None, description="Only symbols of this exchange.")


class DateRangeParams(SymbolsParams):
    """Parameters of /v1/date-range."""

    symbol: str = Field(description="Symbol on its exchange.", examples=["BHP"])


class StatsParams(Params):
    """Parameters of /v1/stats."""

    as_of: str | None = Field(default=None, description=f"As was known at this time. {TIME}")


class SnapshotsParams(Params):
    """Parameters of /v1/snapshots."""

    table: DataType = Field(default=DataType.TRADES, description="trades, quotes or reference_data.")
    limit: int = Field(default=100, ge=1, le=10_000, description="Most snapshots, newest first.")
