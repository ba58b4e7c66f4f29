"""The events of K2's data model v2, described once: Avro and Arrow schemas derive from the columns here.

Every part that handles ticks in bulk passes `pyarrow.RecordBatch`es of `arrow_schema(data_type)`; a row is one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from enum import Enum, StrEnum
from functools import cache
from typing import Any, cast

import pyarrow as pa

from k2.model.topics import DataType

SortKey = tuple[tuple[str, int | str | None], ...]
"""A row's place in the order of its table: columns and values from the first that decides on; times in µs since 1970 UTC."""


class Decimals(StrEnum):
    """How large and how fine the prices and quantities of a table may be; Iceberg never changes a scale."""

    STANDARD = "standard"
    WIDE = "wide"

    @property
    def precision(self) -> int:
        """Digits in all."""
        return 18 if self is Decimals.STANDARD else 38

    @property
    def scale(self) -> int:
        """Digits behind the point."""
        return 8 if self is Decimals.STANDARD else 18

    @property
    def arrow(self) -> pa.Decimal128Type:
        """The Arrow type."""
        return pa.decimal128(self.precision, self.scale)

    @property
    def largest(self) -> Decimal:
        """The largest value, either way."""
        return Decimal(10**self.precision - 1).scaleb(-self.scale, Context(prec=self.precision))


PRECISION, SCALE = Decimals.STANDARD.precision, Decimals.STANDARD.scale
DECIMAL = Decimals.STANDARD.arrow
TIMESTAMP = pa.timestamp("us", tz="UTC")
MAX_DECIMAL = Decimals.STANDARD.largest
SIDES = ("BUY", "SELL", "SELL_SHORT", "UNKNOWN")
KINDS = ("company", "dividend", "split", "merger")
SCHEMA_VERSION = 2


class Kind(Enum):
    """The types a column of an event may have."""

    UUID = "uuid"
    STRING = "string"
    SIDE = "side"
    REFERENCE_KIND = "kind"
    TIMESTAMP = "timestamp"
    DATE = "date"
    DECIMAL = "decimal"
    LONG = "long"
    STRINGS = "strings"
    STRING_MAP = "map"


_ARROW: dict[Kind, pa.DataType] = {
    Kind.UUID: pa.binary(16),
    Kind.STRING: pa.string(),
    Kind.SIDE: pa.string(),
    Kind.REFERENCE_KIND: pa.string(),
    Kind.TIMESTAMP: TIMESTAMP,
    Kind.DATE: pa.date32(),
    Kind.LONG: pa.int64(),
    Kind.STRINGS: pa.list_(pa.field("item", pa.string(), nullable=False)),
    Kind.STRING_MAP: pa.map_(pa.string(), pa.field("value", pa.string(), nullable=False)),
}
_AVRO: dict[Kind, Any] = {
    Kind.UUID: {"type": "string", "logicalType": "uuid"},
    Kind.STRING: "string",
    Kind.SIDE: {"type": "enum", "name": "Side", "symbols": list(SIDES)},
    Kind.REFERENCE_KIND: {"type": "enum", "name": "Kind", "symbols": list(KINDS)},
    Kind.TIMESTAMP: {"type": "long", "logicalType": "timestamp-micros"},
    Kind.DATE: {"type": "int", "logicalType": "date"},
    Kind.LONG: "long",
    Kind.STRINGS: {"type": "array", "items": "string"},
    Kind.STRING_MAP: {"type": "map", "values": "string"},
}


def avro_decimal(precision: int, scale: int) -> dict[str, Any]:
    """The Avro type of a decimal."""
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an event: its name, type, whether it may be null, and what it means."""

    name: str
    kind: Kind
    doc: str
    nullable: bool = False

    def arrow(self, decimals: Decimals = Decimals.STANDARD) -> pa.Field:
        """The column as an Arrow field."""
        kind = decimals.arrow if self.kind is Kind.DECIMAL else _ARROW[self.kind]
        return pa.field(self.name, kind, nullable=self.nullable)

    def avro(self, decimals: Decimals = Decimals.STANDARD) -> dict[str, Any]:
        """The column as a field of an Avro record; what may be null is a union with null first and defaults to it."""
        field: dict[str, Any] = {"name": self.name, "doc": self.doc}
        kind = _AVRO.get(self.kind, avro_decimal(decimals.precision, decimals.scale))
        if self.nullable:
            return field | {"type": ["null", kind], "default": None}
        return field | {"type": kind}


_MESSAGE_ID = Column("message_id", Kind.UUID, "UUIDv5 of the source event: the same event has the same id, always.")
_SYMBOL = Column("symbol", Kind.STRING, "The instrument's symbol on its exchange; the message's key.")
_EXCHANGE = Column("exchange", Kind.STRING, "The exchange's code, upper case.")
_ASSET_CLASS = Column("asset_class", Kind.STRING, "equities, crypto, futures, options or fx.")
_TIMESTAMP = Column("timestamp", Kind.TIMESTAMP, "When it happened at the exchange, UTC, microseconds.")
_CURRENCY = Column("currency", Kind.STRING, "Currency of the prices, ISO 4217 or the venue's code.")
_SOURCE_SEQUENCE = Column(
    "source_sequence", Kind.LONG, "The source's own order, where it gives one; null: the order of the topic.", True
)
_INGESTION = Column("ingestion_timestamp", Kind.TIMESTAMP, "When K2 took the event in, UTC, microseconds.")
_PLATFORM_SEQUENCE = Column("platform_sequence", Kind.LONG, "K2's own order of taking in, where it is kept.", True)
_VENDOR = Column("vendor_data", Kind.STRING_MAP, "The vendor's fields that have no column, as they came.", True)

TRADE = (
    _MESSAGE_ID,
    Column("trade_id", Kind.STRING, "The venue's trade id, or one derived from the row where there is none."),
    _SYMBOL,
    _EXCHANGE,
    _ASSET_CLASS,
    _TIMESTAMP,
    Column("price", Kind.DECIMAL, "Price of one unit, in `currency`."),
    Column("quantity", Kind.DECIMAL, "Units traded (shares, coins, contracts)."),
    _CURRENCY,
    Column("side", Kind.SIDE, "The aggressor's side where the source says it, else UNKNOWN."),
    Column("trade_conditions", Kind.STRINGS, "The venue's condition codes, in its order."),
    _SOURCE_SEQUENCE,
    _INGESTION,
    _PLATFORM_SEQUENCE,
    _VENDOR,
)
QUOTE = (
    _MESSAGE_ID,
    Column("quote_id", Kind.STRING, "The venue's quote id, or one derived from the row where there is none."),
    _SYMBOL,
    _EXCHANGE,
    _ASSET_CLASS,
    _TIMESTAMP,
    Column("bid_price", Kind.DECIMAL, "Best bid, in `currency`; null where there is no bid.", True),
    Column("bid_quantity", Kind.DECIMAL, "Units at the best bid; null where there is no bid.", True),
    Column("ask_price", Kind.DECIMAL, "Best ask, in `currency`; null where there is no ask.", True),
    Column("ask_quantity", Kind.DECIMAL, "Units at the best ask; null where there is no ask.", True),
    _CURRENCY,
    _SOURCE_SEQUENCE,
    _INGESTION,
    _PLATFORM_SEQUENCE,
    _VENDOR,
)
REFERENCE = (
    _MESSAGE_ID,
    Column("kind", Kind.REFERENCE_KIND, "What the row tells of the company: company, dividend, split or merger."),
    Column("company_id", Kind.STRING, "The vendor's stable id of the company."),
    Column("symbol", Kind.STRING, "Its symbol then; null where the source gives only the company id.", True),
    _EXCHANGE,
    _ASSET_CLASS,
    Column("company_name", Kind.STRING, "The company's name.", True),
    Column("isin", Kind.STRING, "ISO 6166 identifier.", True),
    Column("sector", Kind.STRING, "Industry sector.", True),
    Column("listing_date", Kind.DATE, "First date of the symbol (company).", True),
    Column("delisting_date", Kind.DATE, "Last date of the symbol (company).", True),
    Column("currency", Kind.STRING, "Currency of the amounts, or of the listing.", True),
    Column("declared_date", Kind.DATE, "When it was declared (dividend).", True),
    Column("ex_date", Kind.DATE, "First date without the right to it (dividend, split, merger).", True),
    Column("record_date", Kind.DATE, "Date of the register (dividend).", True),
    Column("pay_date", Kind.DATE, "When it is paid (dividend).", True),
    Column("net_amount", Kind.DECIMAL, "Amount per share after tax credits, in `currency` (dividend).", True),
    Column("gross_amount", Kind.DECIMAL, "Amount per share before tax credits, in `currency` (dividend).", True),
    Column("ratio", Kind.DECIMAL, "New units for one old unit (split, merger).", True),
    Column("effective_timestamp", Kind.TIMESTAMP, "From when it holds, UTC."),
    _SOURCE_SEQUENCE,
    _INGESTION,
    _VENDOR,
)
GAP = (
    _MESSAGE_ID,
    Column(
        "kind",
        Kind.STRING,
        "opened, filled, unfillable, unknown, dead_lettered, restarted or checked; readers pass over what they do not know.",
    ),
    Column("symbol", Kind.STRING, "Whose trades it is about; the message's key."),
    _EXCHANGE,
    _ASSET_CLASS,
    Column("timestamp", Kind.TIMESTAMP, "When the feed told it, by its own clock, UTC, microseconds."),
    Column("first_sequence", Kind.LONG, "The first number it is about, included.", True),
    Column("last_sequence", Kind.LONG, "The last number it is about, included.", True),
    Column(
        "after_timestamp", Kind.TIMESTAMP, "Time of the trade before; of unknown, since when nothing was heard.", True
    ),
    Column(
        "before_timestamp",
        Kind.TIMESTAMP,
        "Time of the trade after; of unknown, until when. Null: not known yet.",
        True,
    ),
    Column("since", Kind.TIMESTAMP, "When the gap showed itself, by the feed's clock.", True),
    Column("way", Kind.STRING, "How missing trades came: stream, snapshot or fill.", True),
    Column("reason", Kind.STRING, "Why, for a person.", True),
    _SOURCE_SEQUENCE,
    _INGESTION,
    _VENDOR,
)
COLUMNS: dict[DataType, tuple[Column, ...]] = {
    DataType.TRADES: TRADE,
    DataType.QUOTES: QUOTE,
    DataType.REFERENCE_DATA: REFERENCE,
    DataType.GAPS: GAP,
}
_BUILT_IN = frozenset(column.name for columns in COLUMNS.values() for column in columns)
_RECORD_NAMES = {
    DataType.TRADES: "Trade",
    DataType.QUOTES: "Quote",
    DataType.REFERENCE_DATA: "ReferenceData",
    DataType.GAPS: "Gap",
}
EVENT_TIME: dict[DataType, str] = {
    DataType.TRADES: "timestamp",
    DataType.QUOTES: "timestamp",
    DataType.REFERENCE_DATA: "effective_timestamp",
    DataType.GAPS: "timestamp",
}


def has_amounts(data_type: DataType) -> bool:
    """Whether events of that type have prices, quantities or the like, for which a table's decimals are chosen."""
    return any(column.kind is Kind.DECIMAL for column in COLUMNS[data_type])


@cache
def arrow_schema(data_type: DataType, decimals: Decimals = Decimals.STANDARD) -> pa.Schema:
    """Arrow schema of a batch of events of that type (see `COLUMNS` for what the columns mean)."""
    return pa.schema([column.arrow(decimals) for column in COLUMNS[data_type]])


def widened(events: pa.RecordBatch, data_type: DataType) -> pa.RecordBatch:
    """Events of standard decimals as events of wide ones, which hold each value of them."""
    wanted = arrow_schema(data_type, Decimals.WIDE)
    columns = [
        array if array.type == field.type else array.cast(field.type)
        for array, field in zip(events.columns, wanted, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=wanted)


def schema_decimals(avro: Any) -> Decimals:
    """Which decimals a writer's Avro schema (parsed JSON) needs of a table that is to hold whatever it can say.

    Its amounts decide; a field that is none of K2's is a column of its own.
    """
    if isinstance(avro, dict):
        node = cast("dict[str, Any]", avro)
        if node.get("logicalType") == "decimal":
            scale = int(node.get("scale", 0))
            fits = scale <= SCALE and int(node.get("precision", 0)) - scale <= PRECISION - SCALE
            return Decimals.STANDARD if fits else Decimals.WIDE
        if node.get("type") == "record":
            fields = cast("list[dict[str, Any]]", node.get("fields", []))
            return schema_decimals([field["type"] for field in fields if field["name"] in _BUILT_IN])
    found = avro.values() if isinstance(avro, dict) else avro if isinstance(avro, list) else ()
    return Decimals.WIDE if Decimals.WIDE in map(schema_decimals, found) else Decimals.STANDARD


def avro_schema(data_type: DataType, decimals: Decimals = Decimals.STANDARD) -> dict[str, Any]:
    """Avro schema, version 2, of one event of that type, as it is registered."""
    return {
        "type": "record",
        "name": _RECORD_NAMES[data_type],
        "namespace": "dev.k2.market.v2",
        "doc": f"One event of {data_type}, K2 data model v2.",
        "fields": [column.avro(decimals) for column in COLUMNS[data_type]],
    }
