"""Columns and tails of several tables as one: the widest type holds the values of each, and what one lacks is null."""

from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2.lake.reader import ColumnInfo
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.rows import sql
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


def test_values_of_tails_that_are_text_together_are_written_as_those_of_files_are(tmp_path):
    moment = datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC)
    kinds = {
        "list<string>": pa.array([["a", "b c"]]),
        "map<string, string>": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
        "timestamptz": pa.array([moment], pa.timestamp("us", "UTC")),
        "decimal(18, 8)": dec("1e-8", 18, 8),
        "double": pa.array([1e16]),
        "boolean": pa.array([True]),
        "date": pa.array([moment.date()]),
        "long": pa.array([7]),
        "string": pa.array(["text"]),
    }
    own = [columns(symbol="string", timestamp="timestamptz", value=kind) for kind in kinds]
    time = pa.array([moment], pa.timestamp("us", "UTC"))
    parts = [
        Relation(
            (TableRows(kind, each, (), 0),),
            each,
            (),
            tail=pa.table({"symbol": [kind], "timestamp": time, "value": values}),
        )
        for each, (kind, values) in zip(own, kinds.items(), strict=True)
    ]
    path = tmp_path / "one.parquet"
    engine = Engine(Limits())
    try:
        statement = sql.events(united(parts), sql.Filter(), by=(), fields=("symbol", "value"))
        found = dict(zip(*engine.fetch("test", statement).to_pydict().values(), strict=True))
        for kind, values in kinds.items():
            pq.write_table(pa.table({"value": values}), path)
            text = f"SELECT value::VARCHAR AS value FROM read_parquet('{path}')"
            (in_file,) = duckdb.sql(f"SET TimeZone = 'UTC'; {text}").fetchone()
            assert found[kind] == in_file
    finally:
        engine.close()


def dec(text, precision, scale):
    return pa.array([Decimal(text)], pa.decimal128(precision, scale))
