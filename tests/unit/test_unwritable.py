"""Rows that no file can hold become dead letters; a table that takes no row pauses whoever writes. On a real catalog."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.extent import sized
from k2_testing.lake import TRADES, held, make_lake
from pyiceberg.exceptions import ForbiddenError
from pyiceberg.types import StringType

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.appends.unwritable import TableFaultError, check_writable, plain_row
from k2.lake.appends.writer import write_files
from k2.lake.proof.audit import audit_table
from k2.lake.tables import ensure_table
from k2.model.tables import builtin_table
from k2.model.topics import DataType

YEAR_10000 = 253_402_300_800_000_000
"""An instant that Avro, Arrow and Parquet hold, and of whose day no folder can be named."""


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


def batch(start: int, stop: int, bad=()) -> Batch:
    numbers = range(start, stop)
    times = [YEAR_10000 if number in bad else START_US + number for number in numbers]
    rows = trades([message_id(number) for number in numbers], symbols=["BHP"] * len(numbers), times=times)
    return Batch(with_lineage(rows, [0] * len(numbers), numbers), {0: (start, stop)}, {})


def files(tmp_path):
    return {path for path in (tmp_path / "warehouse").rglob("*") if path.suffix == ".parquet"}


def set_property(catalog, name, value):
    with catalog.load_table(TRADES).transaction() as transaction:
        transaction.set_properties({name: value})


@settings(max_examples=sized(12, 60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bad=st.sets(st.integers(0, 39)), cuts=st.sets(st.integers(1, 39), max_size=3))
def test_each_row_that_no_file_holds_is_a_dead_letter_and_the_others_are_in_the_table(tmp_path_factory, bad, cuts):
    folder = tmp_path_factory.mktemp("lake")
    catalog = make_lake(folder)
    buried = []
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, bury=buried.extend)
    for start, stop in pairwise([0, *sorted(cuts), 40]):
        done = committer.commit(batch(start, stop, bad))
        assert done.attempts == 1
        assert done.dead_rows == len(bad & set(range(start, stop)))
    assert held(catalog) == {(0, number): 1 for number in range(40) if number not in bad}
    assert sorted((row.partition, row.offset) for row in buried) == [(0, number) for number in sorted(bad)]
    assert all(row.reason.startswith("market_data.trades cannot hold timestamp 253402300800000000: ") for row in buried)
    audit = audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 40}})
    assert audit.ok
    assert audit.partitions[0].offsets.dead_letters == len(bad)
    referred = {task.file.file_path for task in catalog.load_table(TRADES).scan().plan_files()}
    assert len(files(folder)) == len(referred), "no file is left over"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("write.parquet.compression-codec", "nonsense", "found 'nonsense', expected one of zstd"),
        ("write.parquet.row-group-limit", "many", "found 'many', expected a whole number above 0"),
        ("write.target-file-size-bytes", "-1", "found '-1', expected a whole number above 0"),
        ("write.parquet.compression-level", "fast", "found 'fast', expected a whole number above 0"),
    ],
)
def test_a_property_that_no_writer_can_honour_is_the_tables_fault_and_is_told(catalog, tmp_path, name, value, said):
    set_property(catalog, name, value)
    buried = []
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, bury=buried.extend)
    for _ in range(3):
        with pytest.raises(TableFaultError, match=r"market_data\.trades cannot be written as it is") as fault:
            committer.commit(batch(0, 5))
        assert said in str(fault.value)
    assert (buried, files(tmp_path)) == ([], set())
    set_property(catalog, name, builtin_table(DataType.TRADES).properties.get(name, "1"))
    assert committer.commit(batch(0, 5)).rows == 5


def test_a_column_that_went_is_the_tables_fault(catalog, tmp_path):
    table = catalog.load_table(TRADES)
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("currency")
    with pytest.raises(TableFaultError, match=r"no column for a field of the events: found 'currency'"):
        Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 5))
    assert files(tmp_path) == set()


def test_a_column_that_every_row_must_have_and_no_event_has_is_the_tables_fault(catalog, tmp_path):
    table = catalog.load_table(TRADES)
    with table.update_schema(allow_incompatible_changes=True) as update:
        update.add_column("desk", StringType(), required=True)
    with pytest.raises(TableFaultError, match="desk"):
        Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 5))
    assert files(tmp_path) == set()


def test_a_catalog_that_refuses_is_asked_twice_and_then_told_of_with_no_file_left(catalog, tmp_path):
    class Refusing:
        asked = 0

        def __getattr__(self, name):
            return getattr(catalog, name)

        def load_table(self, identifier):
            table = catalog.load_table(identifier)
            table.catalog = self
            return table

        def commit_table(self, *_):
            self.asked += 1
            raise ForbiddenError("sinks may not write to market_data")

    refusing = Refusing()
    committer = Committer(refusing, TRADES, ORIGIN, DataType.TRADES)
    with pytest.raises(TableFaultError, match="sinks may not write to market_data"):
        committer.commit(batch(0, 5))
    assert refusing.asked == 2
    assert files(tmp_path) == set()


def test_files_of_a_batch_that_fails_half_way_are_taken_back(catalog, tmp_path):
    rows = batch(0, 5, bad={4}).rows
    with pytest.raises(OverflowError):
        write_files(catalog.load_table(TRADES), rows.append_column("kafka_topic_id", [["t"] * 5]), np.arange(5))
    assert files(tmp_path) == set()


@pytest.mark.parametrize("data_type", list(DataType))
def test_a_plain_row_fits_every_built_in_table(catalog, data_type):
    spec = builtin_table(data_type, "market_data.plain")
    ensure_table(catalog, spec)
    check_writable(catalog.load_table(spec.identifier), plain_row(data_type))
