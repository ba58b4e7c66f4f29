"""Files in other clothes: packed, in archives, as columns, from a directory or standard input. They give the same events."""

import gzip
import io
import sys
import zipfile
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format, own_format
from k2.feeds.load.csv_source import CsvFiles
from k2.feeds.load.gathering import brought, gathered
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.topics import DataType

HEADER = "symbol,timestamp,price,quantity,trade_id\n"
ROWS = "".join(f"IBM,2024-03-04T15:00:00.{n:06}Z,{n}.25,{n},T{n}\n" for n in range(1, 3000))
BAD = "IBM,2024-03-04T15:00:00Z,-1,1,T0\n"


def source(*paths, mapping=None, **options):
    venue = exchange("NYSE")
    files = Files(DataType.TRADES, venue, paths=paths)
    form = file_format("generic", files) if mapping is None else own_format(mapping, files)
    return CsvFiles(paths, form, Assembler(DataType.TRADES, venue, "USD", "equities"), clock=lambda: 0, **options)


def load(*paths, **options):
    found = source(*paths, **options)
    chunks = list(found.chunks())
    batches = [batch for chunk in chunks for _, batch in chunk.events]
    assert sum(chunk.progress for chunk in chunks) in (found.size, 0)
    return pa.Table.from_batches(batches), [bad for chunk in chunks for bad in chunk.rejected]


def zstd_file(path, *frames):
    with path.open("wb") as file:
        for frame in frames:
            file.write(pa.compress(frame, "zstd", asbytes=True))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "in.csv"
    path.write_text(HEADER + ROWS)
    return load(path)[0]


def test_packed_files_give_the_same_events_and_are_the_same_load_as_the_plain_one(tmp_path, plain):
    data = (HEADER + ROWS).encode()
    half = data.index(b"\n", len(data) // 2) + 1
    (tmp_path / "in.csv").write_bytes(data)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(data[:half]) + gzip.compress(data[half:]))
    zstd_file(tmp_path / "in.csv.zst", data[:half], data[half:])
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/in.csv", data)
    parts = source(tmp_path / "in.csv").parts
    for name in ("in.csv.gz", "in.csv.zst", "in.zip"):
        assert source(tmp_path / name).parts == parts, name
        assert load(tmp_path / name, block_bytes=10_000) == (plain, []), name


def test_the_members_of_an_archive_are_files_one_by_one_each_with_its_header_and_lines(tmp_path, plain):
    rows = ROWS.splitlines(keepends=True)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.csv", HEADER + "".join(rows[:1000]))
        archive.writestr("b.csv", HEADER + "".join(rows[1000:]) + BAD)
    found = source(tmp_path / "in.zip")
    assert [name.removeprefix(str(tmp_path)) for name in found.names] == ["/in.zip/a.csv", "/in.zip/b.csv"]
    events, rejected = load(tmp_path / "in.zip")
    assert events == plain
    assert [(bad.line, bad.reason.split(":")[0]) for bad in rejected] == [(2001, "price is negative")]


@pytest.mark.parametrize("keep", [10, 2000])
@pytest.mark.parametrize("name", ["in.csv.gz", "in.csv.zst", "in.zip", "in.parquet"])
def test_a_file_whose_end_is_missing_is_refused_before_anything_is_loaded(tmp_path, name, keep):
    data = (HEADER + ROWS).encode()
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(data))
    elif name.endswith("zst"):
        zstd_file(path, data)
    elif name.endswith("zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("in.csv", data)
    else:
        pq.write_table(pa.table({"symbol": ["A"] * 3000, "n": range(3000)}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"is damaged, or not whole"):
        source(path)


def table_of(typed):
    rows = [line.split(",") for line in ROWS.splitlines()]
    symbols, moments, prices, quantities, ids = (list(column) for column in zip(*rows, strict=True))
    if not typed:
        return pa.table(dict(zip(HEADER.strip().split(","), [symbols, moments, prices, quantities, ids], strict=True)))
    nanos = (
        pa.array([moment.removesuffix("Z") for moment in moments])
        .cast(pa.timestamp("ns"))
        .cast(pa.timestamp("ns", "UTC"))
    )
    return pa.table(
        {
            "Symbol": pa.array(symbols).dictionary_encode(),
            "timestamp": nanos,
            "price": pa.array([float(price) for price in prices]),
            "quantity": pa.array([int(quantity) for quantity in quantities], pa.uint32()),
            "trade_id": pa.array(ids, pa.large_string()),
        }
    )


@pytest.mark.parametrize("typed", [False, True], ids=["texts", "types"])
def test_files_of_columns_give_the_events_that_text_gives(tmp_path, plain, typed):
    table = table_of(typed)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=700)
    feather.write_feather(table, tmp_path / "in.feather", chunksize=500)
    with pa.OSFile(str(tmp_path / "in.arrows"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, 900)
    for name in ("in.parquet", "in.feather", "in.arrows"):
        events, rejected = load(tmp_path / name)
        assert (events, rejected) == (plain, []), name


def test_a_row_of_columns_is_rejected_with_its_number_and_its_values_and_can_be_loaded_when_mended(tmp_path):
    table = pa.table(
        {
            "symbol": ["A", "B", None],
            "timestamp": pa.array([0, 1, 2], pa.timestamp("us", "UTC")),
            "price": pa.array([1.5, -2.5, 3.0]),
            "quantity": pa.array([1, 2, 3]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    events, rejected = load(tmp_path / "in.parquet")
    assert events["symbol"].to_pylist() == ["A"]
    assert [(bad.line, bad.reason.split(":")[0]) for bad in rejected] == [
        (2, "price is negative"),
        (3, "symbol is missing"),
    ]
    assert rejected[0].raw == b"B,1970-01-01 00:00:00.000001Z,-2.5,2"
    header = source(tmp_path / "in.parquet").headers[0]
    (tmp_path / "mended.csv").write_bytes(header + b"\n" + rejected[0].raw.replace(b"-2.5", b"2.5"))
    assert load(tmp_path / "mended.csv")[0]["price"].to_pylist() == [Decimal("2.5")]


def test_numbers_lists_dates_and_clocks_of_columns_are_read_as_what_they_are(tmp_path):
    table = pa.table(
        {
            "s": pa.array([7, 7]),
            "d": pa.array([date(2024, 3, 11)] * 2),
            "c": pa.array([time(9, 30, 0, 5)] * 2, pa.time64("ns")),
            "p": pa.array([1e-7, 31.0]),
            "q": pa.array([Decimal("0.00000001"), Decimal(5)], pa.decimal128(20, 10)),
            "k": pa.array([[1, 2], None], pa.list_(pa.int32())),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    (mapping := tmp_path / "m.yaml").write_text(
        "mapping: 1\nname: m\ndataType: trades\nsymbol: s\nprice: {column: p, wholeUnit: 1e-9}\nquantity: q\n"
        'conditions: {column: k, separator: ","}\ntime: {date: d, clock: c, zone: America/New_York}\n'
    )
    events, rejected = load(tmp_path / "in.parquet", mapping=mapping)
    assert rejected == []
    assert events["symbol"].to_pylist() == ["7", "7"]
    assert events["timestamp"].to_pylist() == [datetime(2024, 3, 11, 13, 30, 0, 5, UTC)] * 2
    assert events["price"].to_pylist() == [Decimal("0.0000001"), Decimal(31)], (
        "a floating 31.0 is 31, not 31 billionths"
    )
    assert events["quantity"].to_pylist() == [Decimal("0.00000001"), 5]
    assert events["trade_conditions"].to_pylist() == [["1", "2"], []]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()], ids=str)
def test_times_that_are_numbers_are_told_by_their_digits_and_by_what_means_none(tmp_path, kind):
    seen = [1577836800123, 1577836800123456, 1577836800, 7, None]
    received = [0, 0, 0, 0, 1577836800999999]
    table = pa.table(
        {"s": ["A"] * 5, "t": pa.array(seen, kind), "r": pa.array(received, kind), "p": [1.5] * 5, "q": [1] * 5}
    )
    pq.write_table(table, tmp_path / "in.parquet")
    (mapping := tmp_path / "m.yaml").write_text(
        "mapping: 1\nname: m\ndataType: trades\nsymbol: s\nprice: p\nquantity: q\n"
        'time: {column: [t, r], form: [ms, us], nulls: ["7"]}\n'
    )
    events, rejected = load(tmp_path / "in.parquet", mapping=mapping)
    assert [moment.microsecond for moment in events["timestamp"].to_pylist()] == [123_000, 123_456, 999_999]
    assert [(bad.line, bad.reason.split(": found")[0]) for bad in rejected] == [
        (3, "timestamp is not a time"),
        (4, "timestamp is not a time"),
    ]


def named(*paths):
    return [(str(path), path) for path in paths]


def test_a_directory_is_its_files_in_order_without_what_is_hidden_and_a_pattern_what_it_finds(tmp_path):
    (tmp_path / "2024").mkdir()
    for name in ("b.csv", "2024/a.csv", ".hidden.csv", "_SUCCESS"):
        (tmp_path / name).write_text(HEADER)
    found = gathered(named(tmp_path), DataType.TRADES)
    assert [path.name for _, path in found] == ["a.csv", "b.csv"]
    assert [path.name for _, path in gathered(named(tmp_path / "*.csv"), DataType.TRADES)] == ["b.csv"]
    with pytest.raises(UserError, match="finds no files"):
        gathered(named(tmp_path / "*.parquet"), DataType.TRADES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no files"):
        gathered(named(tmp_path / "empty"), DataType.TRADES)


@pytest.mark.parametrize("other", ["1,2,3\n", "symbol,timestamp,price,quantity,side\n", None])
def test_a_directory_with_files_of_two_forms_is_refused_and_says_which(tmp_path, other):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((HEADER + ROWS).encode()))
    (tmp_path / "b.csv").write_text(HEADER + BAD)
    assert len(gathered(named(tmp_path), DataType.TRADES)) == 2
    if other is None:
        pq.write_table(table_of(typed=False), tmp_path / "c.csv")
    else:
        (tmp_path / "c.csv").write_text(other)
    with pytest.raises(UserError, match=r"files of two forms: found '.*/a\.csv \(text .*/c\.csv \("):
        gathered(named(tmp_path), DataType.TRADES)


def test_standard_input_is_a_file_too_and_the_same_load_as_the_file(tmp_path, monkeypatch):
    data = (HEADER + ROWS).encode()
    (tmp_path / "in.csv").write_bytes(data)
    with (tmp_path / "in.csv").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        ((name, path),) = brought(["-"], tmp_path, {})
    assert name == "standard input"
    assert source(path).parts == source(tmp_path / "in.csv").parts
    with pytest.raises(UserError, match="twice"):
        brought(["-", "-"], tmp_path, {})
