"""Messages of venues for tests: frames of them, what became of them, and what hypothesis makes of a trade."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.venue import Frame, Heard, NoticeKind
from k2.model.events import Decimals
from k2.model.topics import DataType

RECORDED = Path(os.environ.get("K2_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data") / "frames"
"""Messages of exchanges as they were recorded: no part of the project."""
needs_recorded = [
    pytest.mark.data,
    pytest.mark.skipif(
        not RECORDED.is_dir(), reason=f"there are no recorded messages in {RECORDED} (K2_TEST_DATA names its folder)"
    ),
]

RECEIVED = 1_790_000_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def columns(exchange: str, decimals: Decimals = Decimals.STANDARD) -> EventColumns:
    """Of a feed with such tables."""
    return EventColumns(exchange, currency="USD", decimals=dict.fromkeys(DataType, decimals))


def frames(*messages: object) -> list[Frame]:
    """Each as a frame, received a microsecond after the one before; bytes are taken as they are, all else as JSON."""
    return [
        Frame(message if isinstance(message, bytes) else msgspec.json.encode(message), RECEIVED + place, 3)
        for place, message in enumerate(messages)
    ]


def recorded(path: str) -> list[bytes]:
    """The messages of a file below `RECORDED`."""
    with (RECORDED / f"{path}.jsonl").open() as lines:
        return [json.loads(line)["raw"].encode() for line in lines]


def rows(heard: Heard, data_type: DataType = DataType.TRADES) -> list[dict[str, Any]]:
    """The events of a type, times as microseconds."""
    batch = heard.events.get(data_type)
    if batch is None:
        return []
    table = pa.Table.from_batches([batch])
    for name in ("timestamp", "ingestion_timestamp"):
        table = table.set_column(table.column_names.index(name), name, table.column(name).cast(pa.int64()))
    return table.to_pylist()


def kinds(heard: Heard) -> list[NoticeKind]:
    """Of its notices, in order."""
    return [notice.kind for notice in heard.notices]


@dataclass(frozen=True, slots=True)
class Spelled:
    """A trade as a venue may write it. `time` is in microseconds, `side` the aggressor's."""

    number: int
    price: str
    quantity: str
    time: int
    side: str

    def told(self) -> tuple[str, Decimal, Decimal, int, str]:
        """What K2 has to make of it."""
        return str(self.number), Decimal(self.price), Decimal(self.quantity), self.time, self.side


@st.composite
def amounts(draw: st.DrawFn) -> str:
    """A positive number that a standard table holds, with any number of zeros at its end."""
    units = draw(st.integers(1, 10**18 - 1))
    whole, fraction = divmod(units, 10**8)
    text = f"{whole}.{fraction:08d}"
    return draw(st.sampled_from([text, text.rstrip("0").rstrip("."), text + "0000000"]))


@st.composite
def spelled_trades(draw: st.DrawFn, unit: int = 1) -> list[Spelled]:
    """Trades with rising numbers, times in whole units of so many microseconds."""
    numbers = draw(st.lists(st.integers(1, 2**62), min_size=1, max_size=8, unique=True))
    times = st.integers(10**15 // unit, 4 * 10**15 // unit).map(lambda count: count * unit)
    return [
        Spelled(number, draw(amounts()), draw(amounts()), draw(times), draw(st.sampled_from(["BUY", "SELL"])))
        for number in sorted(numbers)
    ]


def iso(micros: int, zeros: bool = False, beyond: str = "") -> str:
    """A time as ISO 8601, its trailing zeros cut unless they are wanted; `beyond`: digits finer than a microsecond."""
    moment = _EPOCH + timedelta(microseconds=micros)
    fraction = f"{moment.microsecond:06d}{beyond}"
    if not zeros:
        fraction = fraction.rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction else "") + "Z"


def told(heard: Heard) -> list[tuple[str, Decimal, Decimal, int, str]]:
    """Its trades, each as `Spelled.told` has it."""
    return [(row["trade_id"], row["price"], row["quantity"], row["timestamp"], row["side"]) for row in rows(heard)]
