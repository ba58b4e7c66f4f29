"""Rows per second of the codec beside fastavro, in one run: `python -m bench.codec [--rows N] [--json]`.

134-byte trades of 15 fields. Encoding includes cutting the block into one `bytes` per message; decoding starts from such
a list and ends in an Arrow batch. Each figure is the median of several rounds, the two ways taking turns.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
import uuid

import fastavro
import numpy as np
import pyarrow as pa

from k2.model.codec import decode, encode
from k2.model.events import SIDES, arrow_schema, avro_schema
from k2.model.topics import DataType

TRADES = DataType.TRADES
SCHEMA_ID = 1
ROUNDS = 5


def trades(count: int, seed: int = 1) -> pa.RecordBatch:
    """Trades as feeds make them: random ids and prices, few symbols; 134 bytes each in Avro."""
    rng = np.random.default_rng(seed)
    symbols = np.array([f"SYM{n:03d}" for n in range(50)])
    start = 1_394_409_600_000_000
    when = start + np.cumsum(rng.integers(0, 2_000, count))
    conditions = pa.array([["XT"], ["LF", "S1"], []], pa.list_(pa.field("item", pa.string(), nullable=False)))
    none = pa.nulls(count, arrow_schema(TRADES).field("vendor_data").type)

    def decimals(low: int, high: int, places: int) -> pa.Array:
        unscaled = rng.integers(low, high, count) * 10 ** (8 - places)
        words = np.zeros((count, 2), np.int64)
        words[:, 0] = unscaled
        return pa.Array.from_buffers(pa.decimal128(18, 8), count, [None, pa.py_buffer(words.tobytes())])

    def same(text: str) -> pa.Array:
        return pa.array([text]).take(pa.array(np.zeros(count, np.int64)))

    columns = {
        "message_id": pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rng.bytes(16 * count))]),
        "trade_id": pa.array(np.char.add("TRADE-T", (10**16 + rng.integers(0, 10**15, count)).astype(str))),
        "symbol": pa.array(symbols[rng.integers(0, len(symbols), count)]),
        "exchange": same("ASX"),
        "asset_class": same("equities"),
        "timestamp": pa.array(when, pa.timestamp("us", tz="UTC")),
        "price": decimals(1_000, 500_000, 3),
        "quantity": decimals(1, 10_000, 0),
        "currency": same("AUD"),
        "side": pa.array(np.array(SIDES)[rng.integers(0, 4, count)]),
        "trade_conditions": conditions.take(pa.array(rng.integers(0, 3, count))),
        "source_sequence": pa.array(np.arange(count)),
        "ingestion_timestamp": pa.array(when + 700, pa.timestamp("us", tz="UTC")),
        "platform_sequence": pa.array(np.arange(count)),
        "vendor_data": none,
    }
    schema = arrow_schema(TRADES)
    arrays = [columns[name].cast(schema.field(name).type) for name in schema.names]
    # By way of a table: numpy's strings come as several chunks when they are many.
    return pa.Table.from_arrays(arrays, schema=schema).combine_chunks().to_batches()[0]


def encode_rows(events: pa.RecordBatch) -> list[bytes]:
    """The row-by-row way: fastavro's writer over Python dicts."""
    schema = fastavro.parse_schema(avro_schema(TRADES))
    header = b"\0" + SCHEMA_ID.to_bytes(4, "big")
    payloads = []
    for row in events.to_pylist(maps_as_pydicts="lossy"):
        row["message_id"] = uuid.UUID(bytes=row["message_id"])
        out = io.BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, schema, row)
        payloads.append(out.getvalue())
    return payloads


def decode_rows(payloads: list[bytes]) -> pa.RecordBatch:
    """The row-by-row way: fastavro's reader, then `from_pylist`."""
    schema = fastavro.parse_schema(avro_schema(TRADES))
    rows = []
    for payload in payloads:
        row = fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema, None)
        row["message_id"] = row["message_id"].bytes
        if row["vendor_data"] is not None:
            row["vendor_data"] = list(row["vendor_data"].items())
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema(TRADES))


def measure(rows: int) -> dict[str, float]:
    events = trades(rows)
    few = events.slice(0, min(rows, 20_000))
    text = json.dumps(avro_schema(TRADES))
    payloads = encode(events, TRADES, SCHEMA_ID).payloads()
    few_payloads = payloads[: len(few)]
    assert payloads[: len(few)] == encode_rows(few), "the two ways disagree"
    block = 16_384

    def decode_all() -> None:
        for start in range(0, rows, block):
            assert not decode(payloads[start : start + block], TRADES, lambda _: text).bad

    ways = {
        "encode, columns": (rows, lambda: encode(events, TRADES, SCHEMA_ID).payloads()),
        "encode, fastavro": (len(few), lambda: encode_rows(few)),
        "decode, columns": (rows, decode_all),
        "decode, fastavro": (len(few), lambda: decode_rows(few_payloads)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (_, way) in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    found = {name: count / statistics.median(seconds[name]) for name, (count, _) in ways.items()}
    found["bytes per message"] = sum(map(len, payloads)) / rows
    found["encode, ratio"] = found["encode, columns"] / found["encode, fastavro"]
    found["decode, ratio"] = found["decode, columns"] / found["decode, fastavro"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:20} {value:12,.1f}" + ("" if "," not in name or "ratio" in name else " rows/s"))


if __name__ == "__main__":
    main()
