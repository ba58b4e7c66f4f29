"""Tables that were made wrong are mended by an edit, in one commit, and a sink that begins at that moment is not harmed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, held, make_lake
from pyiceberg.exceptions import BadRequestError, CommitFailedException, RESTError, ValidationError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table.sorting import NullOrder, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, parse_transform
from requests import HTTPError, Response
from requests.exceptions import JSONDecodeError

from k2.lake.appends.commit import Committer
from k2.lake.appends.unwritable import refuse_unwritable
from k2.lake.catalog import open_named
from k2.lake.refusals import is_refusal
from k2.lake.settling import is_faulty, spec_faults
from k2.lake.tables import ensure_table, iceberg_schema
from k2.model.errors import UserError, WorldError
from k2.model.tables import PartitionBy, SortBy, TableColumn, builtin_table
from k2.model.topics import DataType

BUILTIN = builtin_table(DataType.TRADES)


def made_wrong(folder, partition=(), order=("symbol", "timestamp", "source_sequence"), properties=None):
    """A catalog with a table as a version of K2 without checks has made it."""
    catalog = open_named("k2", catalog_properties(folder))
    schema = iceberg_schema(BUILTIN)
    fields = [
        PartitionField(schema.find_field(source).field_id, 1000 + place, parse_transform(transform), name)
        for place, (source, transform, name) in enumerate(partition)
    ]
    sort = SortOrder(
        *(
            SortField(schema.find_field(each).field_id, IdentityTransform(), null_order=NullOrder.NULLS_LAST)
            for each in order
        )
    )
    catalog.create_namespace("market_data")
    catalog.create_table(
        TRADES, schema, None, PartitionSpec(*fields), sort, {**BUILTIN.properties, **(properties or {})}
    )
    return catalog


def fields_of(catalog):
    table = catalog.load_table(TRADES)
    return [(table.schema().find_column_name(f.source_id), str(f.transform), f.name) for f in table.spec().fields]


def commit(catalog, start=0, stop=5):
    return Committer(catalog, TRADES, ORIGIN, DataType.TRADES, retry_seconds=0.0).commit(batch(start, stop))


def begin_to_write(catalog):
    """A first snapshot without a row, as a sink makes one that has read dead letters alone."""
    with catalog.load_table(TRADES).transaction() as transaction, transaction.update_snapshot().fast_append():
        pass


WRONG_PARTITIONS = {
    "day of text": [("symbol", "day", "symbol_day")],
    "no buckets": [("symbol", "bucket[0]", "symbol_bucket")],
    "a list": [("trade_conditions", "identity", "trade_conditions")],
    "one of two": [("timestamp", "day", "timestamp_day"), ("price", "hour", "price_hour")],
}


@pytest.mark.parametrize("partition", WRONG_PARTITIONS.values(), ids=WRONG_PARTITIONS)
def test_a_partition_spec_that_no_writer_can_fill_is_replaced_and_nothing_of_it_is_left(tmp_path, partition):
    catalog = made_wrong(tmp_path, partition)
    with pytest.raises(UserError, match=r"Nothing can be written to market_data\.trades as it is"):
        refuse_unwritable(catalog, TRADES, DataType.TRADES)
    (said,) = ensure_table(catalog, BUILTIN)
    assert said.startswith("replaced the partition spec of market_data.trades: partition field ")
    table = catalog.load_table(TRADES)
    assert fields_of(catalog) == [("timestamp", "day", "timestamp_day")]
    assert [spec_faults(spec, table.schema()) for spec in table.metadata.partition_specs] == [[]]
    assert ensure_table(catalog, BUILTIN) == []
    refuse_unwritable(catalog, TRADES, DataType.TRADES)
    assert commit(catalog).rows == 5


def test_everything_that_is_wrong_with_a_table_is_mended_in_one_commit(tmp_path):
    wrong = {
        "write.target-file-size-bytes": "banana",
        "write.metadata.previous-versions-max": "banana",
        "commit.retry.num-retries": "banana",
        "write.avro.compression-codec": "nonsense",
    }
    catalog = made_wrong(tmp_path, WRONG_PARTITIONS["day of text"], ["vendor_data"], wrong)
    further = replace(BUILTIN, columns=(*BUILTIN.columns, TableColumn("flag", "string")))
    before = catalog.load_table(TRADES)
    told = ensure_table(catalog, further)
    assert told == [
        "set write.metadata.previous-versions-max, write.target-file-size-bytes of market_data.trades",
        "took commit.retry.num-retries, write.avro.compression-codec off market_data.trades: no writer could use that",
        "replaced the partition spec of market_data.trades: partition field symbol_day is day of symbol, which is string",
        "replaced the sort order of market_data.trades: it has identity of vendor_data, which is map<string, string>",
        "added flag to market_data.trades",
    ]
    after = catalog.load_table(TRADES)
    assert len(after.metadata.metadata_log) == len(before.metadata.metadata_log) + 2, "and one for the column"
    assert after.metadata.table_uuid == before.metadata.table_uuid
    assert not is_faulty(after)
    assert commit(catalog).rows == 5


def test_of_a_table_with_rows_only_what_comes_is_laid_out_anew(tmp_path):
    catalog = make_lake(tmp_path)
    commit(catalog)
    edited = replace(BUILTIN, partition_by=(PartitionBy("symbol", "bucket[4]", "symbol_bucket"),), sort_by=())
    assert ensure_table(catalog, edited) == [
        "changed the partition spec of market_data.trades; rows written before keep theirs",
        "changed the sort order of market_data.trades; rows written before keep theirs",
    ]
    commit(catalog, 5, 10)
    again = replace(edited, partition_by=(PartitionBy("symbol", "bucket[8]", "symbol_bucket"),))
    assert ensure_table(catalog, again) == [
        "changed the partition spec of market_data.trades; rows written before keep theirs"
    ], "one bucket takes the place of another"
    commit(catalog, 10, 15)
    specs = {
        spec.spec_id: [field.field_id for field in spec.fields] for spec in catalog.load_table(TRADES).specs().values()
    }
    assert specs == {0: [1000], 1: [1001], 2: [1002]}
    assert ensure_table(catalog, BUILTIN) == [
        "changed the partition spec of market_data.trades; rows written before keep theirs",
        "changed the sort order of market_data.trades; rows written before keep theirs",
    ]
    assert catalog.load_table(TRADES).spec().spec_id == 0, "the one that it had before"
    commit(catalog, 15, 20)
    assert held(catalog) == {(0, offset): 1 for offset in range(20)}
    assert ensure_table(catalog, BUILTIN) == []


def test_a_table_of_version_1_gets_further_partition_fields_and_loses_none_once_it_has_rows(tmp_path):
    first = replace(BUILTIN, properties={**BUILTIN.properties, "format-version": "1"})
    catalog = open_named("k2", catalog_properties(tmp_path))
    ensure_table(catalog, first)
    monthly = replace(first, partition_by=(PartitionBy("timestamp", "month", "timestamp_month"),))
    ensure_table(catalog, monthly)
    assert [field.field_id for field in catalog.load_table(TRADES).spec().fields] == [1000]
    commit(catalog)
    more = replace(first, partition_by=(PartitionBy("symbol", "bucket[4]", "symbol_bucket"), *monthly.partition_by))
    assert len(ensure_table(catalog, more)) == 1
    assert ensure_table(catalog, more) == []
    commit(catalog, 5, 10)
    assert [field.field_id for field in catalog.load_table(TRADES).spec().fields] == [1000, 1001]
    before = catalog.load_table(TRADES).metadata_location
    with pytest.raises(UserError, match=r"no symbol_bucket.*of format version 2"):
        ensure_table(catalog, monthly)
    assert catalog.load_table(TRADES).metadata_location == before
    assert held(catalog) == {(0, offset): 1 for offset in range(10)}


def test_a_table_that_something_was_written_to_keeps_all_its_specs(tmp_path):
    catalog = made_wrong(tmp_path, WRONG_PARTITIONS["no buckets"])
    begin_to_write(catalog)
    ensure_table(catalog, BUILTIN)
    assert len(catalog.load_table(TRADES).specs()) == 2
    assert commit(catalog).rows == 5


def test_who_begins_to_write_at_that_very_moment_is_seen(tmp_path):
    """A catalog that lets a sink commit first, when somebody is about to take away what nothing was written by."""

    class Sudden:
        asked = 0

        def __getattr__(self, name):
            return getattr(catalog, name)

        def commit_table(self, table, requirements, updates):
            self.asked += 1
            if self.asked == 1:
                begin_to_write(catalog)
                with pytest.raises(CommitFailedException, match="main was created concurrently"):
                    catalog.commit_table(table, requirements, updates)
                raise CommitFailedException("somebody was quicker")
            return catalog.commit_table(table, requirements, updates)

    catalog = made_wrong(tmp_path, WRONG_PARTITIONS["no buckets"])
    sudden = Sudden()
    ensure_table(sudden, BUILTIN)
    assert sudden.asked == 2
    found = catalog.load_table(TRADES)
    assert len(found.specs()) == 2, "a snapshot may refer to either"
    assert found.current_snapshot() is not None


def test_a_catalog_that_takes_no_spec_out_of_a_table_mends_it_all_the_same(tmp_path):
    class Older:
        def __getattr__(self, name):
            return getattr(catalog, name)

        def commit_table(self, table, requirements, updates):
            if any(update.action == "remove-partition-specs" for update in updates):
                raise BadRequestError("unknown action remove-partition-specs")
            return catalog.commit_table(table, requirements, updates)

    catalog = made_wrong(tmp_path, WRONG_PARTITIONS["day of text"])
    assert len(ensure_table(Older(), BUILTIN)) == 1
    assert fields_of(catalog) == [("timestamp", "day", "timestamp_day")]
    assert ensure_table(Older(), BUILTIN) == []
    assert ensure_table(catalog, BUILTIN) == [
        "took a former partition spec off market_data.trades: partition field symbol_day is day of symbol, which is string"
    ]


def test_a_refused_edit_of_the_columns_leaves_the_layout_as_it_was(tmp_path):
    catalog = made_wrong(tmp_path, WRONG_PARTITIONS["day of text"])
    before = catalog.load_table(TRADES).metadata_location
    with pytest.raises(UserError, match="cannot change its type"):
        ensure_table(catalog, replace(BUILTIN, columns=(*BUILTIN.columns[:-1], TableColumn("kafka_offset", "string"))))
    assert catalog.load_table(TRADES).metadata_location == before


# The warning is PyIceberg's own about a scheme that nobody serves.
@pytest.mark.filterwarnings("ignore:No preferred file implementation")
@pytest.mark.parametrize(
    "spec",
    [
        replace(BUILTIN, properties={**BUILTIN.properties, "write.metadata.path": "banana://somewhere"}),
        replace(BUILTIN, properties={**BUILTIN.properties, "format-version": "banana"}),
        replace(BUILTIN, properties={**BUILTIN.properties, "write.py-location-provider.impl": "no.such.Provider"}),
        replace(BUILTIN, partition_by=(PartitionBy("symbol", "bucket[4]", "timestamp"),)),
        replace(BUILTIN, partition_by=(PartitionBy("symbol", "bucket[four]", "symbol_bucket"),)),
    ],
    ids=["path", "version", "code", "name", "transform"],
)
def test_what_pyiceberg_makes_of_a_persons_value_is_the_persons_error(tmp_path, spec):
    catalog = open_named("k2", catalog_properties(tmp_path))
    with pytest.raises(UserError, match=r"Table market_data.trades cannot be made as its IcebergTable describes it"):
        ensure_table(catalog, spec)
    ensure_table(catalog, BUILTIN)
    with pytest.raises(UserError):
        ensure_table(catalog, replace(BUILTIN, partition_by=(PartitionBy("symbol", "bucket[four]", "symbol_bucket"),)))


def test_a_store_that_is_away_is_the_worlds_error_although_a_person_named_it(tmp_path):
    catalog = open_named("k2", catalog_properties(tmp_path))
    path = tmp_path / "a-file"
    path.write_text("in the way")
    with pytest.raises(OSError, match="a-file"):
        ensure_table(
            catalog, replace(BUILTIN, properties={**BUILTIN.properties, "write.metadata.path": f"file://{path}/x"})
        )


def answered(status: int, kind=RESTError) -> RESTError:
    response = Response()
    response.status_code = status
    error = kind("as the catalog says")
    error.__cause__ = HTTPError(response=response)
    return error


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (BadRequestError("Malformed request"), True),
        (ValidationError("Invalid source field"), True),
        (ValueError("Could not parse table property"), True),
        (answered(422), True),
        (answered(406), True),
        (answered(404), False),
        (answered(403), False),
        (answered(500), False),
        (RESTError("who knows"), False),
        (CommitFailedException("somebody was quicker"), False),
        (ConnectionError("refused"), False),
        (JSONDecodeError("a proxy's page", "<html>", 0), False),
        (WorldError("away"), False),
        (UserError("said already"), False),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_a_refusal_is_what_is_the_same_at_each_try(error, is_one):
    assert is_refusal(error) is is_one


def test_a_sort_by_the_same_columns_is_the_order_that_was_there(tmp_path):
    catalog = make_lake(tmp_path)
    other = replace(BUILTIN, sort_by=(SortBy("price", descending=True),))
    ensure_table(catalog, other)
    ensure_table(catalog, BUILTIN)
    assert catalog.load_table(TRADES).sort_order().order_id == 1
