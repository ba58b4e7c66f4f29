"""docs/coming-from.md: all of K2's code on it runs, over a catalog that has what it asks for."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import append_ticks, trade

import k2
from k2.client import Connection
from k2.model.topics import DataType

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("lake")
    catalog = make_lake(made, DataType.TRADES, DataType.QUOTES)
    days = [60 * n + 86_400 * day for day in range(2) for n in range(40)]
    for symbol, price in (("BHP", "36.5"), ("CBA", "78.25")):
        append_ticks(catalog, [trade(seconds, price, symbol=symbol) for seconds in days])
    sides = {"bid_price": Decimal("36.4"), "ask_price": Decimal("36.6")}
    sizes = {"bid_quantity": Decimal(100), "ask_quantity": Decimal(200)}
    quotes = [{"timestamp": trade(seconds - 1)["timestamp"]} | sides | sizes for seconds in days]
    append_ticks(catalog, quotes, DataType.QUOTES)
    return made


@pytest.fixture
def db(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("K2_API_URL", raising=False)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(folder)))
    with k2.connect(price_type="float") as opened:
        yield opened


def test_every_snippet_runs_and_every_method_of_a_quant_is_shown(db, monkeypatch):
    monkeypatch.setattr(k2, "connect", lambda **given: db if given == {"price_type": "float"} else None, raising=False)
    names = {}
    for number, code in enumerate(SNIPPETS):
        exec(compile(code, f"{PAGE.name}, block {number + 1}", "exec"), names)
    assert names["versions"].shape[0] >= 2
    asked = set(re.findall(r"\bdb\.(\w+)\(", "".join(SNIPPETS)))
    assert asked >= {
        "trades",
        "quotes",
        "bars",
        "asof",
        "last",
        "panel",
        "summary",
        "symbols",
        "snapshots",
        "pin",
        "replay",
    }
    assert asked <= set(dir(Connection))


def test_a_panel_over_a_lake_is_its_bars_side_by_side(db):
    frame = db.panel(["CBA", "BHP"], "5m", date="2014-03-10").df()
    assert list(frame.columns) == ["CBA", "BHP"]
    assert frame.index.name == "start"
    assert set(frame["BHP"]) == {36.5}
    assert len(frame) == 8
    bars = db.bars(["CBA", "BHP"], interval="5m", date="2014-03-10").df()
    assert db.panel(["CBA", "BHP"], "5m", date="2014-03-10", field="volume").df().sum().to_dict() == {
        symbol: rows["volume"].sum() for symbol, rows in bars.groupby("symbol")
    }
    days = db.panel(["CBA", "BHP"], date="2014-03-10", last_date="2014-03-11", price_type="decimal")
    assert days.arrow()["CBA"].to_pylist() == [Decimal("78.25")] * 2
    assert [f"{day:%Y-%m-%d}" for day in days.df().index] == ["2014-03-10", "2014-03-11"]


def test_what_a_connection_says_holds_until_a_question_says_another(db):
    told = []
    assert db.trades("BHP", date="2014-03-10", progress=told.append).df()["price"].sum() == 36.5 * 40
    assert told[-1] == 40
    assert db.trades("BHP", limit=1, price_type="decimal").arrow()["price"].to_pylist() == [Decimal("36.5")]
    joined = db.asof("BHP", date="2014-03-10", index="time").df()
    assert (joined["mid"] == 36.5).all()
    assert joined.index.is_monotonic_increasing
