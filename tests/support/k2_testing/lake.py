"""A real catalog (SQLite) and warehouse in a folder of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyiceberg.catalog import Catalog

from k2.lake.catalog import open_named
from k2.lake.tables import ensure_table, ensure_tables
from k2.model.events import Decimals
from k2.model.tables import OFFSET, PARTITION, TableColumn, builtin_table
from k2.model.topics import DataType

TRADES = "market_data.trades"


def catalog_properties(folder: Path) -> dict[str, str]:
    """PyIceberg's properties of a SQLite catalog in that folder."""
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def make_lake(folder: Path, *data_types: DataType, decimals: Decimals = Decimals.STANDARD) -> Catalog:
    """A catalog with the built-in tables of those data types (default: trades)."""
    catalog = open_named("k2", catalog_properties(folder))
    kinds = data_types or (DataType.TRADES,)
    ensure_tables(catalog, [builtin_table(data_type, decimals=decimals) for data_type in kinds])
    return catalog


@contextmanager
def locked_catalog(folder: Path) -> Iterator[None]:
    """Another process has the catalog's file for itself."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
        "print('locked', flush=True); sys.stdin.read(); c.execute('ROLLBACK')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "catalog.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            process.communicate(timeout=30)


def held(catalog: Catalog, identifier: str = TRADES) -> Counter[tuple[int, int]]:
    """How often the table holds each (partition, offset), read through every manifest and file."""
    rows = catalog.load_table(identifier).scan(selected_fields=(PARTITION, OFFSET)).to_arrow()
    return Counter(zip(rows.column(PARTITION).to_pylist(), rows.column(OFFSET).to_pylist(), strict=True))


def list_columns(catalog: Catalog, *columns: TableColumn) -> list[str]:
    """Make the table of trades have these columns beside the built-in ones, as an edit of its resource does."""
    spec = builtin_table(DataType.TRADES)
    return ensure_table(catalog, replace(spec, columns=(*spec.columns, *columns)))
