"""Tables of wide decimals: files, bounds, duplicates and reasons are exact; a table says itself which decimals it has."""

from __future__ import annotations

import json
from decimal import Decimal

import pyarrow.parquet as pq
import pytest
from k2_testing.committed import ORIGIN
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.foreign import KnownSchemas
from k2_testing.lake import TRADES, make_lake
from pyiceberg.conversions import from_bytes
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, NestedField, StringType

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.appends.unwritable import check_writable, plain_row
from k2.lake.payloads import PayloadDecoder
from k2.lake.proof.audit import audit_table
from k2.lake.tables import ensure_table, table_decimals
from k2.model.codec import encode
from k2.model.errors import UserError
from k2.model.events import Decimals, avro_schema, has_amounts
from k2.model.tables import builtin_table
from k2.model.topics import DataType

PRICES = [
    Decimal(text)
    for text in (
        "0.0000000000001",
        "9999999999999.123456789012345678",
        "99999999999999999999.999999999999999999",
        "0.000000000000000001",
        "36.5",
    )
]


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path, decimals=Decimals.WIDE)


def batch(prices, start=0, ids=None, decimals=Decimals.WIDE):
    numbers = range(start, start + len(prices))
    events = trades(
        [message_id(number) for number in ids or numbers],
        symbols=["PEPE"] * len(prices),
        times=[START_US + number for number in ids or numbers],
        trade_ids=[f"T{number}" for number in ids or numbers],
        prices=prices,
        decimals=decimals,
    )
    return Batch(with_lineage(events, [0] * len(prices), numbers), {0: (start, start + len(prices))}, {})


def test_amounts_come_back_from_files_as_they_were_and_the_bounds_are_exact(catalog):
    assert Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(PRICES)).rows == len(PRICES)
    table = catalog.load_table(TRADES)
    (task,) = table.scan().plan_files()
    field = table.schema().find_field("price")
    assert pq.read_table(task.file.file_path.removeprefix("file://")).column("price").to_pylist() == PRICES
    assert table.scan().to_arrow().column("price").to_pylist() == PRICES
    lowest, highest = (from_bytes(field.field_type, bounds[field.field_id]) for bounds in (task.file.lower_bounds, task.file.upper_bounds))  # fmt: skip
    assert (lowest, highest) == (min(PRICES), max(PRICES))
    assert audit_table(table, {ORIGIN.topic: {0: len(PRICES)}}).ok


def test_the_same_event_is_a_duplicate_and_another_under_its_id_is_told_with_all_digits(catalog):
    buried = []
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, bury=buried.extend)
    committer.commit(batch(PRICES))
    done = committer.commit(batch(PRICES, start=5, ids=range(5)))
    assert (done.rows, done.duplicates) == (0, 5)
    other = Decimal("9999999999999.123456789012345679")
    done = committer.commit(batch([other], start=10, ids=[1]))
    assert (done.rows, done.dead_rows) == (0, 1)
    assert "price 9999999999999.123456789012345679 here, price 9999999999999.123456789012345678 at " in buried[0].reason


@pytest.mark.parametrize("data_type", [each for each in DataType if has_amounts(each)])
@pytest.mark.parametrize("decimals", list(Decimals))
def test_a_plain_row_fits_a_table_of_its_decimals(tmp_path, data_type, decimals):
    table = make_lake(tmp_path, data_type, decimals=decimals).load_table(f"market_data.{data_type}")
    assert table_decimals(table.schema(), data_type) is decimals
    check_writable(table, plain_row(data_type, decimals))


@pytest.mark.parametrize(("is_now", "wanted"), [("standard", "wide"), ("wide", "standard")])
def test_the_decimals_of_a_table_cannot_be_edited_and_the_table_stays_as_it_was(tmp_path, is_now, wanted):
    catalog = make_lake(tmp_path, decimals=Decimals(is_now))
    before = catalog.load_table(TRADES).metadata
    with pytest.raises(UserError) as refused:
        ensure_table(catalog, builtin_table(DataType.TRADES, decimals=Decimals(wanted)))
    assert str(refused.value) == (
        f"spec.decimals of the IcebergTable of {TRADES} cannot change: Iceberg never changes a scale: found '{wanted}', "
        f"expected {is_now}. Set it back, or make another table with decimals: {wanted} and let the feed's stream name that "
        "one: its sink reads what the topic keeps from the beginning."
    )
    assert catalog.load_table(TRADES).metadata == before
    assert ensure_table(catalog, builtin_table(DataType.TRADES, decimals=Decimals(is_now))) == []


def test_a_table_is_wide_when_each_of_its_amounts_is_as_fine_as_wide_ones_are():
    def kind(*scales):
        columns = [NestedField(n + 1, name, DecimalType(38, scale)) for n, (name, scale) in enumerate(zip(("price", "quantity"), scales, strict=True))]  # fmt: skip
        return table_decimals(Schema(*columns, NestedField(9, "note", StringType())), DataType.TRADES)

    assert kind(18, 18) is Decimals.WIDE
    assert kind(18, 8) is Decimals.STANDARD
    assert kind(8, 8) is Decimals.STANDARD


@pytest.mark.parametrize("sent", list(Decimals))
def test_a_sink_decodes_to_the_decimals_of_its_table_whatever_was_sent(catalog, tmp_path_factory, sent):
    fits = [price for price in PRICES if sent is Decimals.WIDE or price == Decimal("36.5")]
    payloads = encode(
        batch(fits, decimals=sent).rows.select(range(15)).to_batches()[0], DataType.TRADES, 7, sent
    ).payloads()

    def decoded(lake):
        text = json.dumps(avro_schema(DataType.TRADES, sent))
        read = PayloadDecoder("t", TRADES, DataType.TRADES, KnownSchemas({7: text}), lambda: lake.load_table(TRADES))
        return read.decimals, read(payloads)

    decimals, found = decoded(catalog)
    assert (decimals, found.bad) == (Decimals.WIDE, [])
    assert found.events.column("price").to_pylist() == fits
    decimals, found = decoded(make_lake(tmp_path_factory.mktemp("standard")))
    assert decimals is Decimals.STANDARD
    assert found.events.column("price").to_pylist() == [Decimal("36.5")]
    assert len(found.bad) == len(fits) - 1
    assert all(bad.reason.endswith("; an IcebergTable with spec.decimals: wide holds it") for bad in found.bad)
