"""Mapping files: what each rule makes of a vendor's columns, the formats that ship, the examples of the manual, and bad mappings."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format, own_format
from k2.feeds.load.csv_source import CsvFiles, ids_of
from k2.model.errors import UserError
from k2.model.events import arrow_schema
from k2.model.exchanges import exchange
from k2.model.ids import message_id
from k2.model.mapping.named import SHIPPED, shipped
from k2.model.mapping.reading import parse_mappings
from k2.model.topics import DataType

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "mappings.md").read_text()
EXAMPLES = {
    re.search(r"^name: (.*)$", text, re.MULTILINE)[1]: text
    for text in re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
}
DELIVERED = ROOT.parent / "shared" / "data" / "found" / "vendors"

PLAIN = "mapping: 1\nname: mine\ndataType: trades\nsymbol: s\ntime: {column: t, form: us}\nprice: p\nquantity: q\n"


def source(path, form=None, mapping=None, market="NYSE", symbol=None, data_type=DataType.TRADES):
    venue = exchange(market)
    files = Files(data_type, venue, symbol=symbol, paths=[path])
    if mapping is None:
        chosen = file_format(form, files)
    else:
        (written := path.with_suffix(".yaml")).write_text(mapping)
        chosen = own_format(written, files)
    ids = ids_of(chosen, None, None, None)
    assembler = Assembler(data_type, venue, venue.currency, str(venue.asset_class), ids)
    return CsvFiles([path], chosen, assembler, symbol=symbol, clock=lambda: 0)


def load(folder, text, name="in.csv", **how):
    path = folder / name
    path.write_text(text)
    return events_of(source(path, **how))


def events_of(found):
    chunks = list(found.chunks())
    batches = [batch for chunk in chunks for _, batch in chunk.events]
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema == arrow_schema(found._form.data_type)
    rejected = [(bad.line, bad.reason) for chunk in chunks for bad in chunk.rejected]
    events = pa.Table.from_batches(batches).to_pylist() if batches else []
    return events, rejected, sum(chunk.passed_over for chunk in chunks)


def one(folder, text, **how):
    (event,), rejected, _ = load(folder, text, **how)
    assert rejected == []
    return event


DATABENTO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,symbol\n"
)
WRITTEN = "2024-05-06T13:30:00.000200Z,2024-05-06T13:30:00.000100001Z,0,2,77,T,{},0,{},25,0,9,4,MSFT\n"
COUNTED = "1715002200000200000,1715002200000100001,0,2,77,{action},{},0,{},25,0,9,4,MSFT\n"


@pytest.mark.parametrize(("side", "ours"), [("B", "BUY"), ("A", "SELL"), ("N", "UNKNOWN")])
def test_databento_is_the_same_event_written_out_or_counted_in_billionths(tmp_path, side, ours):
    written = one(tmp_path, DATABENTO + WRITTEN.format(side, "410.545000000"), form="databento-trades")
    counted = one(tmp_path, DATABENTO + COUNTED.format(side, "410545000000", action="T"), form="databento-trades")
    assert written == counted
    assert (written["price"], written["side"], written["quantity"]) == (Decimal("410.545"), ours, 25)
    assert written["timestamp"] == datetime(2024, 5, 6, 13, 30, 0, 100, UTC)
    assert written["source_sequence"] == 4


def test_a_price_of_nineteen_digits_is_a_count_of_billionths_and_never_taken_at_face_value(tmp_path):
    event = one(tmp_path, DATABENTO + COUNTED.format("B", "1234567890120000000", action="T"), form="databento-trades")
    assert event["price"] == Decimal("1234567890.12")


def test_databentos_absent_price_is_rejected_and_other_actions_are_passed_over_and_counted(tmp_path):
    rows = COUNTED.format("B", 2**63 - 1, action="T") + COUNTED.format("B", "410545000000", action="C")
    events, rejected, passed_over = load(tmp_path, DATABENTO + rows, form="databento-trades")
    assert (events, rejected, passed_over) == ([], [(2, "price is missing")], 1)


def test_databentos_absent_time_gives_way_to_the_moment_of_receipt(tmp_path):
    row = COUNTED.format("B", "1000000000", action="T").replace("1715002200000100001", str(2**64 - 1))
    event = one(tmp_path, DATABENTO + row, form="databento-trades")
    assert event["timestamp"] == datetime(2024, 5, 6, 13, 30, 0, 200, UTC)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("11,2.50,3,7.50,1577836800123,True,True\n", 123_000),
        ("11,2.50,3,7.50,1577836800123456,True,True\n", 123_456),
        ("11,2.50,3,7.50,1577836800123,true\n", 123_000),
        ("id,price,qty,quote_qty,time,is_buyer_maker\n11,2.50,3,7.50,1577836800123,true\n", 123_000),
    ],
    ids=["spot in ms", "spot in µs", "futures without a header", "futures with one"],
)
def test_binances_trades_are_read_with_a_header_or_without_in_either_unit(tmp_path, text, micros):
    event = one(tmp_path, text, form="binance-trades", market="BINANCE", symbol="ETHUSDT")
    assert event["timestamp"] == datetime(2020, 1, 1, 0, 0, 0, micros, UTC)
    assert (event["price"], event["quantity"], event["side"]) == (Decimal("2.5"), 3, "SELL")
    assert event["message_id"] == message_id(DataType.TRADES, "BINANCE", "ETHUSDT", "11").bytes


def test_the_symbol_may_stand_in_a_files_name_and_the_same_bytes_under_another_are_another_load(tmp_path):
    row = "11,2.50,3,7.50,1577836800123,True,True\n"
    how = {"form": "binance-trades", "market": "BINANCE"}
    assert one(tmp_path, row, name="ETHUSDT-trades-2020-01.csv", **how)["symbol"] == "ETHUSDT"
    assert one(tmp_path, row, name="ADAUSDT-trades-2020-01.csv", **how)["symbol"] == "ADAUSDT"
    first, other = (source(tmp_path / f"{name}-trades-2020-01.csv", **how).parts for name in ("ETHUSDT", "ADAUSDT"))
    assert first != other
    with pytest.raises(UserError, match=r"does not say its symbol.*--symbol"):
        load(tmp_path, row, name="mine.csv", **how)


@pytest.mark.parametrize("header", [True, False])
def test_binances_aggregate_trades_are_of_a_space_of_their_own(tmp_path, header):
    names = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n" * header
    event = one(
        tmp_path, f"{names}7,1.5,2,20,22,1577836800123,false\n", form="binance-aggtrades", market="BINANCE", symbol="X"
    )
    assert (event["side"], event["trade_id"]) == ("BUY", "7")
    assert dict(event["vendor_data"]) == {"first_trade_id": "20", "last_trade_id": "22"}
    plain = message_id(DataType.TRADES, "BINANCE", "X", "7")
    assert (
        event["message_id"]
        == message_id(DataType.TRADES, "BINANCE", "X", "id_space=aggregate\x1f7").bytes
        != plain.bytes
    )


MASSIVE = "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,trf_id,trf_timestamp\n"


def test_massives_ids_are_of_a_venue_and_a_day_and_its_conditions_a_list(tmp_path):
    row = 'KO,"14,41",0,{venue},5,{at},60.125,9,1709566200000700000,10,1,0,0\n'
    rows = [row.format(venue=4, at="1709566200000500000"), row.format(venue=12, at="0")]
    events, rejected, _ = load(tmp_path, MASSIVE + "".join(rows), form="massive-trades")
    assert rejected == []
    assert [event["trade_id"] for event in events] == ["4-0-5", "12-0-5"]
    assert events[0]["trade_conditions"] == ["14", "41"]
    assert [event["timestamp"].microsecond for event in events] == [500, 700], "the SIP's time where there is no other"
    scoped = message_id(DataType.TRADES, "NYSE", "KO", "civil_day=2024-03-04\x1f4-0-5")
    assert events[0]["message_id"] == scoped.bytes


def test_tardis_has_sides_in_words_and_quotes_with_a_side_missing(tmp_path):
    header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
    rows = "".join(
        f"x,ETHUSD,158{n}836800123456,1,{n},{side},5.5,{n}\n" for n, side in ((7, "buy"), (8, "sell"), (9, "unknown"))
    )
    events, rejected, _ = load(tmp_path, header + rows, form="tardis-trades", market="BINANCE")
    assert (rejected, [event["side"] for event in events]) == ([], ["BUY", "SELL", "UNKNOWN"])
    quote = one(
        tmp_path,
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\nx,ETHUSD,1577836800123456,1,,,5.5,2\n",
        form="tardis-quotes",
        market="BINANCE",
        data_type=DataType.QUOTES,
    )
    assert (quote["bid_price"], quote["bid_quantity"], quote["ask_price"]) == (Decimal("5.5"), 2, None)


def test_the_manuals_taq_joins_the_suffix_and_reads_new_yorks_clock(tmp_path):
    header = "SYM_ROOT,SYM_SUFFIX,DATE,TIME_M,EX,TR_SCOND,SIZE,PRICE,TR_CORR,TR_SEQNUM\n"
    row = "BRK,B,20240311,9:30:00.123456789,N,@ I,100,410.25,{},55\n"
    events, rejected, passed_over = load(
        tmp_path, header + row.format("00") + row.format("08"), mapping=EXAMPLES["taq"]
    )
    assert (rejected, passed_over, len(events)) == ([], 1, 1)
    assert events[0]["timestamp"] == datetime(2024, 3, 11, 13, 30, 0, 123456, UTC)
    assert (events[0]["symbol"], events[0]["trade_conditions"]) == ("BRK.B", ["@", "I"])
    assert dict(events[0]["vendor_data"]) == {"venue": "N"}


def test_the_manuals_lobster_takes_symbol_and_date_from_the_files_name(tmp_path):
    rows = "34200.1234567,1,9,100,5853300,1\n34200.25,4,9,40,5853300,1\n34201,5,0,60,5853400,-1\n"
    events, rejected, passed_over = load(
        tmp_path, rows, name="MSFT_2012-06-21_34200000_57600000_message_1.csv", mapping=EXAMPLES["lobster"]
    )
    assert (rejected, passed_over) == ([], 1)
    assert [(event["side"], event["price"], event["quantity"]) for event in events] == [
        ("SELL", Decimal("585.33"), 40),
        ("BUY", Decimal("585.34"), 60),
    ]
    assert events[0]["timestamp"] == datetime(2012, 6, 21, 13, 30, 0, 250_000, UTC)
    with pytest.raises(UserError, match=r"does not say its date"):
        load(tmp_path, rows, name="MSFT_messages.csv", mapping=EXAMPLES["lobster"])


def test_the_manuals_kaiko_and_jquants(tmp_path):
    kaiko = one(
        tmp_path,
        "id,exchange,symbol,date,price,amount,sell\n8,cb,ethusd,1577836800123,5.5,2,true\n",
        mapping=EXAMPLES["kaiko"],
    )
    assert (kaiko["symbol"], kaiko["side"], kaiko["timestamp"].microsecond) == ("ETHUSD", "SELL", 123_000)
    header = "Date,Code,Time,SessionDistinction,Price,TradingVolume,TransactionId\n"
    tokyo = one(
        tmp_path, header + "2025-11-04,72030,15:25:00.5,02,3100.5,300,000000000007\n", mapping=EXAMPLES["jquants"]
    )
    assert (tokyo["timestamp"], tokyo["trade_id"]) == (datetime(2025, 11, 4, 6, 25, 0, 500_000, UTC), "000000000007")


@pytest.mark.skipif(not DELIVERED.is_dir(), reason=f"{DELIVERED} is not there")
@pytest.mark.parametrize(
    ("name", "how", "price", "side"),
    [
        ("binance-aggtrades", {"form": "binance-aggtrades", "symbol": "BTCUSDT"}, "29223", "BUY"),
        ("binance-futures-trades", {"form": "binance-trades", "symbol": "X"}, "9.96", "BUY"),
        ("binance-spot-trades-ms", {"form": "binance-trades", "symbol": "X"}, "0.00005717", "BUY"),
        ("binance-spot-trades-us", {"form": "binance-trades", "symbol": "BTCUSDT"}, "94500.01", "SELL"),
        ("databento-trades-integer-prices", {"form": "databento-trades"}, "31.545", "UNKNOWN"),
        ("databento-trades", {"form": "databento-trades"}, "31.545", "UNKNOWN"),
        ("polygon-trades", {"form": "massive-trades"}, "139.02", "UNKNOWN"),
        ("tardis-trades", {"form": "tardis-trades"}, "68000.1", "SELL"),
        ("tardis-quotes", {"form": "tardis-quotes", "data_type": DataType.QUOTES}, "68000.1", None),
        ("taq-trades", {"mapping": EXAMPLES["taq"]}, "191.05", "UNKNOWN"),
        ("kaiko-trades", {"mapping": EXAMPLES["kaiko"]}, "300", "BUY"),
        ("jquants-trades", {"mapping": EXAMPLES["jquants"], "market": "TSE"}, "4810", "UNKNOWN"),
        (
            "lobster-messages",
            {
                "mapping": re.sub(r"date: \{.*\}", "date: {value: 2012-06-21}", EXAMPLES["lobster"]),
                "symbol": "AAPL",
            },
            "223.82",
            "BUY",
        ),
    ],
)
def test_each_file_of_a_vendor_loads_as_it_is_delivered(tmp_path, name, how, price, side):
    text = (DELIVERED / f"{name}.csv").read_text()
    events, rejected, _ = load(tmp_path, text, **how)
    assert rejected == []
    assert len(events) >= 1
    assert events[0].get("price", events[0].get("bid_price")) == Decimal(price)
    assert events[0].get("side") == side


@given(
    st.integers(-(10**17), 10**17).filter(bool),
    st.integers(-8, 0),
)
def test_a_unit_moves_the_point_exactly(tmp_path_factory, count, places):
    value = Decimal(count).scaleb(places)
    if abs(value) >= 10**10:
        return
    mapping = PLAIN.replace("price: p", f"price: {{column: p, unit: 1e{places}}}")
    folder = tmp_path_factory.mktemp("unit")
    events, rejected, _ = load(folder, f"s,t,p,q\nA,1577836800123456,{count},1\n", mapping=mapping)
    if count < 0:
        assert "price is negative" in rejected[0][1]
    else:
        assert events[0]["price"] == value


def test_values_are_taken_as_they_are_written_and_tables_translate_them(tmp_path):
    mapping = (
        PLAIN.replace("symbol: s", "symbol: {column: s, values: {00: NULL-NULL, no: NORWAY}}")
        + 'conditions: {column: c, separator: ",", values: {1: one, on: switch}}\nnulls: ["\\\\N"]\nsequence: n\n'
    )
    text = "s;t;p;q;c;n\n00;1577836800123456;1;1;1,on,x;\\N\nno;1577836800123456;1;1;\\N;5\n"
    events, rejected, _ = load(tmp_path, text, mapping=f'{mapping}delimiter: ";"\n')
    assert rejected == []
    assert [event["symbol"] for event in events] == ["NULL-NULL", "NORWAY"]
    assert [event["trade_conditions"] for event in events] == [["one", "switch", "x"], []]
    assert [event["source_sequence"] for event in events] == [None, 5]


@pytest.mark.parametrize(
    ("form", "text", "moment"),
    [
        ("s", "1577836800.25", (0, 0, 0, 250_000)),
        ("ms", "1577836800000.5", (0, 0, 0, 500)),
        ("'%d-%b-%y %I:%M:%S %p'", "01-Jan-20 01:02:03 PM", (13, 2, 3, 0)),
        ("'%Y%m%d%H%M%S%f'", "20200101010203123456789", (1, 2, 3, 123_456)),
        ("'%m/%d/%Y %H:%M:%S.%f %z'", "1/1/2020 1:02:03 +01:00", (0, 2, 3, 0)),
    ],
)
def test_times_are_read_in_every_form(tmp_path, form, text, moment):
    event = one(tmp_path, f"s,t,p,q\nA,{text},1,1\n", mapping=PLAIN.replace("form: us", f"form: {form}"))
    assert event["timestamp"] == datetime(2020, 1, 1, *moment, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2020-02-30 00:00:00", "timestamp is not a time: found '2020-02-30 00:00:00', expected %Y-%m-%d %H:%M:%S"),
        ("2020-13-01 00:00:00", "timestamp is not a time"),
        ("2020-01-01 24:00:00", "timestamp is not a time"),
        ("", "timestamp is missing"),
        ("2020-03-08 02:30:00", "time does not exist: 2020-03-08 02:30:00 was skipped in America/New_York"),
        ("2020-11-01 01:30:00", "time is ambiguous: 2020-11-01 01:30:00 came twice in America/New_York"),
    ],
)
def test_what_is_no_time_is_rejected_with_its_form(tmp_path, text, reason):
    form = "form: '%Y-%m-%d %H:%M:%S', zone: America/New_York"
    good = "A,2020-01-01 00:00:00,1,1\n"
    events, rejected, _ = load(tmp_path, f"s,t,p,q\n{good}A,{text},1,1\n", mapping=PLAIN.replace("form: us", form))
    assert len(events) == 1
    assert rejected[0][0] == 3
    assert rejected[0][1].startswith(reason)


def test_columns_may_be_told_by_number_in_a_file_without_a_header(tmp_path):
    mapping = "mapping: 1\nname: mine\ndataType: trades\nheader: absent\nsymbol: 4\ntime: {column: 1, form: us}\nprice: 2\nquantity: 3\n"
    assert one(tmp_path, "1577836800123456,7,5,IBM\n", mapping=mapping)["symbol"] == "IBM"
    with pytest.raises(UserError, match="lacks the column 4"):
        load(tmp_path, "1577836800123456,7,5\n", mapping=mapping)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("price: p", "prize: p"), "has a field that no mapping has: found 'prize', expected price"),
        (("price: p", "price: {colum: p}"), "has a field that no mapping has: found 'price.colum', expected column"),
        (("price: p\n", ""), "price is missing: trades need it"),
        (
            ("price: p", "price: {column: p, unit: 0.3}"),
            "price.unit cannot be used: found '0.3', expected a power of ten",
        ),
        (("form: us", "form: minutes"), "time.form.0 cannot be used: found 'minutes', expected iso, s, ms, us, ns"),
        (("form: us", "form: '%Q'"), "directive that K2 does not read: found '%Q'"),
        (
            ("form: us", "form: us, zone: Mars/Olympus"),
            "time.zone cannot be used: found 'Mars/Olympus', expected exchange",
        ),
        (
            ("quantity: q", "quantity: {column: q, value: 5}"),
            "quantity cannot be used, expected one of column, columns, value",
        ),
        (("mapping: 1", "mapping: 2"), "mapping cannot be used: found '2'"),
        (("dataType: trades", "dataType: bars"), "dataType cannot be used: found 'bars'"),
        (("name: mine\n", ""), "lacks name"),
        (("mapping: 1", "mapping: ["), "is no YAML"),
        (("symbol: s", "symbol: s\ncolumns: [s, t, p]"), "column 'q' is not among columns"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_what_was_found_and_expected(change, words):
    with pytest.raises(UserError) as error:
        parse_mappings(PLAIN.replace(*change), "The mapping mine.yaml")
    assert words in str(error.value)
    assert str(error.value).startswith("The mapping mine.yaml")


def test_a_mapping_whose_column_the_file_does_not_have_names_it(tmp_path):
    with pytest.raises(UserError, match=r"lacks the column q: found 's, t, p, size', expected s, t, p, q.*--sniff"):
        load(tmp_path, "s,t,p,size\nA,1577836800123456,1,1\n", mapping=PLAIN)


def test_a_load_by_a_persons_mapping_is_another_load_when_the_mapping_changes(tmp_path):
    (path := tmp_path / "in.csv").write_text("s,t,p,q\nA,1577836800123456,100,1\n")
    first = source(path, mapping=PLAIN).options
    assert source(path, mapping=PLAIN + "about: words\n").options == first
    assert source(path, mapping=PLAIN.replace("price: p", "price: {column: p, unit: 1e-2}")).options != first


FINGERPRINTS = {
    "binance-aggtrades 1 trades": "0ce148c32cec2c15",
    "binance-trades 1 trades": "7f2e546e14b81aa7",
    "databento-trades 1 trades": "49eeaa08eeb5b120",
    "generic 1 trades": "0cebabc3b7d6bc2d",
    "generic 1 quotes": "5598acf2f0e95807",
    "massive-trades 1 trades": "15b52380b5b7d010",
    "tardis-quotes 1 quotes": "db765ebd632c8e4c",
    "tardis-trades 1 trades": "05460e500e3bacf5",
}
"""Of the formats that ship, with their versions. A mapping that means something else is another version: its ledgers begin anew."""


def test_a_format_that_ships_means_what_its_version_meant():
    found = {f"{name} {each.version} {each.data_type}": each.fingerprint for name in SHIPPED for each in shipped(name)}
    assert found == FINGERPRINTS
