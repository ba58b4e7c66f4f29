"""Partition specs, sort orders and properties: what plan takes a writer can write, and what it refuses none can."""

from __future__ import annotations

import itertools
import uuid

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.committed import batch
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties
from k2_testing.resources import table as resource
from pydantic import TypeAdapter
from pyiceberg.exceptions import ValidationError
from pyiceberg.io.pyarrow import PyArrowFileIO, schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, parse_transform
from pyiceberg.types import IcebergType

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.unwritable import check_writable, plain_row, table_fault
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_table, iceberg_schema
from k2.model.events import Decimals
from k2.model.table_layout import FAMILIES, field_name, stands_for, takes
from k2.model.table_properties import KNOWN, REFUSED, property_mistakes
from k2.model.tables import DEFAULT_PROPERTIES, TOPIC_ID, TableSpec, event_columns
from k2.model.topics import DataType
from k2_local.up import NOWHERE
from k2_operator.plan.planning import plan

TYPES = (
    *("boolean", "int", "long", "float", "double", "decimal(9, 2)", "date", "time", "timestamp", "timestamptz"),
    *("timestamp_ns", "timestamptz_ns", "string", "uuid", "fixed[4]", "binary"),
)
TRANSFORMS = tuple(f"{name}[3]" if name in ("bucket", "truncate") else name for name in FAMILIES)
_TYPE: TypeAdapter[IcebergType] = TypeAdapter(IcebergType)


def bare_table(data_type, partition=(), order=(), properties=None, decimals=Decimals.STANDARD) -> Table:
    """A table that is nowhere but in memory: made as PyIceberg makes one, with none of K2's checks."""
    schema = iceberg_schema(TableSpec("a.b", data_type, event_columns(data_type, decimals), decimals=decimals))
    fields = [
        PartitionField(
            schema.find_field(source).field_id, 1000 + place, parse_transform(transform), field_name(source, transform)
        )
        for place, (source, transform) in enumerate(partition)
    ]
    sort = SortOrder(*(SortField(schema.find_field(each).field_id, IdentityTransform()) for each in order))
    metadata = new_table_metadata(schema, PartitionSpec(*fields), sort, "file:///nowhere", dict(properties or {}))
    return Table(("a", "b"), metadata, "file:///nowhere/metadata.json", PyArrowFileIO(), None)  # pyright: ignore[reportArgumentType]


def accepted(document) -> TableSpec | None:
    (found,) = plan([document], NOWHERE).tables or (None,)
    return None if found is None else found.table


# --- the rules are Iceberg's, and K2's writer keeps to all of them ------------------------------------------------------------
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_transform_takes_the_types_that_iceberg_says(transform):
    found = {kind for kind in TYPES if takes(transform, kind)}
    assert found == {kind for kind in TYPES if parse_transform(transform).can_transform(_TYPE.validate_python(kind))}
    assert not any(takes(transform, kind) for kind in ("list<string>", "map<string, string>", "struct<1: a: int>"))


@pytest.mark.parametrize(
    "transform", ["bucket[0]", "truncate[0]", "bucket", "bucket[-1]", "week", "", "bucket[2147483648]"]
)
def test_what_is_no_transform_takes_nothing(transform):
    assert not any(takes(transform, kind) for kind in TYPES)


@pytest.mark.parametrize("decimals", list(Decimals))
@pytest.mark.parametrize("data_type", list(DataType))
def test_every_partition_field_and_every_order_that_is_taken_can_be_written(data_type, decimals):
    columns, row = event_columns(data_type, decimals), plain_row(data_type, decimals)
    for column, transform in itertools.product(columns, TRANSFORMS):
        if takes(transform, column.type):
            fault = table_fault(bare_table(data_type, [(column.name, transform)], decimals=decimals), data_type)
            assert not fault, (column.name, transform)
    for column in columns:
        if takes("identity", column.type):
            check_writable(bare_table(data_type, order=[column.name], decimals=decimals), row)


@pytest.mark.parametrize(
    ("partition", "order", "said"),
    [
        ([("symbol", "day")], [], "partition field symbol_day is day of symbol, which is string"),
        ([("symbol", "bucket[0]")], [], "partition field symbol_bucket is bucket[0] of symbol, which is string"),
        ([("vendor_data", "identity")], [], "is identity of vendor_data, which is map<string, string>"),
        ([], ["trade_conditions"], "it has identity of trade_conditions, which is list<string>"),
    ],
)
def test_a_layout_that_no_writer_can_keep_to_is_told_before_a_row_is_touched(partition, order, said):
    assert said in table_fault(bare_table(DataType.TRADES, partition, order), DataType.TRADES)


def test_what_pyiceberg_reads_as_a_number_or_a_switch_is_known():
    defaults = {
        value: getattr(TableProperties, f"{name}_DEFAULT", None)
        for name, value in vars(TableProperties).items()
        if isinstance(value, str) and "." in value and not name.endswith("_DEFAULT")
    }
    read = {name for name, default in defaults.items() if isinstance(default, int)}
    assert read - KNOWN.keys() - REFUSED.keys() == set()
    for name, default in defaults.items():
        kind = KNOWN.get(name)
        if kind is not None and default is not None:
            text = str(default).lower() if isinstance(default, bool) else str(default)
            assert kind.takes(text), (name, text)


def test_our_own_defaults_are_no_mistakes():
    assert property_mistakes(DEFAULT_PROPERTIES, ()) == []


# --- what is taken is written ----------------------------------------------------------------------------------------------------
GARBAGE = ("banana", "", "-1", "1.5", " 5", "yes", "TRUE", "0x10", "9" * 30)
GOOD = {
    "write.parquet.row-group-limit": ("1", "7", "999999999"),
    "write.target-file-size-bytes": ("1", "1048576", "9" * 18),
    "write.parquet.compression-codec": ("zstd", "gzip", "brotli", "snappy", "lz4", "uncompressed", "none"),
    "write.parquet.compression-level": ("1", "9", "11", "22"),
    "write.parquet.page-size-bytes": ("1024",),
    "write.avro.compression-codec": ("gzip", "zstd"),
    "write.metadata.previous-versions-max": ("1", "5"),
    "write.metadata.delete-after-commit.enabled": ("true", "false"),
    "write.metadata.metrics.default": ("none", "counts", "full", "truncate(1)", "truncate(16)"),
    "write.metadata.metrics.column.symbol": ("none", "full"),
    "write.object-storage.enabled": ("true", "false"),
    "write.summary.partition-limit": ("0", "10"),
    "commit.manifest-merge.enabled": ("true", "false"),
    "commit.manifest.min-count-to-merge": ("1", "2"),
    "commit.manifest.target-size-bytes": ("1", "8388608"),
    "commit.retry.num-retries": ("0", "4"),
    "commit.retry.min-wait-ms": ("0", "100"),
    "history.expire.min-snapshots-to-keep": ("1",),
    "write.format.default": ("parquet",),
    "format-version": ("1", "2"),
    "owner": GARBAGE,  # nobody's: anything goes
}


@st.composite
def specs(draw):
    """A spec as somebody may write it, with a mistake now and then."""
    data_type = draw(st.sampled_from(DataType))
    names = st.sampled_from([column.name for column in event_columns(data_type)])
    field = st.builds(
        lambda source, transform: {"source": source, "transform": transform}, names, st.sampled_from(TRANSFORMS)
    )
    order = st.builds(lambda column, way: {"column": column, "direction": way}, names, st.sampled_from(["asc", "desc"]))
    values = {name: st.sampled_from((*good, *GARBAGE[:2])) for name, good in GOOD.items()}
    found = {
        "partitionSpec": draw(st.none() | st.lists(field, max_size=3)),
        "sortOrder": draw(st.none() | st.lists(order, max_size=3)),
        "properties": draw(st.fixed_dictionaries({}, optional=values).filter(lambda found: len(found) <= 6)),
        "decimals": draw(st.sampled_from(Decimals)).value,
    }
    return data_type, {key: value for key, value in found.items() if value is not None}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return open_named("k2", catalog_properties(tmp_path_factory.mktemp("lake")))


@settings(max_examples=sized(40, 600), deadline=None, suppress_health_check=list(HealthCheck))
@given(specs())
def test_whatever_plan_takes_a_row_can_be_written_to_and_read_from(catalog, made):
    data_type, asked = made
    name = f"a.t{uuid.uuid4().hex}"
    spec = accepted(resource("default", "trades", str(data_type), name, **asked))
    if spec is None:
        return
    assert ensure_table(catalog, spec) == [f"created table {name}"]
    assert ensure_table(catalog, spec) == [], "made as it should be, there is nothing to be done"
    origin = Origin(f"market.equities.{data_type}.asx", "topic-1", "cluster-1")
    committer = Committer(catalog, name, origin, data_type, retry_seconds=0.0)
    row = plain_row(data_type, spec.decimals).drop_columns([TOPIC_ID])
    assert committer.commit(Batch(row, {0: (0, 1)}, {})).rows == 1
    assert len(catalog.load_table(name).scan().to_arrow()) == 1
    catalog.drop_table(name)


# --- what is refused could not have been written, or is read in two ways -----------------------------------------------------------
@pytest.mark.filterwarnings("ignore:No preferred file implementation")
@pytest.mark.parametrize(
    "change",
    [
        {"partitionSpec": [{"source": "symbol", "transform": "day"}]},
        {"partitionSpec": [{"source": "message_id", "transform": "truncate[4]"}]},
        {"partitionSpec": [{"source": "trade_conditions", "transform": "bucket[4]"}]},
        {"partitionSpec": [{"source": "trade_conditions", "transform": "identity"}]},
        {"sortOrder": [{"column": "vendor_data"}]},
        {"properties": {"write.parquet.row-group-limit": "many"}},
        {"properties": {"write.target-file-size-bytes": "banana"}},
        {"properties": {"write.parquet.compression-codec": "nonsense"}},
        {"properties": {"write.parquet.compression-codec": "gzip", "write.parquet.compression-level": "12"}},
        {"properties": {"write.avro.compression-codec": "snappy"}},
        {"properties": {"write.avro.compression-codec": "uncompressed"}},
        {"properties": {"write.metadata.previous-versions-max": "banana"}},
        {"properties": {"write.metadata.delete-after-commit.enabled": "banana"}},
        {"properties": {"write.metadata.metrics.default": "truncate(0)"}},
        {"properties": {"write.metadata.metrics.column.symbol": "some"}},
        {"properties": {"write.object-storage.enabled": "banana"}},
        {"properties": {"write.summary.partition-limit": "banana"}},
        {"properties": {"write.data.path": "banana://somewhere"}},
        {"properties": {"write.py-location-provider.impl": "no.such.Provider"}},
        {"properties": {"commit.manifest.target-size-bytes": "banana"}},
        {"properties": {"commit.manifest.min-count-to-merge": "banana"}},
        {"properties": {"commit.retry.min-wait-ms": "banana"}},
        {"properties": {"commit.retry.total-timeout-ms": "banana"}},
        {"properties": {"format-version": "3"}},
        {"properties": {"format-version": "banana"}},
    ],
    ids=str,
)
def test_what_plan_refuses_no_row_could_have_been_written_to(catalog, change):
    assert accepted(resource("default", "trades", **change)) is None
    with pytest.raises(Exception) as failure:
        _write_all_the_same(catalog, change)
    assert not isinstance(failure.value, AssertionError)


def _write_all_the_same(catalog, change) -> None:
    """Make the table with none of K2's checks, and write a row to it with K2's writer and then with PyIceberg's."""
    bare = bare_table(
        DataType.TRADES,
        [(each["source"], each["transform"]) for each in change.get("partitionSpec", ())],
        [each["column"] for each in change.get("sortOrder", ())],
    )
    name = f"a.t{uuid.uuid4().hex}"
    catalog.create_namespace_if_not_exists("a")
    properties = {**DEFAULT_PROPERTIES, **change.get("properties", {})}
    catalog.create_table(name, bare.schema(), None, bare.spec(), bare.sort_order(), properties)
    origin = Origin("market.equities.trades.asx", "topic-1", "cluster-1")
    Committer(catalog, name, origin, DataType.TRADES, retry_seconds=0.0).commit(batch(0, 3))
    table = catalog.load_table(name)
    row = plain_row(DataType.TRADES)
    table.append(pa.Table.from_pylist(row.to_pylist(), schema_to_pyarrow(table.schema(), include_field_ids=False)))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {
                "partitionSpec": [
                    {"source": "timestamp", "transform": "day"},
                    {"source": "timestamp", "transform": "hour"},
                ]
            },
            "Iceberg's own builder calls it redundant, and a catalog on the JVM refuses it",
        ),
        (
            {
                "partitionSpec": [
                    {"source": "symbol", "transform": "bucket[4]"},
                    {"source": "symbol", "transform": "bucket[8]"},
                ]
            },
            "both would be called symbol_bucket",
        ),
        ({"sortOrder": [{"column": "symbol"}, {"column": "symbol"}]}, "the second says nothing"),
        ({"properties": {"write.metadata.delete-after-commit.enabled": "yes"}}, "Java takes it for false"),
        ({"properties": {"commit.retry.num-retries": " 5"}}, "Java takes it for no number"),
        ({"properties": {"commit.retry.num-retries": "-1"}}, "there is no such number of tries"),
        (
            {"properties": {"write.parquet.compression-level": "23"}},
            "zstd ends at 22: Arrow takes the next best in silence",
        ),
        ({"properties": {"write.metadata.previous-versions-max": "0"}}, "there is always one"),
        ({"properties": {"write.distribution-mode": "banana"}}, "Spark fails at its first write"),
        ({"properties": {"write.format.default": "orc"}}, "K2 writes and reads Parquet, whatever others would make"),
        (
            {"properties": {"write.metadata.metrics.column.prize": "full"}},
            "Java refuses to write; there is no such column",
        ),
        ({"properties": {"default-sort-order": "1"}}, "Iceberg keeps it, and REST catalogs refuse it"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_could_be_written_here_and_is_refused_for_good_reason(change, why):
    assert why
    assert accepted(resource("default", "trades", **change)) is None


def test_day_and_hour_of_a_column_stand_for_one_thing():
    assert stands_for("day") == stands_for("hour") == "time"
    assert stands_for("bucket[3]") == "bucket"


def test_iceberg_itself_refuses_what_takes_nothing():
    table = bare_table(DataType.TRADES, [("symbol", "day")])
    with pytest.raises(ValidationError, match="Invalid source field symbol with type string"):
        table.spec().check_compatible(table.schema())
