"""The schemas that derive from the columns of events."""

import json

import fastavro
import pyarrow as pa
import pytest

from k2.model.events import (
    COLUMNS,
    EVENT_TIME,
    MAX_DECIMAL,
    PRECISION,
    SCALE,
    SIDES,
    Decimals,
    arrow_schema,
    avro_schema,
    has_amounts,
    schema_decimals,
)
from k2.model.further import with_further
from k2.model.tables import TableColumn
from k2.model.topics import DataType


@pytest.mark.parametrize("data_type", DataType)
def test_the_avro_schema_is_one_and_names_what_arrow_names(data_type):
    schema = avro_schema(data_type)
    fastavro.parse_schema(json.loads(json.dumps(schema)))
    names = [field["name"] for field in schema["fields"]]
    assert names == arrow_schema(data_type).names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("data_type", DataType)
def test_what_may_be_null_is_a_union_that_defaults_to_null_and_nothing_else_is(data_type):
    for field, column, arrow in zip(
        avro_schema(data_type)["fields"], COLUMNS[data_type], arrow_schema(data_type), strict=True
    ):
        assert arrow.nullable == column.nullable
        assert isinstance(field["type"], list) == column.nullable
        if column.nullable:
            assert field["type"][0] == "null"
            assert field["default"] is None
        else:
            assert "default" not in field


@pytest.mark.parametrize("data_type", DataType)
def test_every_column_says_what_it_means(data_type):
    assert all(len(column.doc) > 10 for column in COLUMNS[data_type])


@pytest.mark.parametrize("data_type", DataType)
def test_an_event_s_time_is_a_timestamp_that_is_always_there(data_type):
    field = arrow_schema(data_type).field(EVENT_TIME[data_type])
    assert field.type == pa.timestamp("us", tz="UTC")
    assert not field.nullable


def test_a_trade_has_fifteen_columns_in_the_order_of_its_schema():
    assert arrow_schema(DataType.TRADES).names == [
        "message_id", "trade_id", "symbol", "exchange", "asset_class", "timestamp", "price", "quantity", "currency",
        "side", "trade_conditions", "source_sequence", "ingestion_timestamp", "platform_sequence", "vendor_data",
    ]  # fmt: skip


def test_decimals_hold_ten_integer_and_eight_fractional_digits():
    assert (PRECISION, SCALE) == (18, 8)
    assert str(MAX_DECIMAL) == "9999999999.99999999"
    assert pa.scalar(MAX_DECIMAL, pa.decimal128(18, 8)).as_py() == MAX_DECIMAL


def test_wide_decimals_hold_twenty_integer_and_eighteen_fractional_digits():
    assert str(Decimals.WIDE.largest) == "99999999999999999999.999999999999999999"
    assert pa.scalar(Decimals.WIDE.largest, Decimals.WIDE.arrow).as_py() == Decimals.WIDE.largest


@pytest.mark.parametrize("decimals", Decimals)
@pytest.mark.parametrize("data_type", DataType)
def test_a_schema_says_which_decimals_it_has(data_type, decimals):
    known = decimals if has_amounts(data_type) else Decimals.STANDARD
    assert schema_decimals(avro_schema(data_type, decimals)) is known


@pytest.mark.parametrize(
    ("precision", "scale", "decimals"),
    [(10, 2, "standard"), (18, 8, "standard"), (19, 8, "wide"), (18, 9, "wide"), (20, 0, "wide"), (10, 0, "standard")],
)
def test_a_writers_own_decimals_are_standard_where_standard_ones_hold_them_all(precision, scale, decimals):
    amount = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    assert schema_decimals({"type": "record", "fields": [{"name": "price", "type": ["null", amount]}]}) == decimals


def test_a_further_column_of_many_digits_makes_no_amount_wide():
    further = with_further(avro_schema(DataType.TRADES), [TableColumn("edge", "decimal(38, 18)")])
    assert schema_decimals(further) is Decimals.STANDARD


def test_the_order_of_sides_is_part_of_the_wire_format():
    """An Avro enum goes as its index: a symbol may be added at the end, never moved."""
    assert SIDES == ("BUY", "SELL", "SELL_SHORT", "UNKNOWN")
