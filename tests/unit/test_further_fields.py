"""Messages with further fields while the table's columns are edited: decoded and written as a sink does."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.extent import sized
from k2_testing.foreign import KnownSchemas, foreign_trades, optional, writer_schema
from k2_testing.lake import TRADES, list_columns, make_lake

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.columns import extra_columns
from k2.lake.payloads import PausedError, PayloadDecoder, in_one_piece
from k2.model.codec.further import HELD_BY_WIDER, names_of
from k2.model.tables import TableColumn
from k2.model.topics import DataType


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


class Topic:
    """Schemas by id, and messages under them, decoded and written as a sink does."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.schemas: dict[int, str] = {}
        self.sent = 0
        self.decoder = PayloadDecoder(
            "market.equities.trades.asx",
            TRADES,
            DataType.TRADES,
            KnownSchemas(self.schemas),
            lambda: catalog.load_table(TRADES),
        )
        self.committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)

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
    list_columns(catalog, TableColumn("flag", "string"))
    assert topic.decoder(messages).events.column("flag").to_pylist() == ["X", None]


def test_old_and_new_name_lead_into_the_one_column(catalog, topic):
    list_columns(catalog, TableColumn("flag", "string"))
    before = topic.decoder(topic.messages([optional("flag", "string")], {"flag": "held over the edit"}))
    list_columns(catalog, TableColumn("venue_flag", "string", was="flag"))
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
    list_columns(catalog, TableColumn("lots", "int"))
    fields = [optional("lots", "long")]
    messages = topic.messages(fields, {"lots": 5}, {"lots": 2**40})
    decoded = topic.decoder(messages)
    topic.commit(decoded, 0)
    assert [bad.reason for bad in decoded.bad] == [f"lots is 1099511627776, which is no int{HELD_BY_WIDER}"]
    list_columns(catalog, TableColumn("lots", "long"))
    again = topic.decoder(messages[1:])  # the decoder has not been told
    topic.commit(again, 2)
    assert (again.bad, topic.rows("lots")) == ([], [(5,), (2**40,)])


def test_rows_decoded_before_and_after_an_edit_are_one_batch(catalog, topic):
    list_columns(catalog, TableColumn("lots", "int"), TableColumn("edge", "decimal(9, 2)"))
    fields = [optional("lots", "int"), optional("edge", decimal(9, 2))]
    first = topic.decoder(topic.messages(fields, {"lots": 1, "edge": Decimal("1.25")})).events
    list_columns(catalog, TableColumn("size_in_lots", "long", was="lots"), TableColumn("edge", "decimal(20, 2)"))
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
    list_columns(catalog, TableColumn("extra", column))
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
        ("decimal(9, 4)", "double", 0.1, "extra of its schema is double, which is no decimal(9, 4)"),
        ("decimal(9, 4)", "string", "0.1", "extra of its schema is string"),
        ("list<string>", {"type": "array", "items": "long"}, [1], "extra of its schema is array of long"),
        ("map<string, string>", {"type": "map", "values": "int"}, {"a": 1}, "extra of its schema is map of int"),
    ],
)  # fmt: skip
def test_a_field_that_means_something_else_than_the_column_is_no_value_of_it(catalog, topic, column, avro, value, said):
    list_columns(catalog, TableColumn("extra", column))
    decoded = topic.decoder(topic.messages([optional("extra", avro)], {"extra": value}, {"extra": value}))
    assert [said in each.reason for each in decoded.bad] == [True, True]
    assert not len(decoded.rows)


def test_more_digits_than_a_schema_declares_do_not_enter_a_column_in_silence(catalog, topic):
    list_columns(catalog, TableColumn("edge", "decimal(9, 2)"))
    (message,) = topic.messages([optional("edge", decimal(9, 2))], {"edge": Decimal("1.25")})
    tail = b"\x02\x02\x7d"  # the branch, one byte, 125
    assert message.endswith(tail)
    long = message.removesuffix(tail) + b"\x02\x10" + (10**17).to_bytes(8, "big")
    decoded = topic.decoder([message, long])
    assert [each.reason for each in decoded.bad] == [f"edge has more digits than decimal(9, 2){HELD_BY_WIDER}"]


def test_extra_columns_know_their_former_names(catalog):
    list_columns(catalog, TableColumn("a", "string"))
    list_columns(catalog, TableColumn("b", "string", was="a"))
    list_columns(catalog, TableColumn("c", "string", was="b"))
    (column,) = extra_columns(catalog.load_table(TRADES), DataType.TRADES)
    assert names_of(column) == ("c", "a", "b")


# --- any order of edits and messages --------------------------------------------------------------------------------

CHAINS = (
    (("string", "string", st.text(max_size=5)),),
    (("int", "int", st.integers(-(2**31), 2**31 - 1)), ("long", "long", st.integers(-(2**63), 2**63 - 1))),
    (
        ("float", "float", st.integers(-1000, 1000).map(lambda n: n / 8)),
        ("double", "double", st.floats(allow_nan=False)),
    ),
    tuple(
        (f"decimal({digits}, 2)", decimal(digits, 2), st.integers(1 - 10**digits, 10**digits - 1).map(lambda n: Decimal(f"{n}e-2")))
        for digits in (9, 18, 30)
    ),
)  # fmt: skip
"""Kinds of column, each with its types from the narrowest on: Iceberg's, Avro's, and values of it."""


@dataclass
class Evolving:
    """A column through the edits: all names that it had, and how far it was widened."""

    chain: int
    names: list[str]
    width: int = 0

    @property
    def column(self):
        was = self.names[-2] if len(self.names) > 1 else ""
        return TableColumn(self.names[-1], CHAINS[self.chain][self.width][0], was=was)


@dataclass
class World:
    """A table that is edited, writers of any of its times, and what each of them has said."""

    topic: Topic
    columns: list[Evolving] = field(default_factory=list)
    held: list = field(default_factory=list)
    expected: dict = field(default_factory=lambda: defaultdict(dict))
    start: int = 0

    def edit(self):
        list_columns(self.topic.catalog, *(each.column for each in self.columns))

    def commit(self):
        if self.held:
            rows = in_one_piece(self.held)
            rows = rows.append_column("kafka_partition", pa.array([0] * len(rows), pa.int32()))
            rows = rows.append_column("kafka_offset", pa.array(range(self.start, self.start + len(rows)), pa.int64()))
            self.topic.committer.commit(Batch(rows, {0: (self.start, self.start + len(rows))}, {}))
            self.start += len(rows)
            self.held = []


@settings(max_examples=sized(10, 60), deadline=None)
@given(st.data())
def test_whatever_is_edited_and_sent_in_whatever_order_each_value_ends_in_its_column(tmp_path_factory, data):
    world = World(Topic(make_lake(tmp_path_factory.mktemp("lake"))))
    for step in range(data.draw(st.integers(2, 12), "steps")):
        what = data.draw(st.sampled_from(("add", "rename", "widen", "send", "send", "send", "commit")), "step")
        if what == "add" or not world.columns:
            world.columns.append(Evolving(data.draw(st.integers(0, len(CHAINS) - 1)), [f"c{step}"]))
            world.edit()
        elif what == "commit":
            world.commit()
        else:
            number = data.draw(st.integers(0, len(world.columns) - 1), "column")
            column = world.columns[number]
            if what == "rename":
                column.names.append(data.draw(st.sampled_from([f"c{step}", *column.names[:-1]]), "name"))
                world.edit()
            elif what == "widen":
                column.width = min(column.width + 1, len(CHAINS[column.chain]) - 1)
                world.edit()
            else:
                _, avro, values = CHAINS[column.chain][data.draw(st.integers(0, column.width), "width")]
                name, value = data.draw(st.sampled_from(column.names), "name"), data.draw(values, "value")
                decoded = world.topic.decoder(world.topic.messages([optional(name, avro)], {name: value}))
                assert decoded.bad == []
                world.held.append(decoded.events)
                world.expected[number][world.topic.sent - 1] = value
    world.commit()
    for number, column in enumerate(world.columns):
        rows = world.topic.rows("source_sequence", column.names[-1])
        found = {sequence: value for sequence, value in rows if value is not None}
        assert found == world.expected[number]
