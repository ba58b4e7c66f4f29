"""Columns and tails of several tables as one: the widest type holds the values of each, and what one lacks is null."""

from decimal import Decimal

import pyarrow as pa
import pytest

from k2.lake.reader import ColumnInfo
from k2.query.rows.relation import Relation, TableRows
from k2.query.rows.widest import united, widest


def columns(**types):
    return tuple(ColumnInfo(number, name, kind) for number, (name, kind) in enumerate(types.items(), start=1))


@pytest.mark.parametrize(
    ("one", "other", "wider"),
    [
        ("decimal(18, 8)", "decimal(38, 18)", "decimal(38, 18)"),
        ("decimal(18, 8)", "decimal(10, 9)", "decimal(19, 9)"),
        ("decimal(38, 0)", "decimal(38, 18)", "string"),  # 56 digits fit no decimal
        ("int", "long", "long"),
        ("float", "double", "double"),
        ("long", "string", "string"),
        ("string", "struct<1: a: optional int>", "struct<1: a: optional int>"),  # what cannot be asked for stays so
        ("timestamptz", "timestamptz", "timestamptz"),
    ],
)
def test_a_column_is_as_wide_as_the_widest_of_its_tables(one, other, wider):
    for pair in ((one, other), (other, one)):
        assert [each.type for each in widest(tuple(columns(value=kind) for kind in pair))] == [wider]


def test_columns_of_the_first_table_come_first_and_each_name_once():
    found = widest((columns(symbol="string", price="decimal(18, 8)"), columns(flag="int", symbol="string")))
    assert [each.name for each in found] == ["symbol", "price", "flag"]


def test_rows_of_several_tails_become_one_of_the_widest_types():
    ids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"1" * 16], pa.binary(16)))
    tails = [
        pa.table({"symbol": pa.array(["A"]).dictionary_encode(), "message_id": ids, "price": dec("2.5", 18, 8)}),
        pa.table({"symbol": pa.array(["B"]).dictionary_encode(), "message_id": ids, "price": dec("1e-18", 38, 18)}),
    ]
    tails[1] = tails[1].append_column("flag", pa.array([7]))
    own = [
        columns(symbol="string", message_id="uuid", price="decimal(18, 8)"),
        columns(symbol="string", message_id="uuid", price="decimal(38, 18)", flag="long"),
    ]
    parts = [
        Relation((TableRows(f"a.{number}", own[number], (), 0),), own[number], (), tail=tail)
        for number, tail in enumerate(tails)
    ]
    found = united(parts)
    assert found.tail.schema.field("price").type == pa.decimal128(38, 18)
    assert found.tail["symbol"].to_pylist() == ["A", "B"]
    assert found.tail["price"].to_pylist() == [Decimal("2.5"), Decimal("1e-18")]
    assert found.tail["flag"].to_pylist() == [None, 7]
    assert [each.tail_rows for each in found.tables] == [1, 1]
    assert all(column.num_chunks == 1 for column in found.tail.columns)


def dec(text, precision, scale):
    return pa.array([Decimal(text)], pa.decimal128(precision, scale))
