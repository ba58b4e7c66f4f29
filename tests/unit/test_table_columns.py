"""Columns of a table beside the built-in ones: what an edit of the list does to the table, and what it must not do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
import stamina
from hypothesis import assume, given
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN, batch
from k2_testing.foreign import foreign_trades, optional, writer_schema
from k2_testing.lake import TRADES, make_lake
from pydantic import TypeAdapter
from pyiceberg.exceptions import CommitFailedException, ResolveError
from pyiceberg.schema import promote
from pyiceberg.types import IcebergType, StringType

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.columns import DECLARED, extra_columns
from k2.lake.offsets import recorded_offsets
from k2.lake.payloads import PausedError, PayloadDecoder, in_one_piece
from k2.lake.proof.audit import audit_table
from k2.lake.tables import ensure_table
from k2.model.codec.further import names_of
from k2.model.errors import UserError, WorldError
from k2.model.further import TYPES, canonical, decimal_digits, is_wider
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType

_TYPE: TypeAdapter[IcebergType] = TypeAdapter(IcebergType)
BUILTIN = builtin_table(DataType.TRADES)


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


def edit(catalog, *columns: TableColumn) -> list[str]:
    return ensure_table(catalog, replace(BUILTIN, columns=(*BUILTIN.columns, *columns)))


def columns_of(catalog) -> dict[str, str]:
    own = {column.name for column in BUILTIN.columns}
    schema = catalog.load_table(TRADES).schema()
    return {each.name: str(each.field_type) for each in schema.fields if each.name not in own}


def refused(catalog, *columns: TableColumn) -> str:
    before = catalog.load_table(TRADES).metadata_location
    with pytest.raises(UserError) as failure:
        edit(catalog, *columns)
    assert catalog.load_table(TRADES).metadata_location == before, "something was changed all the same"
    return str(failure.value)


def test_an_edit_adds_renames_widens_and_makes_optional_in_one_commit(catalog):
    edit(catalog, TableColumn("lots", "int"), TableColumn("flag", "string"), TableColumn("edge", "decimal(9, 4)"))
    with catalog.load_table(TRADES).update_schema(allow_incompatible_changes=True) as update:
        update.update_column("lots", required=True)  # as another tool may have made it
    before = len(catalog.load_table(TRADES).metadata.metadata_log)
    told = edit(
        catalog,
        TableColumn("lots", "long"),
        TableColumn("venue_flag", "string", was="flag"),
        TableColumn("edge", "decimal(18, 4)", doc="What it cost beyond the mid."),
        TableColumn("auction", "boolean"),
    )
    assert told == [
        "added auction to market_data.trades",
        "renamed flag of market_data.trades to venue_flag",
        "widened lots of market_data.trades to long",
        "widened edge of market_data.trades to decimal(18, 4)",
        "made lots of market_data.trades optional",
        "described edge of market_data.trades",
    ]
    assert columns_of(catalog) == {
        "lots": "long",
        "venue_flag": "string",
        "edge": "decimal(18, 4)",
        "auction": "boolean",
    }
    assert len(catalog.load_table(TRADES).metadata.metadata_log) == before + 1
    assert not catalog.load_table(TRADES).schema().find_field("lots").required


def test_the_same_list_once_more_changes_nothing(catalog):
    wanted = (TableColumn("flag", "string", doc="Of the venue."), TableColumn("tags", "map<string,string>"))
    edit(catalog, *wanted)
    before = catalog.load_table(TRADES).metadata_location
    assert edit(catalog, *wanted) == []
    renamed = (replace(wanted[0], name="venue_flag", was="flag"), wanted[1])
    edit(catalog, *renamed)
    assert edit(catalog, *renamed) == [], "`was` may stay in the list"
    assert before != catalog.load_table(TRADES).metadata_location


def test_a_table_made_with_further_columns_has_them_and_knows_that_they_were_declared(tmp_path):
    catalog = make_lake(tmp_path, DataType.QUOTES)
    edit(catalog, TableColumn("flag", "string"))
    table = catalog.load_table(TRADES)
    assert json.loads(table.properties[DECLARED]) == [table.schema().find_field("flag").field_id]
    assert "cannot go by leaving it out" in refused(catalog)


def test_a_column_that_another_tool_has_added_is_left_alone_until_it_is_listed(catalog):
    with catalog.load_table(TRADES).update_schema() as update:
        update.add_column("desk", StringType())
    assert edit(catalog) == []
    assert edit(catalog, TableColumn("flag", "string")) == ["added flag to market_data.trades"]
    assert columns_of(catalog) == {"desk": "string", "flag": "string"}
    assert edit(catalog, TableColumn("flag", "string"), TableColumn("desk", "string")) == []
    assert "no desk among the columns" in refused(catalog, TableColumn("flag", "string"))


def test_one_that_was_dropped_with_another_engine_may_leave_the_list(catalog):
    edit(catalog, TableColumn("flag", "string"))
    with catalog.load_table(TRADES).update_schema() as update:
        update.delete_column("flag")
    assert "that is gone had that name" in refused(catalog, TableColumn("flag", "string"))
    assert edit(catalog) == []
    assert edit(catalog) == []


@pytest.mark.parametrize(
    ("now", "then", "text"),
    [
        (TableColumn("a", "long"), TableColumn("a", "int"), "cannot change its type: found 'int', expected long."),
        (TableColumn("a", "int"), TableColumn("a", "string"), "found 'string', expected int or long."),
        (TableColumn("a", "double"), TableColumn("a", "float"), "found 'float', expected double."),
        (TableColumn("a", "decimal(18, 4)"), TableColumn("a", "decimal(9, 4)"), "expected decimal(18, 4) or one of the"),
        (TableColumn("a", "decimal(18, 4)"), TableColumn("a", "decimal(20, 6)"), "found 'decimal(20, 6)'"),
        (TableColumn("a", "date"), TableColumn("a", "timestamptz"), "found 'timestamptz', expected date."),
        (TableColumn("a", "list<string>"), TableColumn("a", "string"), "found 'string', expected list<string>."),
        (TableColumn("a", "int"), TableColumn("a", "int", required=True), "of market_data.trades cannot become required"),
        (TableColumn("a", "int"), TableColumn("b", "int"), "cannot go by leaving it out: what its rows hold"),
        (TableColumn("a", "int"), TableColumn("A", "int"), "differs in capitals alone"),
        (TableColumn("a", "int"), TableColumn("b", "string", was="a"), "Column b of market_data.trades cannot change"),
        (TableColumn("a", "int"), TableColumn("b", "int", required=True), "rows that a new required column would leave"),
    ],
)  # fmt: skip
def test_what_would_lose_rows_or_change_a_value_is_refused_with_the_reason(catalog, now, then, text):
    edit(catalog, now)
    found = refused(catalog, then)
    assert text in found
    assert found.count(".") >= 2, "it says what to do"


def test_of_an_edit_with_one_mistake_nothing_is_done(catalog):
    edit(catalog, TableColumn("a", "int"), TableColumn("b", "string"))
    refused(catalog, TableColumn("a", "long"), TableColumn("b", "int"), TableColumn("c", "string"))
    assert columns_of(catalog) == {"a": "int", "b": "string"}


def test_a_name_that_a_column_had_is_not_given_to_another_one(catalog):
    edit(catalog, TableColumn("flag", "string"))
    edit(catalog, TableColumn("venue_flag", "string", was="flag"))
    text = refused(catalog, TableColumn("venue_flag", "string", was="flag"), TableColumn("flag", "string"))
    assert "is now called venue_flag had that name" in text
    assert edit(catalog, TableColumn("flag", "string", was="venue_flag")) == [
        "renamed venue_flag of market_data.trades to flag"
    ]


def test_two_columns_are_never_made_one(catalog):
    edit(catalog, TableColumn("a", "string"), TableColumn("b", "string"))
    assert "has both b and a, which b is said to have been" in refused(catalog, TableColumn("b", "string", was="a"))
    one = (TableColumn("c", "string", was="a"), TableColumn("d", "string", was="a"), TableColumn("b", "string"))
    assert "Two columns of market_data.trades were one before" in refused(catalog, *one)


def test_an_edit_is_a_snapshot_without_rows_that_carries_the_offsets(catalog):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    first = catalog.load_table(TRADES).current_snapshot()
    edit(catalog, TableColumn("flag", "string"))
    table = catalog.load_table(TRADES)
    assert table.current_snapshot().schema_id != first.schema_id
    assert table.snapshot_by_id(first.snapshot_id).schema_id == first.schema_id
    assert recorded_offsets(table).next_of(ORIGIN.topic) == {0: 10}
    committer.commit(batch(10, 20))
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 20}}).ok


def test_an_edit_meets_a_sink_that_commits_and_neither_loses(catalog):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    real, met = catalog.commit_table, []

    def sink_is_quicker(*arguments):
        if not met:
            met.append(True)
            catalog.commit_table = real
            committer.commit(batch(10, 20))
            catalog.commit_table = sink_is_quicker
        return real(*arguments)

    catalog.commit_table = sink_is_quicker
    try:
        edit(catalog, TableColumn("flag", "string"))
    finally:
        del catalog.commit_table
    assert met
    assert columns_of(catalog) == {"flag": "string"}
    assert recorded_offsets(catalog.load_table(TRADES)).next_of(ORIGIN.topic) == {0: 20}
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 20}}).ok


def test_a_catalog_that_never_lets_an_edit_through_is_an_error_of_the_world(catalog):
    def never(*_):
        raise CommitFailedException("somebody else was quicker")

    catalog.commit_table = never
    with (
        stamina.set_testing(testing=True, attempts=2),
        pytest.raises(WorldError, match=r"Others committed to market_data.trades"),
    ):
        edit(catalog, TableColumn("flag", "string"))


# --- messages while the table is edited -----------------------------------------------------------------------------


class Topic:
    """Schemas by id, and messages under them, decoded and written as a sink does."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.schemas: dict[int, str] = {}
        self.sent = 0
        self.decoder = PayloadDecoder(
            "market.equities.trades.asx", TRADES, DataType.TRADES, self.schemas.get, lambda: catalog.load_table(TRADES)
        )
        self.committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, drop_duplicates=False)

    def messages(self, fields, *values):
        schema = writer_schema(*fields)
        number = len(self.schemas) + 1
        self.schemas[number] = json.dumps(schema)
        self.sent += len(values)
        return foreign_trades(schema, number, values, first=self.sent - len(values))

    def commit(self, decoded, start):
        lineage = pa.Table.from_batches([decoded.events])
        lineage = lineage.append_column("kafka_partition", pa.array([0] * len(lineage), pa.int32()))
        lineage = lineage.append_column("kafka_offset", pa.array(start + decoded.rows, pa.int64()))
        stop = start + len(decoded.rows) + len(decoded.bad)
        self.committer.commit(Batch(lineage, {0: (start, stop)}, {0: len(decoded.bad)} if decoded.bad else {}))

    def rows(self, *names):
        table = self.catalog.load_table(TRADES).scan(selected_fields=("trade_id", *names)).to_arrow()
        return [tuple(row[name] for name in names) for row in table.sort_by("trade_id").to_pylist()]


@pytest.fixture
def topic(catalog):
    return Topic(catalog)


def test_a_field_is_waited_with_until_the_table_has_its_column(catalog, topic):
    messages = topic.messages([optional("flag", "string")], {"flag": "X"}, {"flag": None})
    with pytest.raises(PausedError, match=r"no column for: flag.*spec.columns"):
        topic.decoder(messages)
    edit(catalog, TableColumn("flag", "string"))
    assert topic.decoder(messages).events.column("flag").to_pylist() == ["X", None]


def test_old_and_new_name_lead_into_the_one_column(catalog, topic):
    edit(catalog, TableColumn("flag", "string"))
    before = topic.decoder(topic.messages([optional("flag", "string")], {"flag": "held over the edit"}))
    edit(catalog, TableColumn("venue_flag", "string", was="flag"))
    topic.commit(before, 0)
    topic.commit(topic.decoder(topic.messages([optional("flag", "string")], {"flag": "old"})), 1)
    topic.commit(topic.decoder(topic.messages([optional("venue_flag", "string")], {"venue_flag": "new"})), 2)
    both = [optional("flag", "string"), optional("venue_flag", "string")]
    decoded = topic.decoder(
        topic.messages(
            both,
            {"flag": "a", "venue_flag": None},
            {"flag": None, "venue_flag": "b"},
            {"flag": "c", "venue_flag": "c"},
            {"flag": "d", "venue_flag": "e"},
            {"flag": None, "venue_flag": None},
        )
    )
    topic.commit(decoded, 3)
    assert topic.rows("venue_flag") == [(value,) for value in ("held over the edit", "old", "new", "a", "b", "c", None)]
    assert [bad.reason for bad in decoded.bad] == ["venue_flag is 'e' and flag, its former name, is 'd'"]


def test_a_value_beyond_a_column_is_a_dead_letter_until_the_column_was_widened(catalog, topic):
    edit(catalog, TableColumn("lots", "int"))
    fields = [optional("lots", "long")]
    messages = topic.messages(fields, {"lots": 5}, {"lots": 2**40})
    decoded = topic.decoder(messages)
    topic.commit(decoded, 0)
    assert [bad.reason for bad in decoded.bad] == ["lots is 1099511627776, which is no int32"]
    edit(catalog, TableColumn("lots", "long"))
    again = topic.decoder(messages[1:])  # the decoder has not been told
    topic.commit(again, 2)
    assert (again.bad, topic.rows("lots")) == ([], [(5,), (2**40,)])


def test_rows_decoded_before_and_after_an_edit_are_one_batch(catalog, topic):
    edit(catalog, TableColumn("lots", "int"), TableColumn("edge", "decimal(9, 2)"))
    fields = [optional("lots", "int"), optional("edge", decimal(9, 2))]
    first = topic.decoder(topic.messages(fields, {"lots": 1, "edge": Decimal("1.25")})).events
    edit(catalog, TableColumn("size_in_lots", "long", was="lots"), TableColumn("edge", "decimal(20, 2)"))
    fields = [optional("size_in_lots", "long"), optional("edge", decimal(20, 2))]
    second = topic.decoder(topic.messages(fields, {"size_in_lots": 2**40, "edge": Decimal("1e15")})).events
    whole = in_one_piece([first, second])
    assert whole.select(["size_in_lots", "edge"]).to_pylist() == [
        {"size_in_lots": 1, "edge": Decimal("1.25")},
        {"size_in_lots": 2**40, "edge": Decimal("1e15")},
    ]


def decimal(precision, scale):
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


DATE, MICROS, NANOS = (
    {"type": kind, "logicalType": name}
    for kind, name in (("int", "date"), ("long", "timestamp-micros"), ("long", "timestamp-nanos"))
)
STRINGS, STRING_MAP = {"type": "array", "items": "string"}, {"type": "map", "values": "string"}


@pytest.mark.parametrize(
    ("column", "avro", "good", "bad"),
    [
        ("string", "string", 'ü\n"x', None),
        ("string", {"type": "enum", "name": "Venue", "symbols": ["LIT", "DARK"]}, "DARK", None),
        ("int", "int", -(2**31), None),
        ("int", "long", 2**31 - 1, 2**31),
        ("long", "long", -(2**63), None),
        ("long", "int", 7, None),
        ("float", "double", 0.5, 0.1),
        ("double", "float", 0.25, None),
        ("double", "double", 0.1, None),
        ("double", "long", 2**53, 2**53 + 1),
        ("boolean", "boolean", True, None),
        ("date", DATE, date(2026, 3, 2), None),
        ("timestamptz", MICROS, datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC), None),
        ("decimal(9, 4)", decimal(9, 4), Decimal("12345.6789"), None),
        ("decimal(9, 4)", decimal(18, 4), Decimal("-12345.6789"), Decimal("123456.7890")),
        ("decimal(9, 4)", decimal(9, 6), Decimal("1.250000"), Decimal("1.234567")),
        ("decimal(38, 18)", decimal(38, 18), Decimal("12345678901234567890.123456789012345678"), None),
        ("list<string>", STRINGS, ["a", "", "ü"], None),
        ("map<string, string>", STRING_MAP, {"a": "1"}, None),
    ],
)  # fmt: skip
def test_a_value_of_every_type_arrives_exactly_or_is_a_dead_letter(catalog, topic, column, avro, good, bad):
    edit(catalog, TableColumn("extra", column))
    values = [{"extra": good}, {"extra": None}, *([{"extra": bad}] if bad is not None else [])]
    decoded = topic.decoder(topic.messages([optional("extra", avro)], *values))
    topic.commit(decoded, 0)
    found = topic.rows("extra")[0][0]
    assert (dict(found) if isinstance(good, dict) else found) == good
    assert topic.rows("extra")[1] == (None,)
    assert [each.index for each in decoded.bad] == ([2] if bad is not None else [])
    assert all(each.reason.startswith("extra ") for each in decoded.bad)


@pytest.mark.parametrize(
    ("column", "avro", "value", "said"),
    [
        ("string", "long", 1, "extra of its schema is long"),
        ("string", "bytes", b"x", "extra of its schema is bytes"),
        ("int", DATE, date(2026, 3, 2), "extra of its schema is date"),
        ("long", MICROS, datetime(2026, 3, 2, tzinfo=UTC), "extra of its schema is timestamp-micros"),
        ("long", "double", 1.0, "extra of its schema is double"),
        ("boolean", "int", 1, "extra of its schema is int"),
        ("date", "int", 1, "extra of its schema is int"),
        ("timestamptz", "long", 1, "extra of its schema is long"),
        ("decimal(9, 4)", "double", 0.1, "extra of its schema is double, which is no decimal128(9, 4)"),
        ("decimal(9, 4)", "string", "0.1", "extra of its schema is string"),
        ("list<string>", {"type": "array", "items": "long"}, [1], "extra of its schema is array of long"),
        ("map<string, string>", {"type": "map", "values": "int"}, {"a": 1}, "extra of its schema is map of int"),
    ],
)  # fmt: skip
def test_a_field_that_means_something_else_than_the_column_is_no_value_of_it(catalog, topic, column, avro, value, said):
    edit(catalog, TableColumn("extra", column))
    decoded = topic.decoder(topic.messages([optional("extra", avro)], {"extra": value}, {"extra": value}))
    assert [said in each.reason for each in decoded.bad] == [True, True]
    assert not len(decoded.rows)


def test_more_digits_than_a_schema_declares_do_not_enter_a_column_in_silence(catalog, topic):
    edit(catalog, TableColumn("edge", "decimal(9, 2)"))
    (message,) = topic.messages([optional("edge", decimal(9, 2))], {"edge": Decimal("1.25")})
    tail = b"\x02\x02\x7d"  # the branch, one byte, 125
    assert message.endswith(tail)
    long = message.removesuffix(tail) + b"\x02\x10" + (10**17).to_bytes(8, "big")
    decoded = topic.decoder([message, long])
    assert [each.reason for each in decoded.bad] == ["edge has more digits than decimal128(9, 2) holds"]


def test_extra_columns_know_their_former_names(catalog):
    edit(catalog, TableColumn("a", "string"))
    edit(catalog, TableColumn("b", "string", was="a"))
    edit(catalog, TableColumn("c", "string", was="b"))
    (column,) = extra_columns(catalog.load_table(TRADES), DataType.TRADES)
    assert names_of(column) == ("c", "a", "b")


PRIMITIVES = ("string", "int", "long", "float", "double", "boolean", "date", "timestamptz")
kinds = st.one_of(
    st.sampled_from(PRIMITIVES),
    st.tuples(st.integers(1, 38), st.integers(0, 38))
    .filter(lambda found: found[1] <= found[0])
    .map(lambda found: f"decimal({found[0]},{found[1]})"),
)


@given(kinds, kinds)
def test_what_is_called_wider_is_what_iceberg_widens(now, then):
    def widens():
        try:
            return promote(_TYPE.validate_python(now), _TYPE.validate_python(then)) is not None
        except ResolveError:
            return False

    assume(canonical(now) != canonical(then))
    scales = {digits[1] for kind in (now, then) if (digits := decimal_digits(kind)) is not None}
    # PyIceberg lets a decimal's scale change, which Iceberg does not: each value would be another one.
    assert is_wider(canonical(now), canonical(then)) == (widens() and len(scales) < 2)


def test_the_types_in_error_texts_are_those_that_are_taken():
    assert all(name in TYPES for name in (*PRIMITIVES, "decimal(p, s)", "list<string>", "map<string, string>"))
