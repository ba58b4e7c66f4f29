"""Adjusted answers on a made-up history (a reverse split, a special dividend, a merger), against factors written down by hand."""

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from k2_testing.asking import questions_of
from k2_testing.companies import append_reference, company, dividend, merger, midnight_of, split
from k2_testing.lake import make_lake
from k2_testing.service import problem, serving
from k2_testing.ticks import append_ticks
from prometheus_client import REGISTRY

from k2.model.adjusted import Adjusted
from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Interval
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.requests import At, EventsQuery, SummaryQuery, Window
from k2.query.rows.errors import NotAdjustableError, SnapshotGoneError

SPLITS, ALL = Adjusting(Adjusted.SPLITS), Adjusting(Adjusted.ALL)
REVERSE, SPECIAL, MERGER = "2014-03-05", "2014-03-10", "2014-03-12"  # a Wednesday, a Monday, a Wednesday
# 1 for 10; then 0.50 and a special 2.00 on one date, set against Friday's close of 40; then 3 new shares for 4.
TEN, PAID, MERGED = Fraction(10), 1 - Fraction("2.50") / 40, Fraction(4, 3)
UNITS = {REVERSE: Fraction(1, 10), MERGER: Fraction(3, 4)}


def at_clock(day, clock, price, quantity="100"):
    hours, minutes = map(int, clock.split(":"))
    moment = midnight_of(day) + timedelta(hours=hours, minutes=minutes)
    return {"timestamp": moment, "price": Decimal(price), "quantity": Decimal(quantity)}


TRADES = [
    at_clock("2014-03-04", "10:00", "4.01"),
    at_clock("2014-03-04", "15:59", "4.03", "7"),
    at_clock("2014-03-05", "10:00", "40.2"),
    at_clock("2014-03-07", "10:30", "41"),
    at_clock("2014-03-07", "15:59", "40"),  # the close that the dividends are set against
    at_clock("2014-03-07", "16:10", "39"),  # after the regular session
    at_clock("2014-03-10", "10:00", "37.33"),
    at_clock("2014-03-11", "10:00", "38"),
    at_clock("2014-03-12", "00:00", "50.25"),  # the first instant of the ex-date
    at_clock("2014-03-12", "10:00", "50.5"),
]
PRICES = {  # by hand, what each trade's price is multiplied by
    "splits": [TEN * MERGED] * 2 + [MERGED] * 6 + [Fraction(1)] * 2,
    "all": [TEN * PAID * MERGED] * 2 + [PAID * MERGED] * 4 + [MERGED] * 2 + [Fraction(1)] * 2,
}
QUANTITIES = [UNITS[REVERSE] * UNITS[MERGER]] * 2 + [UNITS[MERGER]] * 6 + [Fraction(1)] * 2


def rounded(amount, factor):
    """As the manual says: the factor to 18 places, the product to 8, each half to even."""
    factor = Fraction(round(factor * 10**18), 10**18)
    return Decimal(round(Fraction(amount) * factor * 10**8)).scaleb(-8)


def by_hand(how, column="price"):
    factors = QUANTITIES if column == "quantity" else PRICES[how]
    return [rounded(trade[column], factor) for trade, factor in zip(TRADES, factors, strict=True)]


def quote_of(trade):
    side = {"bid_quantity": Decimal(300), "ask_quantity": Decimal(500)}
    prices = {"bid_price": trade["price"] - Decimal("0.01"), "ask_price": trade["price"] + Decimal("0.02")}
    return {"timestamp": trade["timestamp"] - timedelta(milliseconds=20)} | side | prices


RECORDS = [
    company("1", "BHP", "2000-01-03"),
    split("1", REVERSE, "0.1"),
    dividend("1", SPECIAL, "0.50"),
    dividend("1", SPECIAL, "2.00"),
    merger("1", MERGER, "0.75"),
    company("2", "RIO", "2000-01-03"),
    dividend("2", "2014-03-11", "1", "USD"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("adjusted")
    lake = make_lake(made, *DataType)
    append_ticks(lake, TRADES)
    append_ticks(lake, [at_clock("2014-03-10", "11:00", "60") | {"symbol": "RIO"}])
    append_ticks(lake, [at_clock("2014-03-10", "11:00", "1") | {"symbol": "UNKNOWN"}])
    append_ticks(lake, [quote_of(trade) for trade in TRADES], DataType.QUOTES)
    append_reference(lake, RECORDS)
    return made


@pytest.fixture(scope="module")
def questions(folder):
    with questions_of(folder) as found:
        yield found


@pytest.mark.parametrize("how", [SPLITS, ALL], ids=lambda how: how.to.value)
def test_trades_are_those_that_the_hand_makes(questions, how):
    found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=how))
    assert found.rows["price"].to_pylist() == by_hand(how.to.value)
    assert found.rows["quantity"].to_pylist() == by_hand(how.to.value, "quantity")
    assert found.rows.schema == questions.events(EventsQuery(DataType.TRADES, ("BHP",))).rows.schema
    factors = found.provenance.factors
    assert factors.events == (2 if how is SPLITS else 4)
    assert [each.table for each in factors.reference.sources] == ["market_data.reference_data"]


def test_a_window_and_a_page_give_the_same_rows_as_the_whole(questions):
    whole = questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=ALL)).rows
    for number, trade in enumerate(TRADES):
        start_us = micros(trade["timestamp"])
        window = Window(start_us, start_us + 1)
        found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=window, adjusted=ALL))
        assert found.rows["price"].to_pylist() == whole["price"].to_pylist()[number : number + 1]
    stream = questions.stream(EventsQuery(DataType.TRADES, ("BHP",), limit=30_000, adjusted=ALL))
    streamed = [price for batch in stream.batches() for price in batch.column("price").to_pylist()]
    assert streamed == whole["price"].to_pylist()


@pytest.mark.parametrize("how", [SPLITS, ALL], ids=lambda how: how.to.value)
def test_a_replay_has_the_factors_of_trades_and_quotes_from_any_cursor_and_after_a_seek(questions, how):
    replay = questions.replay_merged(ReplayQuery(symbols=("BHP",), adjusted=how))
    whole = [row for batch in replay.batches() for row in batch.rows.to_pylist()]
    for kind, column, data_type in (("trade", "price", DataType.TRADES), ("quote", "ask_price", DataType.QUOTES)):
        expected = questions.events(EventsQuery(data_type, ("BHP",), adjusted=how)).rows[column].to_pylist()
        assert [row[column] for row in whole if row["type"] == kind] == expected
    paged, done = [], False
    while not done:
        page, done = replay.page(8)
        paged += page.rows.to_pylist()
        replay = questions.replay_from(Cursor.decode(page.cursor.encode()))
    assert paged == whole
    # From before its window on too: factors that no row of the window needed are needed then.
    late = Window(micros(midnight_of(MERGER)))
    replay = questions.replay_merged(ReplayQuery(symbols=("BHP",), window=late, adjusted=how))
    assert [row for batch in replay.batches() for row in batch.rows.to_pylist()] == whole[-3:]
    sought = replay.from_time(micros(TRADES[0]["timestamp"]))
    assert [row for batch in sought.batches() for row in batch.rows.to_pylist()] == whole[1:]


@pytest.mark.parametrize(
    ("symbols", "how", "said"),
    [
        ((), SPLITS, "adjusted is of named symbols"),
        (("BHP", "UNKNOWN"), SPLITS, "found 'nothing of UNKNOWN on ASX'"),
        (("RIO",), ALL, "in another currency than its trades"),
    ],
)
def test_a_replay_that_cannot_be_adjusted_is_refused_before_it_begins(questions, symbols, how, said):
    with pytest.raises(UserError, match=said):
        questions.replay_merged(ReplayQuery(symbols=symbols, adjusted=how))


@pytest.mark.parametrize("how", [SPLITS, ALL], ids=lambda how: how.to.value)
def test_quotes_have_the_factors_of_trades(questions, how):
    rows = questions.events(EventsQuery(DataType.QUOTES, ("BHP",), adjusted=how)).rows
    raw = [quote_of(trade) for trade in TRADES]
    # The quote before midnight's trade is of the day before.
    factors = [*PRICES[how.to.value][:8], PRICES[how.to.value][7], PRICES[how.to.value][9]]
    for side in ("bid_price", "ask_price"):
        assert rows[side].to_pylist() == [rounded(each[side], f) for each, f in zip(raw, factors, strict=True)]
    assert rows["bid_quantity"][0].as_py() == rounded(300, QUANTITIES[0])


def test_bars_and_summaries_are_folded_of_adjusted_trades(questions):
    prices, quantities = by_hand("all"), by_hand("all", "quantity")
    days = Dates(date(2014, 3, 4), date(2014, 3, 12))
    bars = questions.bars(BarsQuery(("BHP",), Interval.DAY, period=days, adjusted=ALL)).rows.to_pylist()
    assert [bar["date"].day for bar in bars] == [4, 5, 7, 10, 11, 12]
    friday = bars[2]
    assert (friday["open"], friday["high"], friday["low"], friday["close"]) == (
        prices[3],
        prices[3],
        prices[5],
        prices[5],
    )
    assert friday["volume"] == sum(quantities[3:6])
    found = questions.summary(SummaryQuery("BHP", date(2014, 3, 4), adjusted=ALL))
    assert (found.open, found.close, found.volume) == (prices[0], prices[1], sum(quantities[:2]))
    notional = sum(p * q for p, q in zip(prices[:2], quantities[:2], strict=True))
    assert abs(found.vwap - notional / sum(quantities[:2])) < Decimal("1e-8")
    assert found.provenance.factors.events == 4
    regular = questions.summary(SummaryQuery("BHP", date(2014, 3, 7), session=Session.REGULAR, adjusted=ALL))
    assert regular.close == prices[4]


def test_trades_are_joined_with_quotes_adjusted_alike(questions):
    plain = questions.asof(AsofQuery(("BHP",))).rows.to_pylist()
    rows = questions.asof(AsofQuery(("BHP",), adjusted=ALL)).rows.to_pylist()
    assert [row["price"] for row in rows] == by_hand("all")
    for row, before, factor in zip(rows, plain, PRICES["all"], strict=True):
        assert row["inferred_side"] == before["inferred_side"]
        if before["bid_price"] is not None:
            assert row["bid_price"] == rounded(before["bid_price"], factor)
            assert row["spread"] == row["ask_price"] - row["bid_price"]


def test_what_is_asked_after_the_last_change_is_as_it_was_traded(questions):
    start = Window(micros(midnight_of(MERGER)))
    found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=start, adjusted=ALL))
    assert found.rows == questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=start)).rows
    assert found.provenance.factors.events == 0


@pytest.mark.parametrize(
    ("symbols", "how", "said"),
    [
        (("RIO",), ALL, "The dividend of RIO with ex-date 2014-03-11 is in another currency than its trades: found '1 USD'"),
        (("BHP", "UNKNOWN"), SPLITS, "There is no reference data to adjust by: found 'nothing of UNKNOWN on ASX'"),
        ((), SPLITS, "adjusted is of named symbols"),
    ],
)  # fmt: skip
def test_what_cannot_be_adjusted_is_refused_with_the_reason(questions, symbols, how, said):
    with pytest.raises(NotAdjustableError, match=said):
        questions.events(EventsQuery(DataType.TRADES, symbols, adjusted=how))
    if symbols == ("RIO",):
        assert questions.events(EventsQuery(DataType.TRADES, symbols, adjusted=SPLITS)).rows.num_rows == 1
        later = Window(micros(midnight_of("2014-03-11")))
        assert questions.events(EventsQuery(DataType.TRADES, symbols, window=later, adjusted=ALL)).rows.num_rows == 0


def test_without_reference_data_it_says_what_to_load(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES)
    append_ticks(lake, TRADES)
    with questions_of(tmp_path) as questions:
        with pytest.raises(UserError, match=r"There is no reference data to adjust by.*k2 load reference-data"):
            questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=SPLITS))
        make_lake(tmp_path, *DataType)
        with pytest.raises(UserError, match=r"found 'market_data.reference_data is empty'.*k2 load reference-data"):
            questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=SPLITS))


def test_factors_are_those_that_were_known_at_the_snapshot(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, TRADES[:1])
    with questions_of(tmp_path) as questions:

        def price(**at):
            query = EventsQuery(DataType.TRADES, ("BHP",), at=At(**at), adjusted=SPLITS)
            return questions.events(query).rows["price"][0].as_py()

        first = append_reference(lake, [company("1", "BHP", "2000-01-03"), split("1", REVERSE, "0.1")])
        known = snapshot_us(lake, first)
        append_reference(lake, [split("1", REVERSE, "0.2")], days=1)
        assert (price(), price(as_of_us=known)) == (Decimal("20.05"), Decimal("40.1"))
        trades = lake.load_table("market_data.trades").current_snapshot().snapshot_id
        with pytest.raises(SnapshotGoneError, match="No reference data is kept of then"):
            price(snapshot=trades)  # when it was made nothing was known of splits


def snapshot_us(lake, snapshot_id):
    return lake.load_table("market_data.reference_data").snapshot_by_id(snapshot_id).timestamp_ms * 1000


def test_where_the_day_before_had_no_regular_session_the_close_is_the_last_there_was(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, [at_clock("2014-03-06", "11:00", "20"), at_clock("2014-03-07", "16:30", "30")])
    append_ticks(lake, [at_clock("2014-03-07", "16:30", "30") | {"symbol": "LATE"}])
    append_ticks(lake, [at_clock("2014-02-03", "11:00", "20") | {"symbol": "GONE"}])
    append_reference(lake, [dividend(name, SPECIAL, "5", symbol=name) for name in ("BHP", "LATE", "GONE")])
    with questions_of(tmp_path) as questions:
        found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=ALL))
        assert found.rows["price"].to_pylist() == [rounded(20, Fraction(3, 4)), rounded(30, Fraction(3, 4))]
        late = questions.events(EventsQuery(DataType.TRADES, ("LATE",), adjusted=ALL))
        assert late.rows["price"].to_pylist() == [rounded(30, Fraction(25, 30))]
        with pytest.raises(UserError, match="found 'no trade of it on ASX within 10 dates before'"):
            questions.events(EventsQuery(DataType.TRADES, ("GONE",), adjusted=ALL))


def test_the_close_of_a_snapshot_is_read_once_and_another_snapshot_has_its_own(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, [at_clock("2014-03-07", "11:00", "20")])
    append_reference(lake, [dividend("1", SPECIAL, "5", symbol="BHP")])
    with questions_of(tmp_path) as questions:

        def asked():
            """The first price, and how many statements looked for closes."""
            before = closes_read()
            price = questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=ALL)).rows["price"][0].as_py()
            return price, closes_read() - before

        def closes_read():
            return REGISTRY.get_sample_value("k2_query_scan_duration_seconds_count", {"query": "closes"}) or 0

        assert asked() == (Decimal(15), 1)
        assert asked() == (Decimal(15), 0)
        append_ticks(lake, [at_clock("2014-03-07", "15:00", "10")])
        assert asked() == (Decimal(10), 1), "20 less half of it"
        assert asked() == (Decimal(10), 0)


def test_what_its_column_does_not_hold_is_refused_and_never_cut(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, [at_clock("2014-03-04", "11:00", "9999999999")])
    append_reference(lake, [split("1", REVERSE, "0.1", symbol="BHP")])
    with questions_of(tmp_path) as questions, pytest.raises(UserError, match="more digits than its column"):
        questions.events(EventsQuery(DataType.TRADES, ("BHP",), adjusted=SPLITS))


def test_over_rest_with_pages_that_stay_with_what_was_known_first(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, TRADES)
    append_ticks(lake, [quote_of(trade) for trade in TRADES], DataType.QUOTES)
    append_reference(lake, RECORDS)
    with serving(tmp_path) as client:
        asked = {"symbol": "BHP", "adjusted": "all", "fields": "price", "limit": 4}
        first = client.get("/v1/trades", params=asked)
        body = first.json()
        assert "etag" not in first.headers
        assert {name: body["adjusted"][name] for name in ("to", "events")} == {"to": "all", "events": 4}
        assert body["adjusted"]["sources"][0]["table"] == "market_data.reference_data"
        assert list(body["calendars"]) == ["ASX"], "by whose days an ex-date begins"
        append_reference(lake, [split("1", REVERSE, "0.5")], days=1)
        prices = [row["price"] for row in body["data"]]
        page = body
        while page["next_page"]:
            page = client.get("/v1/trades", params={"page_token": page["next_page"], "limit": 4}).json()
            prices += [row["price"] for row in page["data"]]
        assert [Decimal(price) for price in prices] == by_hand("all")
        again = client.post(
            "/v1/trades/query", json={"symbols": ["BHP"], "adjusted": "all", "fields": ["price"]}
        ).json()
        assert Decimal(again["data"][0]["price"]) == rounded(TRADES[0]["price"], 2 * PAID * MERGED)
        other = {"page_token": body["next_page"], "symbol": "BHP", "adjusted": "splits"}
        said = problem(client.get("/v1/trades", params=other), 400)["detail"]
        assert said.startswith("page_token is of another question: adjusted differs: found 'splits', expected all")
        day = client.get("/v1/summary/BHP/2014-03-12", params={"adjusted": "all"}).json()
        assert (day["adjusted"]["events"], day["open"]) == (0, "50.25000000")
        for path in ("/v1/bars/BHP?interval=1d&", "/v1/asof?symbol=BHP&", "/v1/quotes?symbol=BHP&"):
            assert client.get(f"{path}adjusted=splits").json()["adjusted"]["events"] == 2, path
        problem(client.get("/v1/trades", params={"symbol": "BHP", "adjusted": "never"}), 422)


def test_a_replay_over_rest_and_its_stream_stay_with_what_was_known_first(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_ticks(lake, TRADES)
    first = append_reference(lake, RECORDS)
    with serving(tmp_path) as client:
        asked = {"symbols": ["BHP"], "tables": ["trades"], "adjusted": "all"}
        page = client.post("/v1/replay", json=asked | {"limit": 4}).json()
        assert page["adjusted"]["to"] == "all"
        version = client.get("/v1/calendar/ASX").json()["version"]
        assert page["calendars"] == {"ASX": f"XASX {version}"}
        assert page["adjusted"]["tables"]["reference_data"] == {"market_data.reference_data": str(first)}
        append_reference(lake, [split("1", REVERSE, "0.5")], days=1)
        prices = [row["price"] for row in page["data"]]
        with client.websocket_connect("/v1/stream") as talk:
            talk.send_json({"type": "start", "cursor": page["cursor"]})
            while (message := talk.receive_json())["type"] != "end":
                prices += [row["price"] for row in message.get("rows", ())]
        assert [Decimal(price) for price in prices] == by_hand("all")
        with client.websocket_connect("/v1/stream") as talk:
            talk.send_json({"type": "start", "tables": ["trades"], "adjusted": "splits"})
            assert "adjusted is of named symbols" in talk.receive_json()["detail"]
        with_cursor = {"cursor": page["cursor"], "adjusted": "all"}
        said = problem(client.post("/v1/replay", json=with_cursor), 400)["detail"]
        assert said == "A cursor is given with what it says itself: found 'adjusted', expected the cursor alone."
