"""Columns of a table beside the built-in ones: what an edit of the list does to the table, and what it must not do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import stamina
from hypothesis import assume, given
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, list_columns, make_lake
from pydantic import TypeAdapter
from pyiceberg.exceptions import CommitFailedException, ResolveError
from pyiceberg.schema import promote
from pyiceberg.types import IcebergType, StringType

from k2.lake.appends.commit import Committer
from k2.lake.columns import DECLARED
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table
from k2.model.errors import UserError, WorldError
from k2.model.further import TYPES, canonical, decimal_digits, is_wider
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType

_TYPE: TypeAdapter[IcebergType] = TypeAdapter(IcebergType)
BUILTIN = builtin_table(DataType.TRADES)


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


def columns_of(catalog) -> dict[str, str]:
    own = {column.name for column in BUILTIN.columns}
    schema = catalog.load_table(TRADES).schema()
    return {each.name: str(each.field_type) for each in schema.fields if each.name not in own}


def refused(catalog, *columns: TableColumn) -> str:
    before = catalog.load_table(TRADES).metadata_location
    with pytest.raises(UserError) as failure:
        list_columns(catalog, *columns)
    assert catalog.load_table(TRADES).metadata_location == before, "something was changed all the same"
    return str(failure.value)


def test_an_edit_adds_renames_widens_and_makes_optional_in_one_commit(catalog):
    list_columns(
        catalog, TableColumn("lots", "int"), TableColumn("flag", "string"), TableColumn("edge", "decimal(9, 4)")
    )
    with catalog.load_table(TRADES).update_schema(allow_incompatible_changes=True) as update:
        update.update_column("lots", required=True)  # as another tool may have made it
    before = len(catalog.load_table(TRADES).metadata.metadata_log)
    told = list_columns(
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
    list_columns(catalog, *wanted)
    before = catalog.load_table(TRADES).metadata_location
    assert list_columns(catalog, *wanted) == []
    renamed = (replace(wanted[0], name="venue_flag", was="flag"), wanted[1])
    list_columns(catalog, *renamed)
    assert list_columns(catalog, *renamed) == [], "`was` may stay in the list"
    assert list_columns(catalog, replace(renamed[0], was="venue_flag"), wanted[1]) == [], "a column was itself before"
    assert before != catalog.load_table(TRADES).metadata_location


def test_a_table_made_with_further_columns_has_them_and_knows_that_they_were_declared(tmp_path):
    catalog = make_lake(tmp_path, DataType.QUOTES)
    list_columns(catalog, TableColumn("flag", "string"))
    table = catalog.load_table(TRADES)
    assert json.loads(table.properties[DECLARED]) == [table.schema().find_field("flag").field_id]
    assert "cannot go by leaving it out" in refused(catalog)


def test_a_column_that_another_tool_has_added_is_left_alone_until_it_is_listed(catalog):
    with catalog.load_table(TRADES).update_schema() as update:
        update.add_column("desk", StringType())
    assert list_columns(catalog) == []
    assert list_columns(catalog, TableColumn("flag", "string")) == ["added flag to market_data.trades"]
    assert columns_of(catalog) == {"desk": "string", "flag": "string"}
    assert list_columns(catalog, TableColumn("flag", "string"), TableColumn("desk", "string")) == []
    assert "no desk among the columns" in refused(catalog, TableColumn("flag", "string"))


def test_one_that_was_dropped_with_another_engine_may_leave_the_list(catalog):
    list_columns(catalog, TableColumn("flag", "string"))
    with catalog.load_table(TRADES).update_schema() as update:
        update.delete_column("flag")
    assert "that is gone had that name" in refused(catalog, TableColumn("flag", "string"))
    assert list_columns(catalog) == []
    assert list_columns(catalog) == []


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
    list_columns(catalog, now)
    found = refused(catalog, then)
    assert text in found
    assert found.count(".") >= 2, "it says what to do"


def test_of_an_edit_with_one_mistake_nothing_is_done(catalog):
    list_columns(catalog, TableColumn("a", "int"), TableColumn("b", "string"))
    refused(catalog, TableColumn("a", "long"), TableColumn("b", "int"), TableColumn("c", "string"))
    assert columns_of(catalog) == {"a": "int", "b": "string"}


def test_a_name_that_a_column_had_is_not_given_to_another_one(catalog):
    list_columns(catalog, TableColumn("flag", "string"))
    list_columns(catalog, TableColumn("venue_flag", "string", was="flag"))
    text = refused(catalog, TableColumn("venue_flag", "string", was="flag"), TableColumn("flag", "string"))
    assert "is now called venue_flag had that name" in text
    assert list_columns(catalog, TableColumn("flag", "string", was="venue_flag")) == [
        "renamed venue_flag of market_data.trades to flag"
    ]


def test_no_column_is_renamed_to_what_another_one_was_called(catalog):
    list_columns(catalog, TableColumn("flag", "string"), TableColumn("note", "string"))
    renamed = TableColumn("venue_flag", "string", was="flag")
    list_columns(catalog, renamed, TableColumn("note", "string"))
    text = refused(catalog, renamed, TableColumn("flag", "string", was="note"))
    assert "is now called venue_flag had that name" in text
    assert "would seem to speak of what is called note now" in text


def test_no_column_is_renamed_to_what_differs_from_another_one_in_capitals_alone(catalog):
    with catalog.load_table(TRADES).update_schema() as update:
        update.add_column("Desk", StringType())
    list_columns(catalog, TableColumn("flag", "string"))
    assert "differs in capitals alone" in refused(catalog, TableColumn("desk", "string", was="flag"))
    assert list_columns(catalog, TableColumn("flag", "string"), TableColumn("desk", "string", was="Desk")) == [
        "renamed Desk of market_data.trades to desk"
    ]


def test_two_columns_are_never_made_one(catalog):
    list_columns(catalog, TableColumn("a", "string"), TableColumn("b", "string"))
    assert "has both b and a, which b is said to have been" in refused(catalog, TableColumn("b", "string", was="a"))
    one = (TableColumn("c", "string", was="a"), TableColumn("d", "string", was="a"), TableColumn("b", "string"))
    assert "Two columns of market_data.trades were one before" in refused(catalog, *one)


def test_an_edit_is_a_snapshot_without_rows_that_carries_the_offsets(catalog):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    first = catalog.load_table(TRADES).current_snapshot()
    list_columns(catalog, TableColumn("flag", "string"))
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
        list_columns(catalog, TableColumn("flag", "string"))
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
        list_columns(catalog, TableColumn("flag", "string"))


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
