"""Tables to ask questions of: a made-up market in the layout that the sink leaves, the same compacted, and the real week.

Each day's files are written by the sink's own writer, sorted, four a day; a compacted day is one write. Fifty symbols trade from
ten to four; the real week is read from beside the checkout where it is there.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.lake.appends.writer import write_files
from k2.lake.catalog import open_named
from k2.lake.scan import plan_files
from k2.lake.tables import ensure_tables
from k2.model.exchanges import exchange as exchange_of
from k2.model.tables import builtin_table
from k2.model.topics import DataType

REAL_WEEK = Path(__file__).parents[2] / "shared/data/asx-2014-03"
REAL = REAL_WEEK / "trades/7078.csv"
FIRST_DAY = date(2024, 1, 1)
SYMBOLS = [f"S{number:02d}" for number in range(50)]
FILES_A_DAY = 4
SESSION = (10 * 3600, 16 * 3600)


def day_part(rng, day, part, rows):
    """One file's worth of trades: a quarter of a session, sorted by symbol and time."""
    length = (SESSION[1] - SESSION[0]) * 1_000_000 // FILES_A_DAY
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
    times = np.sort(midnight + SESSION[0] * 1_000_000 + part * length + rng.integers(0, length, rows))
    codes = rng.integers(0, len(SYMBOLS), rows)
    price = (10_000 + rng.integers(-500, 500, rows) + codes * 100) * 1_000_000
    quantity = rng.integers(1, 2_000, rows) * 100_000_000
    order = np.lexsort((times, codes))
    sequence = part * rows + np.arange(rows)
    constant = {
        "exchange": "SIM",
        "asset_class": "equities",
        "currency": "USD",
        "side": "UNKNOWN",
        "kafka_topic_id": "t",
    }
    columns = {
        "message_id": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), rows, [None, pa.py_buffer(rng.bytes(16 * rows))]
        ),
        "trade_id": pa.array(sequence).cast(pa.string()),
        "symbol": pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(SYMBOLS)),
        "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
        "price": decimals(price),
        "quantity": decimals(quantity),
        "trade_conditions": pa.ListArray.from_arrays(np.zeros(rows + 1, np.int32), pa.array([], pa.string())),
        "source_sequence": pa.array(sequence),
        "ingestion_timestamp": pa.array(times + 5_000, pa.timestamp("us", tz="UTC")),
        "kafka_partition": pa.array(codes % 6, pa.int32()),
        "kafka_offset": pa.array(sequence),
    }
    for name, value in constant.items():
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
    return pa.table(columns), order


def decimals(unscaled):
    words = np.stack([unscaled, np.where(unscaled < 0, -1, 0)], axis=1).astype(np.int64)
    return pa.Array.from_buffers(pa.decimal128(18, 8), len(unscaled), [None, pa.py_buffer(words.copy())])


def append(table, rows, order):
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for written in write_files(table, rows, order):
            snapshot.append_data_file(written.data_file)


def real_week(table, data_type=DataType.TRADES):
    """BHP's trades or quotes of the week as the loader would send them; False when the files are not there."""
    path = REAL_WEEK / data_type.value / REAL.name
    if not path.exists():
        return False
    venue = exchange_of("ASX")
    assembler = Assembler(data_type, venue, venue.currency, str(venue.asset_class))
    source = CsvFiles([path], file_format("asx", Files(data_type, venue, symbol="BHP")), assembler)
    rows = pa.Table.from_batches([batch for chunk in source.chunks() for _, batch in chunk.events])
    lineage = {"kafka_topic_id": ["a"], "kafka_partition": [0]}
    rows = rows.append_column("kafka_topic_id", pa.array(lineage["kafka_topic_id"] * len(rows)))
    rows = rows.append_column("kafka_partition", pa.array(lineage["kafka_partition"] * len(rows), pa.int32()))
    rows = rows.append_column("kafka_offset", pa.array(np.arange(len(rows))))
    times = rows.column("timestamp").cast(pa.int64()).to_numpy()
    append(table, rows, np.argsort(times, kind="stable"))
    return True


def build(properties, rows, days, *, real=True):
    """The table of trades and whether the real week is in it."""
    catalog = open_named("k2", properties)
    ensure_tables(catalog, [builtin_table(kind) for kind in (DataType.TRADES, DataType.QUOTES)])
    table = catalog.load_table("market_data.trades")
    rng = np.random.default_rng(1)
    per_file = rows // (days * FILES_A_DAY)
    for day in range(days):
        for part in range(FILES_A_DAY):
            append(table, *day_part(rng, FIRST_DAY + timedelta(days=day), part, per_file))
    return table, real and real_week(table) and real_week(catalog.load_table("market_data.quotes"), DataType.QUOTES)


def compacted(source, properties, days):
    """A table with the rows of these days, each day's written at once."""
    catalog = open_named("k2", properties)
    ensure_tables(catalog, [builtin_table(DataType.TRADES), builtin_table(DataType.QUOTES)])
    table = catalog.load_table("market_data.trades")
    by_day = {}
    end_us = int((datetime.combine(FIRST_DAY, datetime.min.time(), UTC) + timedelta(days=days)).timestamp()) * 1_000_000
    for path in paths_of(source, end_us - days * 86_400_000_000, end_us):
        by_day.setdefault(Path(path).parent, []).append(path)
    for paths in by_day.values():
        rows = pa.concat_tables([pq.ParquetFile(path).read() for path in paths]).combine_chunks()
        keys = [(name, "ascending") for name in ("symbol", "timestamp", "source_sequence")]
        append(table, rows, pc.sort_indices(rows.select([name for name, _ in keys]), sort_keys=keys).to_numpy())
    return table


def paths_of(table, start_us=None, end_us=None):
    """The files that hold rows of that time, or all."""
    found = plan_files(table, table.current_snapshot().snapshot_id, start_us=start_us, end_us=end_us)
    return [each.path.removeprefix("file://") for each in found]
