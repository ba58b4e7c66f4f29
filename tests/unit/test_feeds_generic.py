"""The generic CSV: header, times, sides, and the words for what is wrong."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.model.errors import UserError
from k2.model.events import Decimals, arrow_schema
from k2.model.exchanges import exchange
from k2.model.feed_rules import Prices
from k2.model.ids import message_id
from k2.model.topics import DataType

HEADER = "symbol,timestamp,price,quantity"


def _files(tmp_path, text, data_type=DataType.TRADES, symbol=None, decimals=Decimals.STANDARD, prices=Prices.POSITIVE):
    path = tmp_path / "in.csv"
    path.write_text(text, newline="")
    venue = exchange("NYSE")
    form = file_format("generic", Files(data_type, venue, symbol=symbol, prices=prices))
    assembler = Assembler(data_type, venue, "USD", "equities", decimals=decimals)
    return CsvFiles([path], form, assembler, symbol=symbol, clock=lambda: 0)


def _load(tmp_path, text, data_type=DataType.TRADES, symbol=None, decimals=Decimals.STANDARD, prices=Prices.POSITIVE):
    chunks = list(_files(tmp_path, text, data_type, symbol, decimals, prices).chunks())
    batches = [batch for chunk in chunks for _, batch in chunk.events]
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema == arrow_schema(data_type, decimals)
    rejected = [(bad.line, bad.reason) for chunk in chunks for bad in chunk.rejected]
    return pa.Table.from_batches(batches).to_pylist() if batches else [], rejected


def test_all_columns_are_read(tmp_path):
    header = f"{HEADER},side,trade_id,currency,conditions,source_sequence,vendor.desk"
    (event,), rejected = _load(tmp_path, f"{header}\nIBM,2014-03-10T07:57:14.754Z,36.5,1,sell,T9,EUR,A B,77,blue\n")
    assert rejected == []
    assert event["timestamp"] == datetime(2014, 3, 10, 7, 57, 14, 754000, UTC)
    assert (event["symbol"], event["side"], event["trade_id"], event["currency"]) == ("IBM", "SELL", "T9", "EUR")
    assert event["trade_conditions"] == ["A", "B"]
    assert event["source_sequence"] == 77
    assert event["vendor_data"] == [("desk", "blue")]
    assert event["message_id"] == message_id(DataType.TRADES, "NYSE", "IBM", "T9").bytes


def test_what_is_left_out_has_its_default(tmp_path):
    (event,), _ = _load(tmp_path, "timestamp,price,quantity\n2014-03-10 07:57:14,1,2\n", symbol="IBM")
    assert (event["symbol"], event["side"], event["currency"]) == ("IBM", "UNKNOWN", "USD")
    assert (event["trade_conditions"], event["vendor_data"], event["source_sequence"]) == ([], None, None)
    assert event["trade_id"] == event["message_id"].hex()[:16]


@pytest.mark.parametrize("data_type", [DataType.TRADES, DataType.QUOTES])
@pytest.mark.parametrize("lines", [[], ["IBM"], ["IBM", "IBM,2014"]], ids=["a header alone", "one", "two"])
def test_a_file_without_a_single_row_loads_nothing_and_says_why_of_each_line(tmp_path, data_type, lines):
    header = (
        HEADER if data_type is DataType.TRADES else "symbol,timestamp,bid_price,bid_quantity,ask_price,ask_quantity"
    )
    events, rejected = _load(tmp_path, "\n".join([header, *lines, ""]), data_type)
    assert events == []
    assert [line for line, _ in rejected] == [number + 2 for number in range(len(lines))]
    assert all("columns, expected" in reason for _, reason in rejected)


def test_quotes_are_read(tmp_path):
    header = "symbol,timestamp,bid_price,bid_quantity,ask_price,ask_quantity,quote_id"
    (event,), _ = _load(tmp_path, f"{header}\nIBM,2014-03-10T07:57:14Z,1.5,10,,,Q1\n", DataType.QUOTES)
    assert (event["bid_price"], event["ask_price"], event["ask_quantity"]) == (Decimal("1.5"), None, None)
    assert event["message_id"] == message_id(DataType.QUOTES, "NYSE", "IBM", "Q1").bytes


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2014-03-10T07:57:14.754Z", (7, 57, 14, 754000)),
        ("2014-03-10 07:57:14", (7, 57, 14, 0)),
        ("2014-03-10T18:57:14.754+11:00", (7, 57, 14, 754000)),
        ("2014-03-10T02:27:14-0530", (7, 57, 14, 0)),
        ("2014-03-10T07:57:14.123456789Z", (7, 57, 14, 123456)),
        ("1394438234754321", (7, 57, 14, 754321)),
        ("1394438234754321999", (7, 57, 14, 754321)),
    ],
)
def test_times_are_iso_8601_or_integers_since_1970(tmp_path, text, moment):
    (event,), rejected = _load(tmp_path, f"{HEADER}\nIBM,{text},1,2\n")
    assert rejected == []
    assert event["timestamp"] == datetime(2014, 3, 10, *moment, tzinfo=UTC)


@given(st.integers(-631_152_000_000_000, 4_102_444_800_000_000), st.sampled_from(["", "Z", "+11:00", "-03:30"]))
def test_any_iso_time_is_read_as_python_reads_it(tmp_path_factory, micros, zone):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    text = moment.replace(tzinfo=None).isoformat() + zone
    expected = datetime.fromisoformat(text)
    (event,), _ = _load(tmp_path_factory.mktemp("iso"), f"{HEADER}\nIBM,{text},1,2\n")
    assert event["timestamp"] == (expected if zone else expected.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("IBM,,1,2", "timestamp is missing"),
        ("IBM,yesterday,1,2", "timestamp is not a time: found 'yesterday', expected ISO 8601"),
        ("IBM,139443823,1,2", "timestamp is not a time: found '139443823', expected ISO 8601"),
        ("IBM,2014-02-30T00:00:00Z,1,2", "timestamp is a date that does not exist: found '2014-02-30' (in "),
        ("IBM,2014-02-28T24:00:00Z,1,2", "timestamp is not a time: found '2014-02-28T24:00:00Z'"),
        (
            "IBM,2014-02-28T00:00:00+09:60,1,2",
            "timestamp has an offset that no clock has: found '2014-02-28T00:00:00+09:60'",
        ),
        ("IBM,2014-02-28T00:00:00-00:75,1,2", "timestamp has an offset that no clock has: found "),
        ("IBM,2014-02-28T00:00:00+1430,1,2", "timestamp has an offset that no clock has: found "),
        (",2014-02-28T00:00:00Z,1,2", "symbol is missing"),
        ("IBM,2014-02-28T00:00:00Z,0,2", "price is zero: found '0'"),
        ("IBM,2014-02-28T00:00:00Z,1,-2", "quantity is negative: found '-2'"),
        ("IBM,2014-02-28T00:00:00Z,1", "3 columns, expected 4"),
    ],
)
def test_a_bad_row_has_its_reason(tmp_path, row, reason):
    good = "IBM,2014-02-28T00:00:00Z,1,2"
    events, rejected = _load(tmp_path, f"{HEADER}\n{good}\n{row}\n{good}\n")
    assert len(events) == 2
    assert [line for line, _ in rejected] == [3]
    assert rejected[0][1].startswith(reason)


def test_an_unknown_side_is_rejected(tmp_path):
    _, rejected = _load(tmp_path, f"{HEADER},side\nIBM,2014-02-28T00:00:00Z,1,2,X\n")
    assert rejected == [(2, "side must be BUY, SELL, SELL_SHORT or UNKNOWN, found 'X'")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("symbol,timestamp,price", "lacks the column quantity: found 'symbol, timestamp, price', expected symbol, timestamp, price, quantity (and"),
        (f"{HEADER},sid", "has a column that is not known: found 'sid', expected side. Call it vendor.sid to keep it"),
        (f"{HEADER},price", "names a column twice"),
        ("03/10/2014,10:00:00.123,36.5,100,0,X,7", "lacks the column symbol, timestamp, price, quantity: found '03/10/2014, "),
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused_with_what_was_found(tmp_path, header, words):
    with pytest.raises(UserError) as error:
        _load(tmp_path, f"{header}\n1,2,3\n")
    assert words in str(error.value)


def test_a_byte_order_mark_quotes_and_capitals_in_the_header_do_no_harm(tmp_path):
    events, rejected = _load(
        tmp_path, '\ufeff"Symbol", TIMESTAMP ,Price,Quantity\r\n"I,B",2014-03-10T00:00:00Z,"1",2\r\n'
    )
    assert rejected == []
    assert events[0]["symbol"] == "I,B"


def test_the_order_of_columns_changes_no_id(tmp_path):
    one, _ = _load(tmp_path, f"{HEADER},vendor.a,vendor.b\nIBM,2014-03-10T00:00:00Z,1,2,x,y\n")
    two, _ = _load(tmp_path, "vendor.b,quantity,price,vendor.a,timestamp,symbol\ny,2.0,1,x,1394409600000000,IBM\n")
    assert one[0]["message_id"] == two[0]["message_id"]


def test_the_same_trade_id_twice_is_the_same_event(tmp_path):
    text = f"{HEADER},trade_id\nIBM,2014-03-10T00:00:00Z,1,2,A\nIBM,2014-03-10T00:00:00Z,1,2,A\nIBM,2014-03-10T00:00:00Z,1,2,\n"
    events, _ = _load(tmp_path, text)
    assert len({event["message_id"] for event in events}) == 2


def test_reference_data_has_no_generic_form(tmp_path):
    with pytest.raises(UserError, match="has no reference_data"):
        _load(tmp_path, "x\n", DataType.REFERENCE_DATA)


FINE_AND_LARGE = [
    "7123456789012,0.0000000000001",
    "0.000004335,10000000000",
    "0.00000001,9999999999.99999999",
    "+.5,007",
]


def test_a_wide_table_takes_ticks_and_quantities_that_a_standard_one_does_not(tmp_path):
    text = "\n".join([HEADER, *(f"PEPE,2024-03-04T15:00:0{at}Z,{row}" for at, row in enumerate(FINE_AND_LARGE)), ""])
    events, rejected = _load(tmp_path, text, decimals=Decimals.WIDE)
    assert rejected == []
    assert [(event["price"], event["quantity"]) for event in events] == [
        tuple(map(Decimal, row.split(","))) for row in FINE_AND_LARGE
    ]
    events, rejected = _load(tmp_path, text)
    assert len(events) == 2
    remedy = "; an IcebergTable with spec.decimals: wide holds it"
    assert rejected == [
        (2, f"price has more than 10 integer digits: found '7123456789012'{remedy}"),
        (3, f"price has more than 8 decimals: found '0.000004335'{remedy}"),
    ]


UNITS = st.integers(1, 10**18 - 1) | st.integers(1, 10**9)


@given(st.lists(st.tuples(UNITS, UNITS), min_size=1, max_size=6))
def test_one_value_has_one_id_whether_its_table_is_standard_or_wide(tmp_path_factory, amounts):
    rows = [",".join(f"{Decimal(units).scaleb(-8):f}" for units in row) for row in amounts]
    text = "\n".join([HEADER, *(f"IBM,2014-03-10T07:57:14Z,{row}" for row in rows), ""])
    standard, _ = _load(tmp_path_factory.mktemp("ids"), text)
    wide, _ = _load(tmp_path_factory.mktemp("ids"), text, decimals=Decimals.WIDE)
    assert standard == wide
    assert len(standard) == len(amounts)


def test_the_canonical_row_of_amounts_finer_than_a_unit_is_what_it_was_with_places_behind_the_point(tmp_path):
    text = f"{HEADER}\nIBM,2014-03-10T07:57:14Z,36.5,12345678901.5\nIBM,2014-03-10T07:57:14Z,0.0000000012500,1\n"
    coarse, fine = (event["message_id"] for event in _load(tmp_path, text, decimals=Decimals.WIDE)[0])

    def by_hand(price, quantity):
        row = f"1394438234000000\x1f{price}\x1f{quantity}\x1fUNKNOWN\x1f\x1fUSD"
        return message_id(DataType.TRADES, "NYSE", "IBM", row, 0).bytes

    assert coarse == by_hand("3650000000", "1234567890150000000")
    assert fine == by_hand("0.125", "100000000")


def test_sides_of_wide_quotes_are_absent_where_both_values_are_zero(tmp_path):
    header = "symbol,timestamp,bid_price,bid_quantity,ask_price,ask_quantity"
    text = (
        f"{header}\nIBM,2014-03-10T07:57:14Z,0.000000000000000001,10000000000000,0,\nIBM,2014-03-10T07:57:14Z,0,7,,\n"
    )
    (event,), rejected = _load(tmp_path, text, DataType.QUOTES, decimals=Decimals.WIDE)
    assert (event["bid_price"], event["bid_quantity"]) == (Decimal("1E-18"), Decimal(10**13))
    assert (event["ask_price"], event["ask_quantity"]) == (None, None)
    assert [line for line, _ in rejected] == [3]


def test_a_load_of_standard_amounts_is_known_as_it_always_was_and_a_wide_one_is_another(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(f"{HEADER}\nIBM,2014-03-10T07:57:14Z,1,2\n")
    venue = exchange("NYSE")
    form = file_format("generic", Files(DataType.TRADES, venue))
    known = {
        decimals: CsvFiles(
            [path], form, Assembler(DataType.TRADES, venue, "USD", "equities", decimals=decimals)
        ).options
        for decimals in Decimals
    }
    assert "decimals" not in known[Decimals.STANDARD]
    assert known[Decimals.WIDE] == known[Decimals.STANDARD] | {"decimals": "wide"}


TAKEN = "a feed with prices: any takes it"
AT = "CL,2020-04-20T18:30:00Z"


def test_a_feed_may_have_prices_of_zero_and_less_and_they_are_exact(tmp_path):
    text = (
        f"{HEADER}\n{AT},-37.63,5\n{AT},0,1\n{AT},-0.00000001,1\n{AT},-9999999999.99999999,1\n{AT},12.5,-1\n{AT},1,0\n"
    )
    events, rejected = _load(tmp_path, text, prices=Prices.ANY)
    prices = [Decimal(each) for each in ("-37.63", "0", "-0.00000001", "-9999999999.99999999")]
    assert [event["price"] for event in events] == prices
    assert rejected == [(6, "quantity is negative: found '-1'"), (7, "quantity is zero: found '0'")]
    _, refused = _load(tmp_path, text)
    assert refused[:2] == [
        (2, f"price is negative: found '-37.63'; {TAKEN}"),
        (3, f"price is zero: found '0'; {TAKEN}"),
    ]
    assert [TAKEN in reason for _, reason in refused] == [True] * 4 + [False] * 2
    fine = ["-12345678901234567890.000000000000000001", "-0.000000000000000001", "0.0"]
    rows = "".join(f"{AT},{price},1\n" for price in fine)
    events, rejected = _load(tmp_path, f"{HEADER}\n{rows}", decimals=Decimals.WIDE, prices=Prices.ANY)
    assert ([event["price"] for event in events], rejected) == ([Decimal(price) for price in fine], [])


@given(st.lists(st.decimals("-9999999999.99999999", "9999999999.99999999", places=8), min_size=1, max_size=20))
def test_any_price_is_read_as_it_is_and_what_other_prices_there_are_changes_no_id(tmp_path_factory, prices):
    folder = tmp_path_factory.mktemp("prices")
    text = "\n".join([HEADER, *(f"{AT},{price:f},1" for price in prices)]) + "\n"
    events, rejected = _load(folder, text, prices=Prices.ANY)
    assert rejected == []
    assert [event["price"] for event in events] == prices
    positive, _ = _load(folder, text)
    assert positive == [event for event in events if event["price"] > 0]


QUOTES = "symbol,timestamp,bid_price,bid_quantity,ask_price,ask_quantity"


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ("-1.5,10,-0.5,20", ("-1.5", "10", "-0.5", "20")),
        ("0,10,0.00,20", ("0", "10", "0", "20")),
        ("0,0,-1,20", (None, None, "-1", "20")),
        (",,0,20", (None, None, "0", "20")),
        ("1,10,-1,20", ("1", "10", "-1", "20")),  # crossed
        (",10,1,20", "bid price '' with volume '10': a side is absent only when both are 0"),
        ("-1,,1,20", "bid price '-1' with volume '': a side is absent only when both are 0"),
        ("-1,-1,1,20", "bid volume is negative: found '-1'"),
    ],
)
def test_a_side_of_a_quote_may_be_at_zero_or_below_and_is_absent_where_its_size_is(tmp_path, sides, expected):
    events, rejected = _load(tmp_path, f"{QUOTES}\n{AT},{sides}\n", DataType.QUOTES, prices=Prices.ANY)
    if isinstance(expected, str):
        assert rejected == [(2, expected)]
    else:
        found = tuple(events[0][name] for name in QUOTES.split(",")[2:])
        assert found == tuple(None if each is None else Decimal(each) for each in expected)


def test_a_load_under_other_rules_is_another_load_and_one_under_the_usual_ones_is_what_it_was(tmp_path):
    text = f"{HEADER}\n{AT},1,1\n"
    usual, of_any = (_files(tmp_path, text, prices=prices).options for prices in (Prices.POSITIVE, Prices.ANY))
    assert "prices" not in usual  # ledgers from before there was a choice go on
    assert of_any == usual | {"prices": "any"}
