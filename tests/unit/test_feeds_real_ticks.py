"""The real ASX ticks, where they are: counts, times and sums against the files read by hand."""

import csv
from collections import Counter, defaultdict
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from k2_testing.real_ticks import BHP, ROOT, needs_real_ticks, read

from k2.model.topics import DataType

pytestmark = needs_real_ticks


def _by_hand(path):
    """Date → open, high, low, close, volume, count, straight from the file."""
    days = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.reader(file):
            days[row[0]].append((Decimal(row[2]), Decimal(row[3])))
    return {
        day: (t[0][0], max(p for p, _ in t), min(p for p, _ in t), t[-1][0], sum(v for _, v in t), len(t))
        for day, t in days.items()
    }


def test_bhp_trades_have_the_days_of_the_file_and_3193_surplus_identical_rows():
    path = BHP[DataType.TRADES]
    table, chunks = read(DataType.TRADES, path, symbol="BHP")
    assert table.num_rows == 91_631
    assert [bad for chunk in chunks for bad in chunk.rejected] == []
    with path.open("rb") as file:
        surplus = sum(count - 1 for count in Counter(file).values())
    assert chunks[-1].identical == surplus == 3_193
    assert chunks[-1].out_of_order == 0
    assert len(set(table["message_id"].to_pylist())) == 91_631
    days = pc.strftime(
        table["timestamp"].cast(pa.timestamp("us", "Australia/Sydney")), format="%m/%d/%Y"
    ).to_pylist()  # fmt: skip
    found = {}
    for day in sorted(set(days)):
        part = table.filter(pa.array([each == day for each in days]))
        prices, volume = part["price"].to_pylist(), part["quantity"].to_pylist()
        found[day] = (prices[0], max(prices), min(prices), prices[-1], sum(volume), len(prices))
    assert found == _by_hand(path)


def test_bhp_quotes_are_all_read_and_absent_sides_are_null():
    path = BHP[DataType.QUOTES]
    table, chunks = read(DataType.QUOTES, path, symbol="BHP")
    assert table.num_rows == 77_849
    assert [bad for chunk in chunks for bad in chunk.rejected] == []
    rows = [line.split(",") for line in path.read_text().split()]
    assert table["bid_price"].null_count == sum(float(row[2]) == 0 for row in rows)
    assert table["ask_quantity"].null_count == sum(float(row[5]) == 0 for row in rows)
    assert table["ask_price"].null_count == table["ask_quantity"].null_count


def test_the_first_trade_is_at_its_sydney_time():
    table, _ = read(DataType.TRADES, BHP[DataType.TRADES], symbol="BHP")
    local = table["timestamp"][0].as_py().astimezone(ZoneInfo("Australia/Sydney"))
    assert local.isoformat() == "2014-03-10T07:57:14.754000+11:00"


def test_a_split_of_the_real_trades_gives_the_same_ids(tmp_path):
    path = BHP[DataType.TRADES]
    whole, _ = read(DataType.TRADES, path, symbol="BHP")
    lines = path.read_bytes().splitlines(keepends=True)
    for name, part in (("a.csv", lines[:40_000]), ("b.csv", lines[40_000:])):
        (tmp_path / name).write_bytes(b"".join(part))
    split, _ = read(DataType.TRADES, tmp_path / "a.csv", tmp_path / "b.csv", symbol="BHP")
    assert split["message_id"].equals(whole["message_id"])
    assert split["source_sequence"].null_count == len(split)


def test_reference_data_has_four_companies_and_two_dividends():
    table, chunks = read(DataType.REFERENCE_DATA, *sorted((ROOT / "reference-data").iterdir()))
    assert Counter(table["kind"].to_pylist()) == {"company": 4, "dividend": 2}
    assert [bad for chunk in chunks for bad in chunk.rejected] == []
    assert {row["symbol"]: row["currency"] for row in table.to_pylist() if row["kind"] == "dividend"} == {
        "BHP": "USD",
        "RIO": "AUD",
    }
