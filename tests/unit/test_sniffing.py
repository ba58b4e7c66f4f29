"""What a file's first rows are taken for: a named format that reads them, or a mapping that does."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from k2 import cli_load
from k2.feeds.formats.containers import contents
from k2.feeds.formats.sniffing import sniffed
from k2.model.exchanges import exchange
from k2.model.mapping.reading import parse_mappings


def sniff(path):
    (content,) = contents(path)
    return sniffed(content, exchange("SIM"))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("binance-trades", "11,2.50,3,7.50,1577836800123456,True,True\n"),
        (
            "binance-aggtrades",
            "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n7,1.5,2,20,22,1577836800123,false\n",
        ),
        (
            "databento-trades",
            "ts_recv,ts_event,publisher_id,instrument_id,action,side,price,size,flags,sequence,symbol\n1715002200200000200,1715002200200000100,2,77,T,A,410545000000,25,0,4,MSFT\n",
        ),
        ("tardis-quotes", "symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\nX,1577836800123456,1,1,2,1,2\n"),
        ("generic", "symbol,timestamp,price,quantity,vendor.desk\nX,2020-01-01T00:00:00Z,1,2,blue\n"),
    ],
)  # fmt: skip
def test_rows_that_a_named_format_reads_are_told_by_its_name(tmp_path, form, text):
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text.encode()))
    told = sniff(tmp_path / "in.csv.gz")
    assert f"`--format {form}` reads these rows" in told
    assert parse_mappings(told, "The answer")[0].name == form


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "Ticker;Day;Clock;Px;Shares;Aggressor\nIBM;20240304;093000.25;1.5;3;b\nIBM;20240304;093001;1.5;3;s\n",
            ['delimiter: ";"', "column: day", "symbol: ticker", "price: px", "values: {b: BUY, s: SELL}", "side BUY, symbol IBM"],
        ),
        (
            "sym,ts,bid,bid_size,ask,ask_size\nIBM,1577836800.5,1,2,3,4\n",
            ["dataType: quotes", "# Which column is the time?", "cannot be used yet"],
        ),
        ("1577836800123,IBM,189150000000,3\n", ["header: absent", "form: ms", "price: {column: 3, unit: 1e-9}", "quantity: 4", "--symbol"]),
        ("symbol,time,price,size\nA,1577836800123,189150000000,3\n", ["unit: 1e-9", "price 189.15", "form: ms"]),
        ("when,px,qty\n04/03/2024 10:00:00,1,2\n13/03/2024 10:00:00,1,2\n", ['"%d/%m/%Y %H:%M:%S.%f"', "zone: exchange", "it reads 2"]),
    ],
)  # fmt: skip
def test_other_rows_get_a_mapping_to_begin_with_that_tells_what_it_makes_of_them(tmp_path, text, wanted):
    (tmp_path / "Ours 1.csv").write_text(text)
    told = sniff(tmp_path / "Ours 1.csv")
    assert [words for words in wanted if words not in told] == []
    if "cannot be used yet" not in told:
        (mapping,) = parse_mappings(told, "The answer")
        assert mapping.name == "ours-1"


def test_a_file_of_columns_is_sniffed_too(tmp_path):
    pq.write_table(
        pa.table({"Sym": ["A"], "ts": [1577836800123456], "px": [1.5], "size": [2]}), tmp_path / "in.parquet"
    )
    told = sniff(tmp_path / "in.parquet")
    assert "Parquet or Arrow; 4 columns" in told
    assert "it reads 1." in told


def test_the_command_needs_a_file_and_nothing_else_and_prints_what_can_be_a_file(tmp_path):
    app = typer.Typer()
    cli_load.register(app)
    (tmp_path / "in.csv").write_text("sym,ts,px,qty\nIBM,1577836800123,1,2\n")
    ran = CliRunner().invoke(app, ["--sniff", str(tmp_path / "in.csv")])
    assert ran.exit_code == 0
    assert parse_mappings(ran.stdout, "The answer")[0].data_type == "trades"
