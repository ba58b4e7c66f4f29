"""The last price that a table has of a symbol: what new prices are held against, to tell a wrong unit. No answer of a question."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2.lake.scan import plan_files
from k2.model.compute import pc
from k2.model.topics import DataType

_NEWEST_FILES = 4


def last_price(table: Table, data_type: DataType, symbol: str, exchange: str) -> Decimal | None:
    """The newest price (of quotes: bid) among a symbol's newest rows; None where there is none.

    Delete files are not looked at: a price that was deleted tells the size of prices as well.

    Args:
        table: a loaded table of trades or quotes.
        data_type: which of the two.
        symbol: the instrument.
        exchange: its exchange's code.

    Raises:
        OSError: a data file cannot be read.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    price = "price" if data_type is DataType.TRADES else "bid_price"
    files = plan_files(table, snapshot.snapshot_id, symbols=[symbol], exchanges=[exchange])
    # Bounds prove absence only: the newest file may hold other symbols of about that name.
    for file in sorted(files, key=lambda each: each.end_us, reverse=True)[:_NEWEST_FILES]:
        with table.io.new_input(file.path).open() as stream:
            rows = pq.read_table(
                pa.PythonFile(stream, mode="r"),
                columns=["timestamp", price],
                filters=[("symbol", "==", symbol), ("exchange", "==", exchange), (price, "!=", Decimal(0))],
            )
        if rows.num_rows:
            newest = pc.max(rows["timestamp"])
            return rows.filter(pc.equal(rows["timestamp"], newest))[price][-1].as_py()
    return None
