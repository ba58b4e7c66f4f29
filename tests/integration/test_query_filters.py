"""Filters on trades: an answer with one is the answer about only those trades, over every question and every way to ask."""

import random
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.asking import questions_of
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.service import problem, serving
from k2_testing.ticks import OPEN, append_ticks, trade

import k2
from k2.model import exchanges
from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.exchanges import Session
from k2.model.prints import PrintFilter
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Empty, Interval
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.events.replay import Replay
from k2.query.rows.errors import NotFoundError

DAY = date(2014, 3, 10)
CODES = ("0", "1", "3", "XT")
SIDES = ("BUY", "SELL", "UNKNOWN")
ROWS = 400


def drawn_ticks():
    """Trades of BHP over two dates with many ties, in conditions, sides, prices and sizes of few values."""
    chance = random.Random(7)
    return [
        trade(
            chance.randrange(0, 5_000) + 86_400 * (n % 5 == 0),
            str(Decimal(chance.randrange(1, 9)) / 2),
            str(chance.randrange(1, 9) * 100),
            side=chance.choice(SIDES),
            trade_conditions=chance.sample(CODES, chance.randrange(3)),
            source_sequence=chance.choice([None, 1, 2]),
            trade_id=f"T{n}",
        )
        for n in range(ROWS)
    ]


TICKS = drawn_ticks()
QUOTES = [
    {"timestamp": OPEN + timedelta(seconds=n * 20), "bid_price": Decimal(n % 4 + 1), "ask_price": Decimal(n % 4 + 2)}
    for n in range(300)
]


@pytest.fixture(scope="module")
def lake_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filters")
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    for start in range(0, ROWS, ROWS // 4):
        append_ticks(lake, TICKS[start : start + ROWS // 4])
    append_ticks(lake, QUOTES, DataType.QUOTES)
    return folder


@pytest.fixture(scope="module")
def questions(lake_folder):
    with questions_of(lake_folder) as found:
        yield found


@pytest.fixture(scope="module")
def client(lake_folder):
    with serving(lake_folder) as found:
        yield found


def lets_through(which, row):
    """The filter in Python."""
    codes = set(row["trade_conditions"])
    return (
        (not which.conditions or bool(codes & set(which.conditions)))
        and not codes & set(which.exclude_conditions)
        and which.side in (None, row["side"])
        and (which.min_quantity is None or row["quantity"] >= which.min_quantity)
        and (which.max_quantity is None or row["quantity"] <= which.max_quantity)
        and (which.min_price is None or row["price"] >= which.min_price)
        and (which.max_price is None or row["price"] <= which.max_price)
    )


@st.composite
def filters(draw):
    codes = draw(st.permutations(CODES))
    some, none = draw(st.integers(0, 2)), draw(st.integers(2, 3))
    halves = st.none() | st.integers(0, 18).map(lambda n: Decimal(n) / 4)
    hundreds = st.none() | st.integers(0, 9).map(lambda n: Decimal(n * 100))
    made = {
        "conditions": tuple(codes[:some]),
        "exclude_conditions": tuple(codes[none : draw(st.integers(none, 4))]),
        "side": draw(st.none() | st.sampled_from(SIDES)),
    }
    for of, bounds in (("price", halves), ("quantity", hundreds)):
        least, most = draw(bounds), draw(bounds)
        if least is not None and most is not None:
            least, most = sorted((least, most))
        made |= {f"min_{of}": least, f"max_{of}": most}
    return PrintFilter(**made)


def ids(rows):
    return rows.column("trade_id").to_pylist()


@settings(max_examples=sized(6, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(filters(), st.integers(30, 120), st.integers(0, 4_000))
def test_filtered_inside_is_filtered_afterwards(questions, which, limit, start):
    prints = (which,) if which else ()
    window = Window(micros(OPEN) + start * 1_000_000)
    everything = questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=window, limit=ROWS)).rows
    wanted = [row["trade_id"] for row in everything.to_pylist() if lets_through(which, row)]

    asked = EventsQuery(DataType.TRADES, ("BHP",), window=window, limit=limit, prints=prints)
    paged, after = [], ()
    while True:
        page = questions.events(replace(asked, after=after))
        paged += ids(page.rows)
        if not page.more:
            break
        after = page.last
    assert paged == wanted
    few = questions.events(replace(asked, fields=("trade_id",), symbols=()))  # no other column is asked for
    assert ids(few.rows) == wanted[:limit]
    stream = questions.stream(replace(asked, limit=ROWS), batch_rows=7)
    assert [each for batch in stream.batches() for each in batch.column("trade_id").to_pylist()] == wanted

    joined = questions.asof(AsofQuery(("BHP",), window=window, limit=ROWS)).rows
    kept = joined.filter(pa.array([lets_through(which, row) for row in joined.to_pylist()], pa.bool_()))
    found = questions.asof(AsofQuery(("BHP",), window=window, limit=limit, prints=prints))
    assert found.rows.to_pylist() == kept.slice(0, limit).to_pylist()
    assert found.more == (kept.num_rows > limit)

    replayed = questions.replay_merged(ReplayQuery(symbols=("BHP",), window=window, prints=prints))
    rows = [row for batch in replayed.batches() for row in batch.rows.to_pylist()]
    assert [row["trade_id"] for row in rows if row["type"] == "trade"] == wanted
    assert sum(row["type"] == "quote" for row in rows) == sum(
        micros(quote["timestamp"]) >= window.start_us for quote in QUOTES
    )


@settings(max_examples=sized(4, 60), deadline=None, suppress_health_check=list(HealthCheck))
@given(which=filters())
def test_what_is_added_up_is_of_those_trades_alone(tmp_path_factory, questions, which):
    folder = tmp_path_factory.mktemp("alone")
    lake = make_lake(folder)
    left = [row for row in TICKS if lets_through(which, row)]
    append_ticks(lake, left)
    prints = (which,) if which else ()
    with questions_of(folder) as alone:
        for query in (
            BarsQuery(("BHP",), Interval.MINUTE, "ASX", limit=ROWS),
            BarsQuery(("BHP",), Interval.HOUR, "ASX", Dates(DAY, DAY), Session.REGULAR),
            BarsQuery(("BHP",), Interval.DAY, "ASX", Dates(DAY, DAY + timedelta(days=1))),
        ):
            assert questions.bars(replace(query, prints=prints)).rows == alone.bars(query).rows
        filled = BarsQuery(("BHP",), Interval.QUARTER, "ASX", Dates(DAY, DAY), Session.REGULAR, Empty.CARRY)
        if left:
            assert questions.bars(replace(filled, prints=prints)).rows == alone.bars(filled).rows
        for session in Session:
            asked = SummaryQuery("BHP", DAY, "ASX", session=session)
            try:
                wanted = alone.summary(asked)
            except NotFoundError:
                with pytest.raises(NotFoundError, match="on 2014-03-10 that the filter lets through" if prints else ""):
                    questions.summary(replace(asked, prints=prints))
            else:
                found = questions.summary(replace(asked, prints=prints))
                assert replace(found, provenance=wanted.provenance) == wanted


def test_a_replay_goes_on_with_its_filter_from_the_cursor_of_any_row(questions):
    which = (PrintFilter(exclude_conditions=("3",), min_price=Decimal("1.5")),)
    whole = questions.replay_merged(ReplayQuery((DataType.TRADES,), prints=which))
    batches = list(Replay(questions._planner, questions._engine, whole.start, batch_rows=16).batches())
    wanted = [row["trade_id"] for batch in batches for row in batch.rows.to_pylist()]
    assert 0 < len(wanted) < ROWS
    token = batches[3].slice(0, 5).cursor.encode()
    rest = questions.replay_from(Cursor.decode(token))
    assert [row["trade_id"] for batch in rest.batches() for row in batch.rows.to_pylist()] == wanted[3 * 16 + 5 :]


def test_an_answer_says_which_trades_count(questions):
    which = (PrintFilter(exclude_conditions=("3",), min_quantity=Decimal("100.50")),)
    asked = EventsQuery(DataType.TRADES, ("BHP",), prints=which)
    assert questions.events(asked).provenance.prints == which
    nothing = replace(asked, prints=(PrintFilter(min_price=Decimal(10**30)),))
    assert questions.events(nothing).note.startswith("No trades match the filter; the table reaches from 2014-03-09")
    assert questions.events(replace(asked, prints=())).provenance.prints == ()


# --- over REST -------------------------------------------------------------------------------------------------------

ASKED = {"exclude_conditions": ["3", "XT"], "side": "BUY", "min_quantity": "200", "max_price": "3.5"}
WHICH = PrintFilter((), ("3", "XT"), "BUY", Decimal(200), None, None, Decimal("3.5"))
KEPT = sum(lets_through(WHICH, row) for row in TICKS)


def test_every_route_about_trades_takes_the_filter_and_tells_it(client):
    assert 10 < KEPT < ROWS
    params = {"symbol": "BHP", **ASKED}
    body = {"symbols": ["BHP"], **ASKED}
    snapshot = client.get("/v1/snapshots").json()
    first = snapshot["data"][-1]["snapshot_id"]
    of_first = sum(lets_through(WHICH, row) for row in TICKS[: ROWS // 4])
    found = {
        "get": client.get("/v1/trades", params=params),
        "commas": client.get("/v1/trades?symbol=BHP&exclude_conditions=3,XT&side=BUY&min_quantity=200&max_price=3.5"),
        "post": client.post("/v1/trades/query", json=body),
        "numbers": client.post("/v1/trades/query", json=body | {"min_quantity": 200, "exclude_conditions": [3, "XT"]}),
        "asof": client.get("/v1/asof", params=params),
        "snapshot": client.post(f"/v1/snapshots/{snapshot['current_snapshot_id']}/query", json=body),
    }
    for name, reply in found.items():
        said = reply.json()
        assert (said["count"], said["filter"]) == (KEPT, ASKED), name
    diff = client.get("/v1/snapshots/diff", params={"from": first, **ASKED}).json()
    assert (diff["count"], diff["filter"]) == (KEPT - of_first, ASKED)
    bars = [
        client.get("/v1/bars/BHP", params={"interval": "1d", **ASKED}),
        client.get("/v1/bars", params={"interval": "1d", **params}),
        client.post("/v1/aggregations", json={"interval": "1d", **body}),
    ]
    for reply in bars:
        assert (sum(row["trade_count"] for row in reply.json()["data"]), reply.json()["filter"]) == (KEPT, ASKED)
    days = [client.get(f"/v1/summary/BHP/2014-03-1{n}", params=ASKED).json() for n in (0, 1)]
    assert sum(day["trade_count"] for day in days) == KEPT
    assert days[0]["filter"] == ASKED
    named = client.get("/v1/summary", params={"date": "2014-03-10", **params}).json()
    assert named["trade_count"] == days[0]["trade_count"]
    page = client.post("/v1/replay", json={**body, "tables": ["trades"]}).json()
    assert (page["count"], page["filter"]) == (KEPT, ASKED)
    assert "filter" not in client.get("/v1/trades?symbol=BHP").json()
    rows = client.get("/v1/trades", params=params | {"format": "csv"})
    assert (
        rows.headers["K2-Filter"]
        == '{"exclude_conditions":["3","XT"],"side":"BUY","min_quantity":"200","max_price":"3.5"}'
    )
    assert '"filter":{"exclude_conditions"' in rows.headers["K2-Sources"]


def test_the_stream_plays_the_filtered_trades(client):
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"type": "start", "tables": ["trades"], "symbols": ["BHP"], "batch_rows": 1_000, **ASKED})
        started = socket.receive_json()
        assert started["filter"] == ASKED
        rows = []
        while (said := socket.receive_json())["type"] != "end":
            rows += said.get("rows", [])
    assert (len(rows), {row["side"] for row in rows}) == (KEPT, {"BUY"})
    with client.websocket_connect("/v1/stream") as socket:  # a cursor brings its filter along
        socket.send_json({"type": "start", "cursor": started["cursor"]})
        assert socket.receive_json()["filter"] == ASKED
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"type": "start", "cursor": started["cursor"], "side": "SELL"})
        assert socket.receive_json()["detail"].startswith("A cursor is given with what it says itself: found 'side'")


def test_pages_go_on_with_the_filter_and_no_other(client):
    first = client.get("/v1/trades", params={"symbol": "BHP", "limit": 7, **ASKED}).json()
    alone = client.get("/v1/trades", params={"page_token": first["next_page"], "limit": 1_000}).json()
    assert (first["count"] + alone["count"], alone["filter"]) == (KEPT, ASKED)
    again = {"symbol": "BHP", "page_token": first["next_page"], "limit": 1_000, **ASKED}
    assert client.get("/v1/trades", params=again).json()["data"] == alone["data"]
    other = problem(client.get("/v1/trades", params=again | {"side": "SELL"}), 400)
    assert other["detail"].startswith(
        "page_token is of another question: prints differs: found \"{'exclude_conditions'"
    )
    without = client.get("/v1/trades?symbol=BHP&limit=7").json()["next_page"]
    problem(client.get("/v1/trades", params={"page_token": without, "side": "BUY"}), 400)


def test_a_validator_is_of_the_filter_too(client):
    plain = client.get("/v1/trades?symbol=BHP&hybrid=false")
    tag = {"If-None-Match": plain.headers["ETag"]}
    assert client.get("/v1/trades?symbol=BHP&hybrid=false", headers=tag).status_code == 304
    assert client.get("/v1/trades?symbol=BHP&hybrid=false&side=BUY", headers=tag).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/v1/quotes?symbol=BHP&side=BUY", 400, "quotes cannot be filtered by side: found 'no column side', expected trades"),
        ("/v1/quotes?symbol=BHP&min_price=1", 400, "quotes cannot be filtered by min_price: found 'no column price'"),
        ("/v1/snapshots/diff?table=quotes&from=1&conditions=3", 400, "quotes cannot be filtered by conditions"),
        ("/v1/trades?symbol=BHP&side=buy", 422, "side cannot be used: input should be 'BUY', 'SELL', 'SELL_SHORT' or "),
        ("/v1/trades?symbol=BHP&min_price=36,75", 400, "min_price is not a number: found '36,75', expected a decimal"),
        ("/v1/trades?symbol=BHP&conditions=", 400, "conditions names no code, expected one or more"),
        ("/v1/bars/BHP?min_price=2&max_price=1", 400, "The bounds of price are reversed"),
        ("/v1/trades?symbol=BHP&exclude_condition=3", 422, "exclude_condition is not a parameter of this route"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_says_why(client, path, status, detail):
    assert problem(client.get(path), status)["detail"].startswith(detail)


# --- from Python -----------------------------------------------------------------------------------------------------


def test_python_asks_the_same_of_a_catalog(lake_folder):
    options = {"exclude_conditions": [3, "XT"], "side": "BUY", "min_quantity": 200, "max_price": 3.5}
    with k2.connect(catalog=catalog_properties(lake_folder)) as db:
        assert db.trades("BHP", **options).arrow().num_rows == KEPT
        assert db.asof("BHP", **options).arrow().num_rows == KEPT
        assert sum(db.bars("BHP", interval="1d", **options).arrow()["trade_count"].to_pylist()) == KEPT
        assert sum(db.summary("BHP", f"2014-03-1{n}", **options).trade_count for n in (0, 1)) == KEPT
        with db.replay("BHP", tables=["trades"], **options) as play:
            assert sum(batch.num_rows for batch in play) == KEPT
        answer = db.trades("BHP", exclude_conditions="3")
        assert answer.envelope["filter"] == {"exclude_conditions": ["3"]}
        with pytest.raises(TypeError, match="There is no option exclude_condition"):
            db.trades("BHP", exclude_condition="3")
        with pytest.raises(UserError, match="min_price is not a number"):
            db.trades("BHP", min_price=float("nan"))


# --- profiles --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """BHP on the ASX from an hour before it opens, with prints from off the market, and two of IBM on the NYSE."""
    folder = tmp_path_factory.mktemp("profiles")
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    prices = [(-3_600, "40", ["1"]), (-3_000, "35", []), (0, "37", []), (120, "36", ["2"]), (150, "42", ["XT", "3"])]
    append_ticks(lake, [trade(s, price, trade_conditions=codes) for s, price, codes in prices])
    append_ticks(lake, [trade(180, "36.5"), trade(200, "36.25", trade_conditions=["9"])])
    ibm = {"symbol": "IBM", "exchange": "NYSE", "trade_conditions": ["3"]}
    append_ticks(lake, [trade(16 * 3_600, "180", **ibm), trade(16 * 3_600 + 1, "181", **ibm)])
    append_ticks(lake, [{"timestamp": OPEN, "bid_price": Decimal(36), "ask_price": Decimal(37)}], DataType.QUOTES)
    with serving(folder) as found:
        yield found


ON_MARKET = {"ASX": {"name": "on_market", "exclude_conditions": ["1", "3", "9"]}}


def test_the_day_of_the_market_is_not_that_of_all_prints(market):
    asked = "/v1/summary/BHP/2014-03-10"
    day = market.get(asked).json()
    assert (Decimal(day["open"]), Decimal(day["high"]), "profile" in day) == (40, 42, False)
    day = market.get(f"{asked}?profile=on_market").json()
    assert (Decimal(day["open"]), Decimal(day["high"]), day["trade_count"]) == (35, 37, 4)
    assert day["profile"] == ON_MARKET
    regular = market.get(f"{asked}?session=regular").json()
    assert (Decimal(regular["open"]), Decimal(regular["high"]), regular["trade_count"]) == (37, 37, 3)
    assert regular["profile"] == ON_MARKET
    every = market.get(f"{asked}?session=regular&profile=none").json()
    assert (Decimal(every["high"]), every["trade_count"], "profile" in every) == (42, 5, False)


def test_every_question_about_a_regular_session_has_the_default_and_tells_it(market):
    regular = {"symbol": "BHP", "date": "2014-03-10", "session": "regular"}
    for path in ("/v1/trades", "/v1/asof"):
        body = market.get(path, params=regular).json()
        assert (body["count"], body["profile"]) == (3, ON_MARKET), path
        assert market.get(path, params=regular | {"profile": "none"}).json()["count"] == 5
        assert market.get(path, params={"symbol": "BHP"}).json()["count"] == 7
        assert market.get(path, params={"symbol": "BHP", "profile": "on_market"}).json()["count"] == 4
    both = market.get("/v1/trades", params=regular | {"min_price": "36.5"}).json()
    assert (both["count"], both["filter"], both["profile"]) == (2, {"min_price": "36.5"}, ON_MARKET)
    bars = market.get("/v1/bars/BHP?interval=1d&date=2014-03-10&session=regular").json()
    assert (bars["data"][0]["trade_count"], Decimal(bars["data"][0]["high"]), bars["profile"]) == (3, 37, ON_MARKET)
    asked = {"symbols": ["BHP"], "date": "2014-03-10", "session": "regular"}
    replayed = market.post("/v1/replay", json=asked).json()
    assert (replayed["count"], replayed["profile"]) == (4, ON_MARKET)  # with the quote
    csv = market.get("/v1/trades", params=regular | {"format": "csv"})
    assert csv.headers["K2-Profile"] == '{"ASX":{"name":"on_market","exclude_conditions":["1","3","9"]}}'
    quotes = market.get("/v1/quotes", params=regular).json()
    assert (quotes["count"], "profile" in quotes) == (1, False)


@pytest.mark.parametrize(
    ("asked", "side"),
    [({"profile": "none"}, "SELL"), ({}, "BUY"), ({"min_price": "36.5"}, "BUY"), ({"min_price": "36.5", "profile": "none"}, "SELL")],
)  # fmt: skip
def test_a_side_is_told_from_the_prices_that_the_profile_lets_through_whatever_is_filtered(market, asked, side):
    regular = {"symbol": "BHP", "date": "2014-03-10", "session": "regular", "exchange": "ASX"}
    rows = market.get("/v1/asof", params=regular | asked).json()["data"]
    # At the middle of the quote; before it came 36 on the market, and 42 from off it.
    assert [row["inferred_side"] for row in rows if Decimal(row["price"]) == Decimal("36.5")] == [side]


def test_a_profile_is_of_its_exchange_alone(market):
    ibm = market.get("/v1/bars/IBM?interval=1d&date=2014-03-10&session=regular").json()
    assert (ibm["data"][0]["trade_count"], "profile" in ibm) == (2, False)
    together = market.post("/v1/trades/query", json={"profile": "on_market"}).json()
    assert (together["count"], together["profile"]) == (6, ON_MARKET)  # of the NYSE, which has none, all
    several = market.get("/v1/trades?symbols=BHP,IBM&profile=on_market").json()
    assert several["count"] == 6


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/trades?symbol=IBM&profile=on_market", "NYSE has no profile of that name: found 'on_market', expected none"),
        ("/v1/bars/IBM?profile=on_market", "NYSE has no profile of that name"),
        ("/v1/summary/IBM/2014-03-10?profile=on_market", "NYSE has no profile of that name"),
        ("/v1/asof?symbol=IBM&profile=on_market", "NYSE has no profile of that name"),
        ("/v1/trades?symbol=BHP&exchange=ASX&profile=lit", "ASX has no profile of that name: found 'lit', expected on_market, or none"),
        ("/v1/trades?symbol=BHP&profile=lit", "No exchange has a profile of that name: found 'lit', expected on_market (of ASX), or none"),
        ("/v1/quotes?symbol=BHP&profile=on_market", "quotes have no profiles: found 'on_market', expected trades"),
    ],
)  # fmt: skip
def test_a_profile_that_there_is_not_is_refused(market, path, detail):
    said = problem(market.get(path), 400)
    assert said["detail"].startswith(detail)
    has_profiles = not path.startswith("/v1/quotes")
    assert said["type"] == f"urn:k2:problem:{'unknown-profile' if has_profiles else 'bad-request'}"


def test_pages_and_validators_are_of_the_profile(market):
    regular = {"symbol": "BHP", "date": "2014-03-10", "session": "regular"}
    first = market.get("/v1/trades", params=regular | {"limit": 1}).json()
    rest = market.get("/v1/trades", params={"page_token": first["next_page"]}).json()
    assert (rest["count"], rest["profile"]) == (2, ON_MARKET)
    again = market.get("/v1/trades", params=regular | {"page_token": first["next_page"]}).json()
    assert again["data"] == rest["data"]
    problem(market.get("/v1/trades", params={"page_token": first["next_page"], "profile": "none"}), 400)

    asked = "/v1/summary/BHP/2014-03-10?session=regular&hybrid=false"
    tag = {"If-None-Match": market.get(asked).headers["ETag"]}
    assert market.get(asked, headers=tag).status_code == 304
    said = {"profiles": {"on_market": {"excludeConditions": ["3"]}}}
    exchanges.use(ExchangesDocument.checked({"exchanges": {"ASX": said}}, "wrong at"))
    try:  # what is said of the exchange is another: so is the answer
        changed = market.get(asked, headers=tag)
        assert (changed.status_code, changed.json()["trade_count"]) == (200, 4)
    finally:
        exchanges.use(None)
