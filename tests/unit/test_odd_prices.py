"""Prices that are far from the last ones of a table are told before they are loaded; those near it, and unknown symbols, are not."""

import json
from decimal import Decimal

import pytest
import typer
from k2_testing.committed import committed_lake
from k2_testing.lake import TRADES, catalog_properties
from typer.testing import CliRunner

from k2 import cli_load
from k2.lake.last_prices import last_price
from k2.model.topics import DataType


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    return folder, committed_lake(folder, 100, 10).load_table(TRADES)


def test_the_last_price_of_a_symbol_is_that_of_its_newest_row(lake):
    _, table = lake
    rows = table.scan(selected_fields=("timestamp", "price", "symbol", "exchange")).to_arrow().to_pylist()
    newest = max(row["timestamp"] for row in rows)
    symbol, exchange = rows[0]["symbol"], rows[0]["exchange"]
    found = last_price(table, DataType.TRADES, symbol, exchange)
    assert found in {row["price"] for row in rows if row["timestamp"] == newest}
    assert last_price(table, DataType.TRADES, "NONE", exchange) is None
    assert last_price(table, DataType.TRADES, symbol, "NYSE") is None


@pytest.mark.parametrize(
    ("times", "words"), [(1, None), (50, None), (10**6, "1,000,000 times more"), (Decimal("1e-4"), "10,000 times less")]
)
def test_a_dry_run_warns_of_prices_that_are_far_from_the_last(lake, tmp_path, monkeypatch, times, words):
    folder, table = lake
    row = table.scan(selected_fields=("symbol", "exchange")).to_arrow().to_pylist()[0]
    last = last_price(table, DataType.TRADES, row["symbol"], row["exchange"])
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(folder)))
    price = f"{last * times:f}"
    (tmp_path / "in.csv").write_text(
        f"symbol,timestamp,price,quantity\n{row['symbol']},2026-01-01T00:00:00Z,{price},1\nNEW,2026-01-01T00:00:00Z,1,1\n"
    )
    app = typer.Typer()
    cli_load.register(app)
    ran = CliRunner().invoke(
        app, ["trades", str(tmp_path / "in.csv"), "-e", row["exchange"], "--dry-run", "-o", "json"]
    )
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)["warnings"]
    if words is None:
        assert told == []
    else:
        (warning,) = told
        assert words in warning
        assert f"Warning: prices of {row['symbol']} are about" in ran.stderr
