"""The real ticks: a week of the ASX in the vendor's files, where they are, read and stored as the platform does it.

They are not part of the project. `K2_TEST_DATA` names the folder that holds `asx-2014-03`; without it a folder beside the
project is looked for. Tests that need them say `pytestmark = needs_real_ticks`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import Chunk, CsvFiles
from k2.lake.appends.writer import write_files
from k2.model.exchanges import exchange
from k2.model.topics import DataType

_FOLDER = os.environ.get("K2_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data"
ROOT = Path(_FOLDER) / "asx-2014-03"
BHP = {DataType.TRADES: ROOT / "trades" / "7078.csv", DataType.QUOTES: ROOT / "quotes" / "7078.csv"}

needs_real_ticks = [
    pytest.mark.data,
    pytest.mark.skipif(
        not ROOT.is_dir(), reason=f"there are no real ticks in {ROOT} (K2_TEST_DATA names the folder that holds it)"
    ),
]


def read(data_type: DataType, *paths: Path, symbol: str | None = None) -> tuple[pa.Table, list[Chunk]]:
    """The events of the vendor's files in one table, and the chunks that they came in."""
    venue = exchange("ASX")
    form = file_format("asx", Files(data_type, venue, symbol=symbol, paths=paths))
    assembler = Assembler(data_type, venue, venue.currency, str(venue.asset_class))
    chunks = list(CsvFiles(paths, form, assembler, symbol=symbol).chunks())
    return pa.Table.from_batches([batch for chunk in chunks for _, batch in chunk.events]), chunks


def append_bhp(catalog: Catalog, data_type: DataType) -> None:
    """Commit BHP's trades or quotes in the layout that the sink leaves."""
    rows, _ = read(data_type, BHP[data_type], symbol="BHP")
    rows = rows.append_column("kafka_topic_id", pa.array(["t"] * len(rows)))
    rows = rows.append_column("kafka_partition", pa.array([0] * len(rows), pa.int32()))
    rows = rows.append_column("kafka_offset", pa.array(np.arange(len(rows))))
    order = np.argsort(rows.column("timestamp").cast(pa.int64()).to_numpy(), kind="stable")
    table = catalog.load_table(f"market_data.{data_type.value}")
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for written in write_files(table, rows, order):
            snapshot.append_data_file(written.data_file)
