"""BHP's bars and as-of join of 10 to 14 March 2014, loaded as the platform loads them, beside SQL straight on the vendor's files."""

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import duckdb
import pytest
from k2_testing.asking import questions_of
from k2_testing.lake import make_lake
from k2_testing.real_ticks import BHP, append_bhp, needs_real_ticks

from k2.model.exchanges import Session
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Interval
from k2.query.asked.profiles import with_profile
from k2.query.asked.requests import SummaryQuery

TRADES, QUOTES = BHP[DataType.TRADES], BHP[DataType.QUOTES]
ZONE = ZoneInfo("Australia/Sydney")
DAYS = [date(2014, 3, number) for number in range(10, 15)]
SECONDS = {Interval.MINUTE: 60, Interval.QUARTER: 900, Interval.HOUR: 3600}

pytestmark = needs_real_ticks


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    catalog = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    append_bhp(catalog, DataType.TRADES)
    append_bhp(catalog, DataType.QUOTES)
    with questions_of(folder) as found:
        yield found


@pytest.fixture(scope="module")
def lines():
    """The vendor's lines: in SQL, with local time and the number of the line."""
    connection = duckdb.connect()
    for name, path, figures in (
        ("trades", TRADES, ("price", "volume")),
        ("quotes", QUOTES, ("bid", "ask", "bid_volume", "ask_volume")),
    ):
        columns = {"day": "VARCHAR", "clock": "VARCHAR"} | dict.fromkeys(figures, "DECIMAL(18, 8)")
        if name == "trades":
            columns |= dict.fromkeys("abc", "VARCHAR")
        connection.execute(f"""
            CREATE TABLE {name} AS
            SELECT strptime(day || ' ' || clock, '%m/%d/%Y %H:%M:%S.%g') AS moment, * EXCLUDE (day, clock)
            FROM (SELECT *, row_number() OVER () AS line
                  FROM read_csv('{path}', header = false, parallel = false, columns = {columns}))""")
    return connection


def straight_bars(lines, day, session, seconds):
    """Figures of each bucket by its local start, in SQL; a bucket of a day is the whole session."""
    first, last = (time(10), time(16)) if session is Session.REGULAR else (time(0), time(23, 59, 59, 999_999))
    bucket = "DATE_TRUNC('day', moment)" if seconds is None else f"TIME_BUCKET(INTERVAL '{seconds} seconds', moment)"
    close = "<" if session is Session.REGULAR else "<="
    rows = lines.execute(
        f"""
        SELECT {bucket} AS start, arg_min(price, (moment, line)) AS open, max(price) AS high, min(price) AS low,
               arg_max(price, (moment, line)) AS close, sum(volume) AS volume, count(*) AS trade_count,
               sum(price::DECIMAL(28, 8) * volume) AS notional
        FROM trades WHERE moment::DATE = ? AND moment::TIME >= ? AND moment::TIME {close} ? GROUP BY 1 ORDER BY 1""",
        [day, first, last],
    ).to_arrow_table()
    return rows.to_pylist()


def rounded(value):
    return Fraction(round(value * 10**8), 10**8)


@pytest.mark.parametrize("session", Session)
@pytest.mark.parametrize("interval", [*SECONDS, Interval.DAY])
@pytest.mark.parametrize("day", DAYS)
def test_bars_equal_sql_straight_on_the_file(questions, lines, day, interval, session):
    query = BarsQuery(("BHP",), interval, period=Dates(day, day), session=session)
    found = questions.bars(query).rows.to_pylist()
    expected = straight_bars(lines, day, session, SECONDS.get(interval))
    assert len(found) == len(expected)
    for bar, row in zip(found, expected, strict=True):
        if interval is not Interval.DAY:
            assert bar["start"].astimezone(ZONE).replace(tzinfo=None) == row["start"]
        for name in ("open", "high", "low", "close", "volume", "trade_count"):
            assert bar[name] == row[name], (bar["start"], name)
        assert bar["vwap"] == rounded(Fraction(row["notional"]) / Fraction(row["volume"]))


@pytest.mark.parametrize("session", Session)
@pytest.mark.parametrize("day", DAYS)
def test_a_days_bar_equals_the_summary(questions, day, session):
    (bar,) = questions.bars(BarsQuery(("BHP",), Interval.DAY, period=Dates(day, day), session=session)).rows.to_pylist()
    summary = questions.summary(SummaryQuery("BHP", day, session=session))
    for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count"):
        assert bar[name] == getattr(summary, name), name


@pytest.mark.parametrize("seconds", [60, 3600])
@pytest.mark.parametrize("day", DAYS)
def test_twap_is_the_last_price_walked_through_second_by_second(questions, lines, day, seconds):
    opens = datetime.combine(day, time(10))
    closes = datetime.combine(day, time(16))
    ticks = lines.execute(
        "SELECT moment, price FROM trades WHERE moment >= ? AND moment < ? ORDER BY moment, line", [opens, closes]
    ).fetchall()
    area, length = defaultdict(Fraction), defaultdict(Fraction)
    width = timedelta(seconds=seconds)
    for (moment, price), until in zip(ticks, [*(moment for moment, _ in ticks[1:]), closes], strict=True):
        at = moment
        while at < until:
            start = opens + (at - opens) // width * width
            step = min(until, start + width) - at
            area[start] += Fraction(price) * (step // timedelta(microseconds=1))
            length[start] += step // timedelta(microseconds=1)
            at += step
    interval = Interval.MINUTE if seconds == 60 else Interval.HOUR
    query = BarsQuery(("BHP",), interval, period=Dates(day, day), session=Session.REGULAR)
    for bar in questions.bars(query).rows.to_pylist():
        start = bar["start"].astimezone(ZONE).replace(tzinfo=None)
        assert bar["twap"] == rounded(area[start] / length[start]), start


def test_every_trade_has_the_quote_that_an_asof_join_of_the_files_gives(questions, lines):
    found = questions.asof(AsofQuery(("BHP",), limit=100_000)).rows
    expected = lines.execute("""
        WITH last_of_instant AS (
            SELECT moment, moment::DATE AS day, arg_max({'bid': bid, 'ask': ask}, line) AS quote FROM quotes GROUP BY ALL
        ), dated AS (SELECT *, moment::DATE AS day FROM trades)
        SELECT t.moment, t.price, nullif(q.quote.bid, 0) AS bid, nullif(q.quote.ask, 0) AS ask
        FROM dated t ASOF LEFT JOIN last_of_instant q ON t.day = q.day AND t.moment > q.moment
        ORDER BY t.moment, t.line""").fetchall()
    assert found.num_rows == len(expected) == 91_631
    previous: dict[date, list] = {}
    rows = found.select(["timestamp", "price", "bid_price", "ask_price", "inferred_side"]).to_pylist()
    for row, (moment, price, bid, ask) in zip(rows, expected, strict=True):
        assert row["timestamp"].astimezone(UTC) == moment.replace(tzinfo=ZONE).astimezone(UTC)
        assert (row["price"], row["bid_price"], row["ask_price"]) == (price, bid, ask), moment
        last, sign = previous.get(moment.date(), (price, 0))
        sign = sign if price == last else 1 if price > last else -1
        previous[moment.date()] = [price, sign]
        told = 0
        if bid is not None and ask is not None and bid <= ask:
            against = 2 * price - bid - ask
            told = sign if against == 0 else 1 if against > 0 else -1
        assert row["inferred_side"] == {1: "BUY", -1: "SELL", 0: "UNKNOWN"}[told], moment


def test_on_the_market_the_week_looks_as_it_did(questions, lines):
    """The vendor marks what was not traded on the market by its venue, X, and by the conditions 1, 3 and 9; never one alone."""
    assert lines.execute("SELECT DISTINCT a FROM trades WHERE b = 'X' ORDER BY a").fetchall() == [
        ("1",),
        ("3",),
        ("9",),
    ]
    assert lines.execute("SELECT count(*) FROM trades WHERE a IN ('1', '3', '9') AND b IS NULL").fetchone() == (0,)
    on_market = with_profile((), "on_market", Session.ALL, "ASX", (DataType.TRADES,))
    straight = lines.execute("""
        SELECT arg_min(price, (moment, line)), max(price), min(price), arg_max(price, (moment, line)), sum(volume), count(*)
        FROM trades WHERE b IS NULL GROUP BY moment::DATE ORDER BY moment::DATE""").fetchall()
    asked = [SummaryQuery("BHP", day, "ASX", prints=on_market) for day in DAYS]
    found = [questions.summary(each) for each in asked]
    assert [(each.open, each.high, each.low, each.close, each.volume, each.trade_count) for each in found] == straight
    every = questions.summary(SummaryQuery("BHP", DAYS[1], "ASX"))
    assert (every.open, every.high) == (40, 42)
    assert (found[1].open, found[1].high) == (Decimal("35.95"), Decimal("36.45"))
    bars = questions.bars(BarsQuery(("BHP",), Interval.DAY, period=Dates(DAYS[0], DAYS[-1]), prints=on_market)).rows
    assert bars["high"].to_pylist() == [each.high for each in found]
