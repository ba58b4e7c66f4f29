"""What wide decimals cost: `python -m bench.wide [--rows N]`: the same questions of tables that hold the same values.

One symbol's trades and quotes of a day, in a table of decimal(18, 8), in one of decimal(38, 18), and in one whose quantities need the
width: 24 digits, 18 of them places. Asked in turns, in process; processor time, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench import parts
from bench.market import append, decimals
from bench.queries import on_cpu
from k2.forms.formats import Format, encode
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.tables import ensure_tables
from k2.model.events import Decimals, arrow_schema
from k2.model.exchanges import exchange as exchange_of
from k2.model.tables import builtin_table
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions

DAY, SYMBOL, EXCHANGE = date(2024, 1, 2), "BTC-USD", "SIM"
OPENS, CLOSES = (micros(bound) for bound in exchange_of(EXCHANGE).trading_day(DAY))
TABLES = {kind: f"market_data.{kind.value}" for kind in (DataType.TRADES, DataType.QUOTES)}
KINDS = ("standard", "wide", "24 digits")
CONSTANT = {"symbol": SYMBOL, "exchange": EXCHANGE, "asset_class": "crypto", "currency": "USD", "kafka_topic_id": "t"}


def of_day(data_type, rows, kind):
    """A day's events: prices in cents, quantities with eight places, or with eighteen."""
    rng = np.random.default_rng(7)
    times = pa.array(np.sort(rng.integers(OPENS, CLOSES, rows)), pa.timestamp("us", tz="UTC"))
    price = (4_000_000 + np.cumsum(rng.integers(-3, 4, rows))) * 1_000_000
    quantity = rng.integers(1, 100_000_000, rows)
    wide = Decimals.STANDARD if kind == "standard" else Decimals.WIDE
    amounts = {
        "price": decimals(price),
        "quantity": decimals(quantity),
        "bid_price": decimals(price - rng.integers(0, 3, rows) * 1_000_000),
        "ask_price": decimals(price + rng.integers(0, 3, rows) * 1_000_000),
        "bid_quantity": decimals(quantity),
        "ask_quantity": decimals(quantity),
    }
    if kind == "24 digits":
        words = np.stack([rng.integers(0, 2**62, rows), np.full(rows, 40_000)], axis=1)
        amounts["quantity"] = pa.Array.from_buffers(
            wide.arrow, rows, [None, pa.py_buffer(words.astype(np.int64).copy())]
        )
    number = np.arange(rows)
    own = {
        "message_id": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), rows, [None, pa.py_buffer(rng.bytes(16 * rows))]
        ),
        "trade_id": pa.array(number).cast(pa.string()),
        "quote_id": pa.array(number).cast(pa.string()),
        "side": pa.repeat("UNKNOWN", rows),
        "trade_conditions": pa.ListArray.from_arrays(np.zeros(rows + 1, np.int32), pa.array([], pa.string())),
        "timestamp": times,
        "ingestion_timestamp": times,
        "source_sequence": pa.array(number),
        "kafka_partition": pa.array(np.zeros(rows, np.int32)),
        "kafka_offset": pa.array(number),
        **{name: pa.repeat(value, rows) for name, value in CONSTANT.items()},
        **amounts,
    }
    lineage = [("kafka_topic_id", pa.string()), ("kafka_partition", pa.int32()), ("kafka_offset", pa.int64())]
    schema = pa.schema([*arrow_schema(data_type, wide), *lineage])
    columns = [
        own[field.name].cast(field.type) if field.name in own else pa.nulls(rows, field.type) for field in schema
    ]
    return pa.table(columns, schema=schema)


def build(folder, rows, kind):
    """The tables; their catalog's properties."""
    folder.mkdir()
    properties = parts.catalog_properties(folder)
    catalog = open_named("k2", properties)
    wide = Decimals.STANDARD if kind == "standard" else Decimals.WIDE
    for data_type, identifier in TABLES.items():
        ensure_tables(catalog, [builtin_table(data_type, decimals=wide)])
        append(catalog.load_table(identifier), of_day(data_type, rows, kind), np.arange(rows))
    return properties


def questions():
    """Name → what is asked."""
    noon = Window((OPENS + CLOSES) // 2, CLOSES)

    def listed(asked, limit, form):
        trades = EventsQuery(DataType.TRADES, (SYMBOL,), EXCHANGE, noon, limit=limit)
        return b"".join(encode(asked.events(trades).rows, form, {}))

    def joined(asked, limit):
        return asked.asof(AsofQuery((SYMBOL,), EXCHANGE, noon, limit=limit)).rows

    return {
        "bars of a minute": lambda asked: asked.bars(BarsQuery((SYMBOL,), Interval.MINUTE, EXCHANGE)),
        "summary": lambda asked: asked.summary(SummaryQuery(SYMBOL, DAY, EXCHANGE)),
        "1,000 trades as JSON": lambda asked: listed(asked, 1_000, Format.JSON),
        "100,000 trades as CSV": lambda asked: listed(asked, 100_000, Format.CSV),
        "1,000 trades with their quotes": lambda asked: joined(asked, 1_000),
        "100,000 trades with their quotes": lambda asked: joined(asked, 100_000),
    }


def measure(*, rows, rounds):
    """Milliseconds of processor time, by question and kind of table."""
    with tempfile.TemporaryDirectory(prefix="k2-bench-wide-") as name:
        engines, asked = [], {}
        for kind in KINDS:
            properties = build(Path(name) / kind.replace(" ", "-"), rows, kind)
            engines.append(Engine(Limits()))
            reader = TableReader(lambda properties=properties: open_named("k2", properties))
            asked[kind] = Questions(Planner(reader, TABLES), engines[-1])
        figures = []
        for question, ask in questions().items():
            took = {kind: [] for kind in KINDS}
            for number in range(rounds + 1):
                for kind, each in asked.items():
                    spent = on_cpu(lambda each=each, ask=ask: ask(each))[2]
                    if number:  # warm
                        took[kind].append(spent)
            figures.append({"question": question} | {kind: round(statistics.median(took[kind]), 1) for kind in KINDS})
        for engine in engines:
            engine.close()
    return {"rows": rows, "cpu_ms": figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_500_000, help="trades of the day, and as many quotes")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    found = measure(rows=options.rows, rounds=options.rounds)
    for line in found["cpu_ms"]:
        ratios = "  ".join(f"{kind} {line[kind]:8} ms ({line[kind] / line['standard']:.2f})" for kind in KINDS)
        print(f"{line['question']:34} {ratios}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
