"""A location is what PyIceberg takes it for, whatever a folder or a partition's value is called."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.asking import TABLES
from k2_testing.ticks import OPEN, append_ticks
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.tables import ensure_tables
from k2.model.locations import local_path, location_of
from k2.model.tables import PartitionBy, builtin_table
from k2.model.topics import DataType
from k2.query.asked.requests import EventsQuery
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions

NAMES = ("A/B", "株式", "%41", "T U", "P,Q", "..", "1+1", "*", "#?", "a=b")


@given(
    st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1)
)
def test_a_folder_of_any_name_is_found_again(tmp_path_factory, names):
    folder = tmp_path_factory.getbasetemp().joinpath(*(name for name in names if name not in (".", "..")))
    location = location_of(folder)
    assert local_path(location) == str(folder)
    assert PyArrowFileIO.parse_location(f"{location}/x")[2] == f"{folder}/x"


@pytest.mark.parametrize("folder", ["plain", "a blank", "%41", "50%", "a#b", "目录"])
def test_a_table_partitioned_by_any_symbols_in_a_folder_of_any_name_answers(tmp_path, folder):
    made = tmp_path / folder
    made.mkdir()
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": location_of(made / "warehouse"),
    }
    catalog = open_named("k2", properties)
    by_symbol = PartitionBy("symbol", "identity", "symbol")
    ensure_tables(catalog, [replace(builtin_table(DataType.TRADES), partition_by=(by_symbol,))])
    append_ticks(catalog, [{"timestamp": OPEN, "symbol": name, "price": Decimal(7)} for name in NAMES])
    assert len(list(made.rglob("*.parquet"))) == len(NAMES)
    engine = Engine(Limits())
    try:
        questions = Questions(Planner(TableReader(lambda: open_named("k2", properties)), TABLES), engine)
        for name in NAMES:
            rows = questions.events(EventsQuery(DataType.TRADES, (name,))).rows
            assert rows.select(["symbol", "price"]).to_pylist() == [{"symbol": name, "price": Decimal(7)}]
        assert {info.symbol for info in questions.symbols(DataType.TRADES).symbols} == set(NAMES)
    finally:
        engine.close()
