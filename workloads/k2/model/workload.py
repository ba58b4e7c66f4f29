"""What a workload is told: the JSON file named by `K2_CONFIG_FILE`, rendered by the operator's builders from a plan.

Addresses and credentials are not in here: they come from the environment (`k2.model.settings`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from k2.model.dead_share import WINDOW
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.feed_rules import FeedRules, Prices
from k2.model.sources import TOLD, SourceConfig
from k2.model.table_names import TableNames
from k2.model.times import SECOND_US
from k2.model.topics import AssetClass, DataType


def _network(value: str) -> str:
    return str(ip_network(value))


Network = Annotated[str, AfterValidator(_network)]
"""An address or a network of addresses (CIDR), as its canonical text."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamConfig(_Config):
    """One stream of a feed: what goes into which topic, and the table it ends in."""

    data_type: DataType = Field(description="trades, quotes, reference_data or gaps.")
    topic: str = Field(description="Kafka topic.")
    table: str = Field(description="Iceberg identifier, `namespace.name`.")
    decimals: Decimals = Field(
        default=Decimals.STANDARD,
        description="Of that table's prices and quantities, and so of the messages: standard or wide.",
    )


if TYPE_CHECKING:
    Source = SourceConfig
else:
    Source = Annotated[Union[tuple(TOLD.values())], Field(discriminator="type")]  # noqa: UP007 - of a list


class ProducerConfig(_Config):
    """For `k2 run producer` (a live source) and `k2 run load` (a finite one)."""

    feed: str = Field(description="namespace/name of the MarketFeed.")
    exchange: str = Field(description="Code of the exchange.")
    asset_class: AssetClass = Field(description="equities, crypto, futures, options or fx.")
    currency: str = Field(description="Currency of the prices.")
    streams: tuple[StreamConfig, ...] = Field(min_length=1, description="What goes into which topic and table.")
    source: Source = Field(description="Where the events come from.")
    prices: Prices = Field(
        default=Prices.POSITIVE, description="positive, or any: prices may be zero or negative as well."
    )
    schema_version: Literal[2] = Field(default=2, description="Version of the data model.")

    @property
    def decimals(self) -> dict[DataType, Decimals]:
        """The decimals of each data type's topic and table."""
        return {stream.data_type: stream.decimals for stream in self.streams}


class SinkConfig(_Config):
    """For `k2 run sink`: one (topic, table) pair."""

    topic: str = Field(description="Kafka topic that is read.")
    table: str = Field(description="Iceberg table that is written, `namespace.name`.")
    data_type: DataType = Field(description="trades, quotes, reference_data or gaps.")
    group_id: str = Field(description="Consumer group: shares the partitions out; it derives from topic and table.")
    commit_interval_seconds: float = Field(
        default=30.0, gt=0, description="Seconds after which what was read is committed, however little it is."
    )
    commit_bytes: int = Field(
        default=128 * 1024 * 1024, gt=0, description="Payload bytes after which a batch is committed."
    )
    duplicates: Literal["drop", "keep"] = Field(
        default="drop", description="What happens to an event whose id the table has."
    )
    duplicate_tolerance_seconds: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="How far apart in time the same id of a symbol is one event: one source tells a time in microseconds, "
        "another in milliseconds. Further apart it is a conflict, and a dead letter.",
    )
    prices: Prices = Field(
        default=Prices.POSITIVE,
        description="positive: a price of zero or less is a dead letter; any: it is a price.",
    )
    sequences: Literal["per_symbol", "ignore"] = Field(
        default="ignore",
        description="per_symbol: the source numbers each symbol's events without holes, and what is missing is counted; "
        "ignore: its numbers are an order and no more (lines of a file, a count of all symbols).",
    )
    dead_letters_stop_above: int | None = Field(
        default=None,
        ge=0,
        lt=WINDOW,
        description="More dead letters than this among the last 10,000 messages stop the sink: what it has read is committed "
        "and it reads no more, until it is started anew. None: it goes on whatever comes.",
    )
    max_snapshots: int = Field(default=300, ge=10, description="Untagged snapshots kept before the oldest are expired.")
    until_end: bool = Field(
        default=False, description="Stop when the offsets that were the ends at the start are committed."
    )

    @property
    def rules(self) -> FeedRules:
        """What its feed decides of the events."""
        return FeedRules(self.prices, self.duplicates == "keep", round(self.duplicate_tolerance_seconds * SECOND_US))


class QueryConfig(_Config):
    """For `k2 run query`: the REST service."""

    trades: TableNames = Field(
        default="market_data.trades",
        description="Table of trades, `namespace.name`; or a list of several that answer together, the main one first.",
    )
    quotes: TableNames = Field(default="market_data.quotes", description="The same of quotes.")
    reference_data: TableNames = Field(default="market_data.reference_data", description="The same of reference data.")
    gaps: TableNames = Field(default="market_data.gaps", description="The same of the accounts of gaps.")
    host: str = Field(default="127.0.0.1", description="Address that the service listens on.")
    api_keys_file: Path | None = Field(
        default=None,
        description="File of API keys (`k2 keys`; docs/queries.md). None: every /v1 request is refused.",
    )
    connections: int = Field(default=4, ge=1, description="DuckDB connections, one query each at a time.")
    threads: int = Field(default=2, ge=1, description="Threads of each query.")
    memory_limit: str = Field(
        default="2GB", description="Memory of all queries together: half is for long ones (streams, large statements)."
    )
    timeout_seconds: float = Field(default=30.0, gt=0, description="A query that runs longer is stopped.")
    catalog_seconds: float = Field(
        default=3.0,
        gt=0,
        description="A catalog that is silent for so long does not answer: then what is known of the tables answers, and says so.",
    )
    max_rows: int = Field(default=1_000_000, ge=1, description="Most rows one answer may hold.")
    max_running: int = Field(default=16, ge=1, description="Requests that are worked on at a time; others wait.")
    max_waiting: int = Field(default=64, ge=0, description="Requests that wait; further ones get 503 at once.")
    max_wait_seconds: float = Field(default=5.0, gt=0, description="A request that waited so long gets 503.")
    max_sending: int = Field(default=64, ge=1, description="Answers that are being sent at a time.")
    stall_seconds: float = Field(
        default=30.0, gt=0, description="A client that takes nothing of its answer for so long is given up."
    )
    head_seconds: float = Field(
        default=10.0, gt=0, description="A connection that brings no whole request head for so long is closed."
    )
    max_connections: int = Field(
        default=1_000,
        ge=1,
        description="Connections at a time, and never more than half of the files that the process may have open.",
    )
    max_connections_per_peer: int = Field(
        default=250, ge=1, description="Connections of one address at a time (of IPv6, of one /64)."
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Addresses and networks (CIDR) of proxies: only `max_connections` bounds them, and their "
        "X-Forwarded-For is believed.",
    )
    access_log_file: Path | None = Field(
        default=None, description="File that the access log's lines are added to (JSON). None: the process's log."
    )
    cors_origins: tuple[str, ...] = Field(default=(), description="Origins whose pages may call the API.")
    max_streams: int = Field(default=32, ge=1, description="WebSockets of /v1/stream at a time.")
    hybrid: bool = Field(
        default=True,
        description="Answers hold what the topics have beyond the tables, unless a question says otherwise (needs Kafka).",
    )
    tail_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1024 * 1024, description="Most memory of the topics' tails together."
    )
    tail_idle_seconds: float = Field(
        default=300.0, gt=0, description="The tail of a table that nobody asked about for so long is released."
    )
    tail_wait_seconds: float = Field(
        default=2.0, ge=0, description="How long the first question about a table waits for its tail."
    )

    @property
    def tables(self) -> Mapping[DataType, TableNames]:
        """The tables of each data type."""
        return {
            DataType.TRADES: self.trades,
            DataType.QUOTES: self.quotes,
            DataType.REFERENCE_DATA: self.reference_data,
            DataType.GAPS: self.gaps,
        }


ConfigT = TypeVar("ConfigT", bound=_Config)


def read_config(path: Path | None, model: type[ConfigT]) -> ConfigT:
    """Read a workload's configuration; anything wrong is a `UserError` that names the file and the field."""
    if path is None:
        raise UserError("K2_CONFIG_FILE is not set", expected=f"the path of a JSON file for {model.__name__}")
    try:
        return model.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise UserError(
            f"The configuration {path} cannot be read", found=str(error), expected="a readable file"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"The configuration {path} is not JSON", found=str(error), expected="JSON") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"The configuration {path} is wrong at {where or 'its top'}",
            found=first.get("input"),
            expected=first["msg"],
        ) from error
