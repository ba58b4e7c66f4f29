"""Questions about tables of decimals(38, 18): those that a standard table answers too, and those that it cannot hold."""

import csv
import io
import json
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count, product

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.asking import crowded_lake, questions_of
from k2_testing.bars import TICK, independent_bars
from k2_testing.extent import sized
from k2_testing.lake import make_lake
from k2_testing.service import serving
from k2_testing.ticks import OPEN, append_ticks, trade

from k2.cli_query.candles import charts
from k2.forms.formats import Format, encode
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.exchanges import Session
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Empty, Interval
from k2.query.asked.cursor import ReplayQuery
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window

DAY = date(2014, 3, 10)
WIDE = Decimals.WIDE.arrow
AVERAGES = ("vwap", "twap", "mid")
KINDS = (DataType.TRADES, DataType.QUOTES)

# What real markets have that a standard table has not: thirteen digits of SHIB, ticks of 1e-13, eighteen places of a token.
_FINE = st.sampled_from(["0.0000000000001", "0.000023450001", "1234567890123.5", "37.01", "0.000000000000000001"])
_LARGE = st.sampled_from(
    ["1234567890123", "10000000000000", "0.123456789012345678", "98765432109876.000000000000000001"]
)
FINE_TICK = st.builds(
    lambda tick, price, quantity, most: tick | {"price": Decimal(price) * most, "quantity": Decimal(quantity)},
    TICK,
    _FINE,
    _LARGE | st.just("0"),
    st.integers(1, 99_999),
)


def quote(seconds, bid, ask, **more):
    sides = {"bid_price": bid, "ask_price": ask, "bid_quantity": 1, "ask_quantity": 2}
    amounts = {name: None if value is None else Decimal(value) for name, value in sides.items()}
    return {"timestamp": OPEN + timedelta(seconds=seconds)} | amounts | more


@pytest.fixture
def wide(tmp_path):
    """A lake of wide tables and the questions about it."""
    lake = make_lake(tmp_path, *KINDS, decimals=Decimals.WIDE)
    with questions_of(tmp_path) as questions:
        yield lake, questions


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A standard lake and a wide one with the same rows, and a function that appends to both under a new symbol."""
    with ExitStack() as stack:
        lakes, asked = [], []
        for decimals in Decimals:
            folder = tmp_path_factory.mktemp(decimals)
            lakes.append(make_lake(folder, *KINDS, decimals=decimals))
            asked.append(stack.enter_context(questions_of(folder)))
        numbers = count()

        def append(rows, data_type=DataType.TRADES, symbol=None):
            symbol = symbol or f"X{next(numbers)}"
            for lake in lakes:
                append_ticks(lake, [row | {"symbol": symbol} for row in rows], data_type)
            return symbol

        yield (*asked, append)


def alike(standard, wide):
    """The same rows; averages, of which a wide table has more places, as far as a standard one has them."""
    assert standard.num_rows == wide.num_rows
    for name in standard.column_names:
        for one, other in zip(standard[name].to_pylist(), wide[name].to_pylist(), strict=True):
            if name in AVERAGES and one is not None:
                assert abs(Fraction(one) - Fraction(other)) * 2 <= Fraction(1, 10**8), name
            else:
                assert one == other, name


# --- the same as of a standard table -----------------------------------------------------------------------------------


@settings(max_examples=sized(3, 30), deadline=None)
@given(st.lists(TICK, min_size=1, max_size=30))
def test_bars_and_summaries_are_those_of_a_standard_table(both, ticks):
    standard, wide, append = both
    symbol = append(ticks)
    for interval, session, empty in product((Interval.MINUTE, Interval.HOUR, Interval.DAY), Session, Empty):
        asked = BarsQuery((symbol,), interval, session=session, empty=empty, limit=300)
        alike(standard.bars(asked).rows, wide.bars(asked).rows)
    for day in {tick["timestamp"].astimezone(OPEN.tzinfo).date() for tick in ticks}:
        asked = SummaryQuery(symbol, day)
        try:
            one = standard.summary(asked)
        except UserError:
            continue
        other = wide.summary(asked)
        if one.vwap is not None:
            assert abs(Fraction(one.vwap) - Fraction(other.vwap)) * 2 <= Fraction(1, 10**8)
        same = dict.fromkeys(("vwap", "provenance"))
        assert replace(one, **same) == replace(other, **same)


PRICE = st.decimals(Decimal("0.01"), Decimal(9999999999), places=8) | st.integers(1, 4).map(Decimal)


@settings(max_examples=sized(6, 60), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.none() | PRICE, st.none() | PRICE), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 9), PRICE), min_size=1, max_size=20),
    st.sampled_from([None, 0, 4]),
)
def test_trades_with_their_quotes_are_those_of_a_standard_table(both, quotes, trades, since):
    standard, wide, append = both
    symbol = append([trade(seconds, str(price)) for seconds, price in trades])
    append([quote(*each) for each in quotes], DataType.QUOTES, symbol)
    start = None if since is None else micros(OPEN + timedelta(seconds=since))
    asked = AsofQuery((symbol,), window=Window(start, None))
    alike(standard.asof(asked).rows, wide.asof(asked).rows)


def test_events_and_replays_are_those_of_a_standard_table(both):
    standard, wide, append = both
    symbol = append([trade(n / 7, f"{37 + n}.01", f"{n}.5") for n in range(20)])
    append([quote(n / 3, f"{36 + n}", None if n % 3 else f"{37 + n}.5") for n in range(20)], DataType.QUOTES, symbol)
    for kind in KINDS:
        alike(*(each.events(EventsQuery(kind, (symbol,))).rows for each in (standard, wide)))
        alike(*(each.events(EventsQuery(kind, (symbol,), limit=3)).rows for each in (standard, wide)))
    pages = [each.replay_merged(ReplayQuery(symbols=(symbol,))).page(100)[0].rows for each in (standard, wide)]
    alike(*pages)
    assert pages[1].schema.field("price").type == pages[1].schema.field("bid_price").type == WIDE


def test_an_answer_has_the_tables_types_whether_there_are_rows_or_not(wide):
    lake, questions = wide
    asked = BarsQuery(("BHP",), Interval.HOUR, period=Dates(DAY, DAY))
    empty = [questions.bars(asked).rows.schema, questions.asof(AsofQuery(("BHP",))).rows.schema]
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [quote(0, "1", "2")], DataType.QUOTES)
    bars, joined = questions.bars(asked).rows.schema, questions.asof(AsofQuery(("BHP",))).rows.schema
    assert [bars, joined] == empty
    for name in ("open", "high", "low", "close", "volume", "vwap", "twap"):
        assert bars.field(name).type == WIDE
    for name in ("price", "bid_price", "ask_quantity", "mid", "spread", "effective_spread"):
        assert joined.field(name).type == WIDE


# --- what a standard table cannot hold ---------------------------------------------------------------------------------


@settings(max_examples=sized(3, 30), deadline=None)
@given(st.lists(st.lists(FINE_TICK, min_size=1, max_size=20), min_size=1, max_size=2))
def test_bars_of_fine_and_large_values_are_what_an_independent_calculation_gives(crowded, appends):
    questions, append = crowded
    symbol, ticks = append(appends)
    for interval, session in product(Interval, Session):
        found = questions.bars(BarsQuery((symbol,), interval, session=session)).rows.to_pylist()
        assert found == independent_bars(ticks, interval.value, session.value, places=18)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A wide table for many examples: each appends ticks of a symbol of its own."""
    with crowded_lake(tmp_path_factory.mktemp("crowded"), Decimals.WIDE) as lake:
        yield lake


SHIB = [
    trade(0, "0.0000234500001", "1234567890123"),
    trade(20, "0.0000234500002", "9876543210987.000000000000000001"),
    trade(40, "0.0000234500001", "1"),
]
VOLUME = "11111111101111.000000000000000001"
# 234500001e-13, and 1e-13 more for 9876543210987 of the 11111111101111
VWAP = "0.000023450000188889"
# the first price for 20 seconds, the second for 20, the first again for the rest of the minute
TWAP = "0.000023450000133333"


def test_bars_and_the_summary_of_a_day_of_tiny_prices_and_huge_quantities(wide):
    lake, questions = wide
    append_ticks(lake, SHIB)
    (bar,) = questions.bars(BarsQuery(("BHP",), Interval.MINUTE)).rows.to_pylist()
    assert (bar["open"], bar["close"], bar["low"]) == (Decimal("0.0000234500001"),) * 3
    assert bar["high"] == Decimal("0.0000234500002")
    assert (bar["volume"], bar["vwap"], bar["twap"]) == (Decimal(VOLUME), Decimal(VWAP), Decimal(TWAP))
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert (str(found.volume), f"{found.vwap:f}", found.high) == (VOLUME, VWAP, bar["high"])


def test_a_spread_of_one_part_in_ten_to_the_eighteenth_decides_a_side(wide):
    lake, questions = wide
    append_ticks(
        lake,
        [
            quote(0, "1234567890123.000000000000000001", "1234567890123.000000000000000003"),
            quote(10, "1234567890123.000000000000000001", "1234567890123.000000000000000002"),
            quote(20, "0.0000000000001", "0.0000000000004"),
        ],
        DataType.QUOTES,
    )
    prices = [
        "1234567890123.000000000000000003",
        "1234567890123.000000000000000002",
        "1234567890123.000000000000000001",
    ]
    append_ticks(lake, [*(trade(1 + n, price) for n, price in enumerate(prices)), trade(21, "0.0000000000003")])
    append_ticks(lake, [trade(11, prices[1])])
    rows = questions.asof(AsofQuery(("BHP",))).rows.to_pylist()
    assert [row["inferred_side"] for row in rows] == ["BUY", "SELL", "SELL", "BUY", "BUY"]
    assert [row["effective_spread"] for row in rows] == [Decimal(n).scaleb(-18) for n in (2, 0, 2, 1, 1 * 10**5)]
    assert [row["spread"] for row in rows] == [Decimal(n).scaleb(-18) for n in (2, 2, 2, 1, 3 * 10**5)]
    # A half of the last place is rounded to even: …0015 to …002.
    assert [row["mid"] for row in rows] == [
        *[Decimal("1234567890123.000000000000000002")] * 4,
        Decimal("0.00000000000025"),
    ]


def test_the_last_other_price_before_the_window_is_compared_to_the_last_digit(wide):
    lake, questions = wide
    price = "1234567890123.000000000000000002"
    append_ticks(lake, [quote(0, price, price)], DataType.QUOTES)
    append_ticks(lake, [trade(1, "1234567890123.000000000000000001"), trade(2, price), trade(9, price)])
    asked = AsofQuery(("BHP",), window=Window(micros(OPEN + timedelta(seconds=5)), None))
    assert questions.asof(asked).rows["inferred_side"].to_pylist() == ["BUY"]


def test_a_volume_that_no_decimal_holds_is_refused_and_the_summary_has_it(wide):
    lake, questions = wide
    most = "99999999999999999999.999999999999999999"
    append_ticks(lake, [trade(0, "1", most), trade(61, "3", most)])
    minutes = questions.bars(BarsQuery(("BHP",), Interval.MINUTE)).rows
    assert minutes["volume"].to_pylist() == [Decimal(most)] * 2
    with pytest.raises(UserError, match="shorter buckets") as refused:
        questions.bars(BarsQuery(("BHP",), Interval.HOUR))
    assert "decimal128(38, 18)" in str(refused.value)
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert f"{found.volume:f}" == "199999999999999999999.999999999999999998"
    assert found.vwap == 2


def test_a_spread_that_no_decimal_holds_is_refused(wide):
    lake, questions = wide
    most = "99999999999999999999"
    append_ticks(lake, [quote(0, f"-{most}", most)], DataType.QUOTES)
    append_ticks(lake, [trade(1)])
    with pytest.raises(UserError, match="A spread does not fit"):
        questions.asof(AsofQuery(("BHP",)))


def test_trades_of_a_standard_table_join_quotes_of_a_wide_one_and_the_other_way_round(tmp_path):
    for number, (trades, quotes) in enumerate([tuple(Decimals), tuple(reversed(Decimals))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        make_lake(folder, decimals=trades)
        lake = make_lake(folder, DataType.QUOTES, decimals=quotes)
        append_ticks(lake, [quote(0, "0.00000001", "0.00000002")], DataType.QUOTES)
        append_ticks(lake, [trade(1, "0.00000002")])
        with questions_of(folder) as questions:
            rows = questions.asof(AsofQuery(("BHP",))).rows
        (row,) = rows.to_pylist()
        assert row["mid"] == Decimal("0.000000015")
        assert (row["spread"], row["effective_spread"]) == (Decimal("0.00000001"),) * 2
        assert rows.schema.field("price").type == trades.arrow
        assert rows.schema.field("bid_price").type == quotes.arrow
        assert rows.schema.field("mid").type == WIDE


# --- forms -------------------------------------------------------------------------------------------------------------


def test_json_csv_and_arrow_have_every_digit(tmp_path):
    append_ticks(make_lake(tmp_path, *KINDS, decimals=Decimals.WIDE), SHIB)
    with serving(tmp_path) as client:
        bars = "/v1/bars/BHP?interval=1m&date=2014-03-10"
        (bar,) = client.get(bars).json()["data"]
        assert (bar["volume"], bar["vwap"], bar["twap"]) == (VOLUME, VWAP, TWAP)
        assert bar["open"] == "0.000023450000100000"
        (cells,) = csv.DictReader(io.StringIO(client.get(f"{bars}&format=csv").text))
        assert {name: cells[name] for name in ("open", "volume", "vwap", "twap")} == {
            name: bar[name] for name in ("open", "volume", "vwap", "twap")
        }
        table = pa.ipc.open_stream(client.get(f"{bars}&format=arrow").content).read_all()
        assert [str(table[name][0].as_py()) for name in ("volume", "vwap", "twap")] == [VOLUME, VWAP, TWAP]
        summary = client.get("/v1/summary/BHP/2014-03-10").json()
        assert (summary["volume"], summary["vwap"]) == (VOLUME, VWAP)
        rows = client.get("/v1/trades?symbol=BHP").json()["data"]
        assert [row["quantity"] for row in rows] == [f"{tick['quantity']:.18f}" for tick in SHIB]
        lines = client.get("/v1/trades?symbol=BHP&format=ndjson").text.splitlines()
        assert [json.loads(line)["price"] for line in lines] == [f"{tick['price']:.18f}" for tick in SHIB]
        answer = client.post("/v1/aggregations", json={"symbols": ["BHP"], "interval": "1m"}).json()
        assert answer["data"][0]["vwap"] == VWAP


def test_a_chart_in_characters_has_exact_labels(wide):
    lake, questions = wide
    close = "12345678901234567890.123456789012345678"
    append_ticks(
        lake, [trade(0, "12345678901234567890.1", "98765432109876543210.5"), trade(61, close, "0.000000000000000001")]
    )
    rows = questions.bars(BarsQuery(("BHP",), Interval.MINUTE)).rows
    (chart,) = charts(rows, Interval.MINUTE, colour=False)
    assert f"◂{close}" in chart
    assert f"C {close}" in chart
    assert "V 98,765,432,109,876,543,210.500000000000000001" in chart


def test_one_table_of_every_form(wide):
    lake, questions = wide
    append_ticks(lake, SHIB)
    rows = questions.bars(BarsQuery(("BHP",), Interval.MINUTE)).rows
    for form in Format:
        assert b"".join(encode(rows, form, {}))
