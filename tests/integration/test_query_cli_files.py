"""Rows that a command writes into a file: all of them under its name, or none."""

import json
import os
import resource
import stat
from datetime import timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import OPEN, append_ticks
from typer.testing import CliRunner

from k2.cli_query import app
from k2.cli_query.destination import form_of, is_terminal, rows_into, write
from k2.cli_query.options import Output
from k2.cli_query.replays import Lines
from k2.model.errors import UserError, WorldError
from k2.model.topics import DataType

ROWS = 300


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    catalog = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    append_ticks(catalog, [{"timestamp": OPEN + timedelta(seconds=number)} for number in range(ROWS)])
    return folder


@pytest.fixture
def invoke(lake, tmp_path):
    """The command in this process, asking the catalog; files are of a folder of the test's own."""
    clean = dict.fromkeys((name for name in os.environ if name.startswith("K2_")), None)
    env = clean | {"K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(lake)), "K2_DATA_DIR": str(lake)}

    def run(*words):
        return CliRunner().invoke(app, [*words, "--local"], env=env)

    return run


def ids(file):
    """The ids of the trades in it, read as its name says."""
    match file.suffix:
        case ".parquet":
            rows = pq.read_table(file)
        case ".arrow":
            rows = pa.ipc.open_stream(file.read_bytes()).read_all()
        case ".csv":
            rows = pa.csv.read_csv(file)
        case _:
            rows = pa.Table.from_pylist([json.loads(line) for line in file.read_text().splitlines()])
    return rows["trade_id"].to_pylist()


@pytest.mark.parametrize("name", ["bhp.parquet", "bhp.arrow", "bhp.csv", "bhp.ndjson", "bhp.jsonl"])
def test_the_name_of_the_file_says_how_rows_are_written_into_it(invoke, tmp_path, name):
    file = tmp_path / name
    done = invoke("trades", "BHP", "--all", "--out", str(file))
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"{file}: {file.stat().st_size:,} bytes\n"
    assert ids(file) == [f"T{number}" for number in range(ROWS)]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_what_is_said_counts_before_the_name(invoke, tmp_path):
    file = tmp_path / "bhp.txt"
    assert invoke("trades", "BHP", "-n", "2", "-o", "ndjson", "--out", str(file)).exit_code == 0
    assert [json.loads(line)["trade_id"] for line in file.read_text().splitlines()] == ["T0", "T1"]
    assert form_of(file, Output.CSV) is Output.CSV
    assert form_of(file.with_suffix(".csv"), Output.NDJSON) is Output.NDJSON
    assert form_of(file.with_suffix(".NDJSON"), Lines.CSV) is Lines.NDJSON


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trades", "--out", "rows.txt"), "found 'rows.txt', expected a name that ends in .csv, .json, .ndjson, .jsonl, .parquet"),
        (("replay", "--out", "rows.parquet"), "found 'rows.parquet', expected a name that ends in .csv, .json, .ndjson, .jsonl. Or say"),
        (("trades", "--out", "nowhere/rows.csv"), "--out cannot be written"),
        (("trades", "--out", "..", "-o", "csv"), "--out is a folder"),
        (("trades", "--force"), "--force is of a file"),
    ],
)  # fmt: skip
def test_a_file_that_there_cannot_be_is_refused_before_anything_is_asked(invoke, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    refused = invoke(*words, "--limit", "1") if words[0] == "trades" else invoke(*words)
    assert isinstance(refused.exception, UserError)
    assert said in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays_unless_force_is_said(invoke, tmp_path):
    file = tmp_path / "bhp.csv"
    file.write_text("mine")
    refused = invoke("trades", "BHP", "--out", str(file))
    assert isinstance(refused.exception, UserError)
    assert "There is a file of that name" in str(refused.exception)
    assert file.read_text() == "mine"
    assert invoke("trades", "BHP", "--all", "--out", str(file), "--force").exit_code == 0
    assert len(ids(file)) == ROWS


def test_a_question_that_fails_leaves_neither_a_file_nor_a_part_of_one(invoke, tmp_path):
    failed = invoke("bars", "BHP", "--date", "never", "--out", str(tmp_path / "bhp.csv"))
    assert "date is not a date" in str(failed.exception)
    assert list(tmp_path.iterdir()) == []


def filled(file, rows, then=None, **how):
    """Write rows into the file, and let something happen before they are all there."""
    with rows_into(file, **{"replace": False, **how}):
        write(rows)
        if then is not None:
            then()


def stopped(error):
    """What happens when a question fails half way."""

    def happens():
        raise error

    return happens


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    file = tmp_path / "rows.csv"
    seen = []
    filled(file, b"a\n", lambda: seen.append((file.exists(), is_terminal())))
    assert seen == [(False, False)]
    assert file.read_bytes() == b"a\n"
    with pytest.raises(ZeroDivisionError):
        filled(file, b"b\n", stopped(ZeroDivisionError()), replace=True)
    assert file.read_bytes() == b"a\n"
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path):
    file = tmp_path / "rows.csv"
    with pytest.raises(UserError, match="There is a file of that name"):
        filled(file, b"a\n", lambda: file.write_text("another's"))
    assert file.read_text() == "another's"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_written_until_ctrl_c_is_kept_where_lines_are_whole(tmp_path, kept):
    file = tmp_path / "rows.ndjson"
    with pytest.raises(KeyboardInterrupt):
        filled(file, b"{}\n", stopped(KeyboardInterrupt()), kept_when_interrupted=kept)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([b"{}\n"] if kept else [])


def test_a_disk_that_is_full_is_the_worlds_error_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(WorldError, match=r"rows.csv cannot be written: File too large"):
            filled(tmp_path / "rows.csv", bytes(300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_replay_goes_into_a_file_line_by_line(invoke, tmp_path):
    file = tmp_path / "bhp.ndjson"
    done = invoke("replay", "BHP", "--out", str(file))
    assert ids(file) == [f"T{number}" for number in range(ROWS)]
    assert f"{ROWS} events in " in done.stderr
    shown = invoke("replay", "BHP", "-o", "ndjson")
    assert shown.stdout == file.read_text() == invoke("replay", "BHP", "-o", "json").stdout
