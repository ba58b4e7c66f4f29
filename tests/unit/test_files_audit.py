"""The audit finds files that are gone, cut or no Parquet files, by a listing, and tells nothing of the server's paths."""

import json
import os
from pathlib import Path

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, make_lake
from pyiceberg.io.pyarrow import PyArrowFileIO
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.commit import Committer
from k2.lake.proof.audit import audit_table
from k2.lake.proof.decisions import sign
from k2.lake.proof.files_audit import FileProblem, compare_sizes, live_sizes
from k2.lake.proof.reset import accept
from k2.lake.scan import plan_files
from k2.model.topics import DataType


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in (0, 10, 20):
        committer.commit(batch(start, start + 10))
    return catalog


@pytest.fixture
def k2(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    return lambda *words: CliRunner().invoke(app, list(words))


def audited(catalog):
    return audit_table(catalog.load_table(TRADES), {})


def data_files(tmp_path):
    return sorted((tmp_path / "warehouse").rglob("data/**/*.parquet"), key=os.path.getmtime)


def test_files_that_are_all_there_are_well_and_counted(catalog):
    table = catalog.load_table(TRADES)
    assert audited(catalog).files.checked == 3
    assert audited(catalog).ok
    assert live_sizes(table) == {
        file.path: file.bytes for file in plan_files(table, table.metadata.current_snapshot_id)
    }


def test_a_missing_file_is_a_finding_with_its_name_below_the_table_and_its_rows_are_missing(catalog, tmp_path, k2):
    gone = data_files(tmp_path)[1]
    size = gone.stat().st_size
    gone.unlink()
    found = audited(catalog)
    (finding,) = found.files.findings
    assert (finding.problem, finding.expected, finding.found) == (FileProblem.MISSING, size, None)
    assert finding.name == str(gone).split("/trades/", 1)[1]
    assert (found.ok, found.partitions[0].missing_in, found.partitions[0].exactly) == (False, ((10, 20),), True)
    told = k2("audit", TRADES, "--offline")
    assert told.exit_code == 1
    assert f"file {finding.name} is missing ({size:,} bytes by its manifest)" in told.stdout
    assert str(tmp_path) not in told.stdout


@pytest.mark.parametrize(
    ("change", "problem"), [(-100, FileProblem.SIZE), (7, FileProblem.SIZE), (0, FileProblem.UNREADABLE)]
)
def test_a_file_that_was_cut_lengthened_or_overwritten_is_a_finding(catalog, tmp_path, change, problem):
    file = data_files(tmp_path)[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:change] if change < 0 else whole + b"x" * change if change else b"\0" * len(whole))
    (finding,) = audited(catalog).files.findings
    assert (finding.problem, finding.expected, finding.found) == (problem, len(whole), len(whole) + change)
    assert not audited(catalog).ok


def test_a_file_that_nobody_can_bring_back_can_be_accepted_and_another_one_is_found(catalog, tmp_path):
    one, two, _ = data_files(tmp_path)
    one.unlink()
    accept(catalog.load_table(TRADES), audited(catalog), sign("the disk of 2014", "ops@desk"))
    assert audited(catalog).ok
    two.unlink()
    assert [each.name for each in audited(catalog).open_files] == [str(two).split("/trades/", 1)[1]]


def test_many_files_are_a_listing_and_no_request_each(catalog, monkeypatch):
    asked = []

    class Listing:
        """The real filesystem, which writes down what it is asked."""

        def __init__(self, system):
            self.system = system

        def __getattr__(self, name):
            return getattr(self.system, name)

        def get_file_info(self, what):
            asked.append(what)
            return self.system.get_file_info(what)

    table = catalog.load_table(TRADES)
    system = table.io.fs_by_scheme("file", "")
    monkeypatch.setattr(table.io, "fs_by_scheme", lambda *_: Listing(system))
    sizes = live_sizes(table)
    asked.clear()
    assert compare_sizes(table, sizes).ok
    assert len(asked) == 1


@pytest.mark.parametrize("folder", ["with a blank", "100%25 of it", "日本", "a//b"])
def test_a_warehouse_of_any_name_is_listed(tmp_path, folder):
    place = tmp_path / folder
    place.mkdir(parents=True)
    io = PyArrowFileIO({})
    path = f"{tmp_path}/{folder}/data/day=1/a.parquet"
    Path(path).parent.mkdir(parents=True)
    Path(path).write_bytes(b"123")

    class At:
        """A table's place, and how its files are reached."""

        def __init__(self):
            self.io = io
            self.properties = {}

        def location(self):
            return f"{tmp_path}/{folder}"

        def name(self):
            return ("market_data", "trades")

    assert compare_sizes(At(), {path: 3}).ok
    assert [each.name for each in compare_sizes(At(), {path: 4}).findings] == ["data/day=1/a.parquet"]


def test_files_outside_of_the_tables_folder_are_looked_for_where_they_are(catalog, tmp_path):
    table = catalog.load_table(TRADES)
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    paths = [outside / f"{n}.parquet" for n in range(20)]
    for path in paths:
        path.write_bytes(b"12")
    sizes = {f"file://{path}": 2 for path in paths}
    assert compare_sizes(table, sizes).ok
    paths[3].unlink()
    assert [(each.name, each.found) for each in compare_sizes(table, sizes).findings] == [("3.parquet", None)]
    assert compare_sizes(table, {"file:///no/such/folder/a.parquet": 2}).findings[0].problem is FileProblem.MISSING
