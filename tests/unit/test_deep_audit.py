"""The deep audit finds any changed byte, a truncated file, and a valid file in another's place; and goes on where it stopped."""

import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN, batch
from k2_testing.extent import sized
from k2_testing.lake import TRADES, catalog_properties, make_lake
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.batch import OrderedBatch
from k2.lake.appends.commit import Committer
from k2.lake.appends.writer import write_files
from k2.lake.digest import DIGEST_FIELD
from k2.lake.proof.deep import Proof, audit_deep
from k2.lake.snapshots import trim_snapshots
from k2.model.errors import UserError
from k2.model.topics import DataType


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep")
    catalog = make_lake(folder)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in (0, 50, 100):
        committer.commit(batch(start, start + 50))
    return folder, catalog.load_table(TRADES)


@pytest.fixture
def copy(lake):
    """The lake, and its files put back as they were afterwards."""
    folder, table = lake
    kept = {path: path.read_bytes() for path in files_of(folder)}
    yield folder, table
    for path, content in kept.items():
        path.write_bytes(content)


def files_of(folder):
    return sorted((folder / "warehouse").rglob("data/**/*.parquet"))


def problems(table, **more):
    return [each.problem for each in audit_deep(table, **more).findings]


def test_files_that_are_what_was_written_are_proven_by_their_digest(lake):
    found = audit_deep(lake[1])
    assert (found.ok, found.files, found.by_digest, found.by_pages) == (True, 3, 3, 0)


@settings(max_examples=sized(60, 2000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), number=st.integers(0, 2))
def test_any_flipped_bit_anywhere_is_found(lake, where, bit, number):
    folder, table = lake
    path = files_of(folder)[number]
    whole = path.read_bytes()
    at = int(where * len(whole))
    try:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        assert len(problems(table)) == 1
    finally:
        path.write_bytes(whole)


def test_a_flipped_bit_in_each_column_and_in_the_footer_is_found_and_the_column_is_named(copy):
    folder, table = copy
    path = files_of(folder)[0]
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    for index in range(group.num_columns):
        column = group.column(index)
        first = column.dictionary_page_offset or column.data_page_offset
        at = first + column.total_compressed_size - 1  # the last byte of its last page
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        (finding,) = audit_deep(table).findings
        assert finding.problem in {Proof.DAMAGED, Proof.CHANGED}
        if finding.problem is Proof.DAMAGED:
            assert finding.where == f"column {column.path_in_schema.split('.')[0]} of row group 0"
    path.write_bytes(whole[:-20] + bytes([whole[-20] ^ 4]) + whole[-19:])
    assert len(problems(table)) == 1


def test_a_cut_file_and_a_missing_one_are_found(copy):
    folder, table = copy
    one, two, _ = files_of(folder)
    one.write_bytes(one.read_bytes()[:-1])
    two.unlink()
    assert set(problems(table)) == {Proof.SIZE, Proof.MISSING}


def test_a_valid_file_in_anothers_place_is_found_though_sizes_and_rows_agree(copy):
    folder, table = copy
    path = files_of(folder)[0]
    start = pq.read_table(path, columns=["kafka_offset"]).column(0)[0].as_py()
    for seed in range(200):  # other ids: soon one is as long, to the byte
        rows = batch(start, start + 50, seed=seed).rows.append_column("kafka_topic_id", [["topic-1"] * 50])
        (other,) = write_files(table, rows, OrderedBatch(rows, DataType.TRADES).order)
        content = table.io.new_input(other.path).open().read()
        table.io.delete(other.path)
        if len(content) == path.stat().st_size:
            break
    path.write_bytes(content)
    assert problems(table) == [Proof.CHANGED]


def test_digests_outlive_the_snapshots_that_brought_them(lake):
    _, table = lake
    trim_snapshots(table, 1, datetime(2026, 3, 2, tzinfo=UTC))
    assert audit_deep(table.refresh()).by_digest == 3


def test_files_without_a_digest_are_verified_by_their_pages(lake, monkeypatch):
    monkeypatch.setattr("k2.lake.digest.DIGEST_FIELD", DIGEST_FIELD + 1)
    found = audit_deep(lake[1])
    assert (found.ok, found.by_digest, found.by_pages) == (True, 0, 3)


def test_an_audit_that_was_stopped_goes_on_where_it_was_and_reads_broken_files_again(copy, tmp_path):
    folder, table = copy
    kept = tmp_path / "progress"
    seen = []

    def stop(done, _):
        seen.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_deep(table, kept, stop)
    with kept.open("a") as stream:
        stream.write('{"file": "cut sh')
    for path in files_of(folder):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    # Two were well when they were read; which two, their order by path says.
    assert problems(table, progress_file=kept) == [Proof.DAMAGED]
    assert not kept.exists(), "what came to its end begins anew"
    assert len(problems(table, progress_file=kept)) == 3
    kept.write_text('{"table": "another"}\n')
    with pytest.raises(UserError, match="--progress"):
        audit_deep(table, kept)


def test_the_command_ends_with_1_where_a_byte_was_changed(copy, monkeypatch, tmp_path):
    folder, _ = copy
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(folder)))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    well = CliRunner().invoke(app, ["audit", TRADES, "--deep"])
    assert well.exit_code == 0, well.output
    assert "3 files, 3 byte for byte as they were written" in well.stdout
    path = files_of(folder)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    found = CliRunner().invoke(app, ["audit", TRADES, "--deep"])
    assert found.exit_code == 1
    assert path.name in found.stdout
    assert str(folder) not in found.stdout
