"""What the page shows of what there is: which days, by the exchange's calendar, which trades, by its profiles, at which prices."""

import csv
import shlex
from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from k2_testing.companies import append_reference, company, dividend, split
from k2_testing.lake import make_lake
from k2_testing.page import KEY, MARKS, OPEN, ask, market, same_as_the_api, serving
from k2_testing.ticks import append_ticks
from playwright.sync_api import expect

from k2.model.topics import DataType

pytestmark = MARKS

BHP = "?symbol=BHP&exchange=ASX"
REGULAR_UNTIL_NOON = 24
"""Bars of 5 minutes from 10:00 to 12:00."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """BHP in the mornings of Monday and Tuesday, with prints from off the market before they begin. Served on loopback.

    On Wednesday a share becomes two, and on Thursday a dividend is paid in another currency.
    """
    folder = tmp_path_factory.mktemp("desk")
    lake = make_lake(folder, *DataType)
    own = {"company_name": "Broken Hill", "isin": "AU000000BHP4", "sector": "Mining"}
    changes = [split("7", "2014-03-12", "2"), dividend("7", "2014-03-13", "0.40", "USD")]
    append_reference(lake, [company("7", "BHP", "2001-07-02", **own), *changes])
    for day in range(2):
        opens = OPEN + timedelta(days=day)
        off = market("BHP", opens - timedelta(minutes=10), 10, 42.0, 7 + day)
        append_ticks(lake, [each | {"trade_conditions": ["3"], "price": Decimal(42)} for each in off])
        append_ticks(lake, market("BHP", opens, 120, 35.0, day))
    with serving(folder) as url:
        yield url


def test_the_day_buttons_skip_weekends_and_holidays_and_tell_where_they_lead(desk, tab):
    mine = tab(desk)
    page = mine.open(f"{BHP}&day=2014-04-17")
    before, after = page.get_by_role("button", name="Day before"), page.get_by_role("button", name="Day after")
    expect(after).to_have_attribute("title", "Tuesday, 22 April 2014")  # Easter lies between
    expect(before).to_have_attribute("title", "Wednesday, 16 April 2014")
    after.click()
    expect(page.locator("#subtitle")).to_contain_text("Tuesday, 22 April 2014")
    expect(page.get_by_label("Day", exact=True)).to_have_value("2014-04-22")
    before.click()
    expect(page.locator("#subtitle")).to_contain_text("Thursday, 17 April 2014")
    expect(page.locator("#day-note")).to_be_hidden()
    page.goto(f"{desk}/{BHP}&day=2014-03-07")
    expect(page.locator("#subtitle")).to_contain_text("Friday, 7 March 2014")
    after.click()
    expect(page.locator("#subtitle")).to_contain_text("Monday, 10 March 2014")
    expect(page.locator("#bars tr")).to_have_count(26)
    assert mine.complaints == []


def test_a_holiday_that_is_chosen_by_hand_says_so_and_leads_to_the_nearest_trading_days(desk, tab):
    mine = tab(desk)
    page = mine.open(f"{BHP}&day=2014-03-11")
    expect(page.locator("#bars tr")).to_have_count(26)
    page.get_by_label("Day", exact=True).fill("2014-04-25")
    expect(page.locator("#empty")).to_contain_text(
        "ASX is closed on Friday, 25 April 2014 (by the clock of Australia/Sydney)"
    )
    expect(page.locator("#empty button")).to_have_text(["Thursday, 24 April 2014", "Monday, 28 April 2014"])
    expect(page.locator("#day-note")).to_have_text("ASX is closed on this day.")
    expect(page.locator("#subtitle")).to_contain_text("time of Australia/Sydney")
    page.locator("#empty button").last.click()
    expect(page.locator("#subtitle")).to_contain_text("Monday, 28 April 2014")
    expect(page.locator("#empty")).to_contain_text("No trades of BHP on Monday, 28 April 2014")
    expect(page.locator("#day-note")).to_be_hidden()
    assert mine.complaints == []


def test_a_half_day_is_marked_on_the_day_and_on_the_button_that_leads_there(desk, tab):
    page = tab(desk).open(f"{BHP}&day=2014-12-23")
    after = page.get_by_role("button", name="Day after")
    expect(after).to_have_attribute("title", "Wednesday, 24 December 2014 (Half day: open from 10:00 to 14:10)")
    after.click()
    expect(page.locator("#day-note")).to_have_text("Half day: open from 10:00 to 14:10.")
    expect(after).to_have_attribute("title", "Monday, 29 December 2014")


def test_a_trading_date_that_begins_the_evening_before_is_found_by_its_instants(desk, tab):
    page = tab(desk).page
    page.goto(desk)
    found = page.evaluate("""async () => {
        const { Calendar } = await import("/page/calendar.js");
        const calendar = new Calendar();
        const row = (date, begins, ends, status) =>
            ({ date, status, begins, ends, opens: begins, closes: ends, pauses: [] });
        calendar.take({ exchange: "CME", time_zone: "America/Chicago", known_from: null, known_until: "2024-03-12", data: [
            row("2024-03-10", "2024-03-09T23:00:00.000000Z", "2024-03-10T22:00:00.000000Z", "closed"),
            row("2024-03-11", "2024-03-10T22:00:00.000000Z", "2024-03-11T22:00:00.000000Z", "regular"),
            row("2024-03-12", "2024-03-11T22:00:00.000000Z", "2024-03-12T22:00:00.000000Z", "regular"),
            row("2024-03-13", "2024-03-12T22:00:00.000000Z", "2024-03-13T22:00:00.000000Z", "unknown"),
        ] });
        return {
            sunday: calendar.dateOf("2024-03-10T22:00:00.000001Z"),
            before: calendar.dateOf("2024-03-10T21:59:59.999999Z"),
            beyond: calendar.dateOf("2024-04-01T00:00:00.000000Z"),
            next: calendar.near("2024-03-11", 1),
            none: [calendar.near("2024-03-12", 1), calendar.near("2024-03-11", -1)],
            note: calendar.noteOf("2024-03-13"),
        };
    }""")
    assert found == {
        "sunday": "2024-03-11",
        "before": "2024-03-10",
        "beyond": None,
        "next": "2024-03-12",
        "none": [None, None],
        "note": "The calendar of CME does not know this date, only those until 2024-03-12.",
    }


def test_a_profile_says_which_trades_chart_bars_and_exports_are_of_and_the_address_keeps_it(desk, tab, monkeypatch):
    mine = tab(desk)
    page = mine.open(f"{BHP}&day=2014-03-11")
    bars, subtitle, profile = (
        page.locator("#bars tr"),
        page.locator("#subtitle"),
        page.get_by_label("Trades", exact=True),
    )
    expect(bars).to_have_count(REGULAR_UNTIL_NOON + 2)
    expect(subtitle).to_contain_text("whole day · all trades")
    expect(profile.locator("option")).to_have_text(["All trades", "Profile on_market"])
    expect(profile).to_have_value("none")
    profile.select_option("on_market")
    expect(subtitle).to_contain_text("whole day · trades of profile on_market (without conditions 1, 3, 9)")
    expect(bars).to_have_count(REGULAR_UNTIL_NOON)
    wanted = {"exchange": "ASX", "interval": "5m", "date": "2014-03-11", "profile": "on_market"}
    asked = ask(desk, "bars/BHP", **wanted)["data"]
    same_as_the_api(mine, asked)
    assert parse_qs(urlsplit(page.url).query)["profile"] == ["on_market"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "BHP-ASX-5m-2014-03-11-on_market.csv"
    with saved.value.path().open(newline="") as text:
        assert [row["open"] for row in csv.DictReader(text)] == [bar["open"] for bar in asked]
    page.get_by_role("button", name="curl").click()
    *_, header, url = shlex.split(page.locator("#code").input_value().replace("$K2_API_KEY", KEY))
    assert httpx.get(url, headers=[tuple(header.split(": "))]).json()["data"] == asked
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Python").click()
    monkeypatch.setenv("K2_API_KEY", KEY)
    names = {}
    exec(page.locator("#code").input_value(), names)
    names["db"].close()
    assert [str(price) for price in names["bars"]["high"]] == [bar["high"] for bar in asked]
    page.get_by_role("button", name="Close").click()
    page.go_back()
    expect(bars).to_have_count(REGULAR_UNTIL_NOON + 2)
    expect(profile).to_have_value("none")
    assert mine.complaints == []


def test_the_regular_session_has_the_exchanges_default_profile_unless_another_is_chosen(desk, tab):
    page = tab(desk).open(f"{BHP}&day=2014-03-11&session=regular")
    subtitle, profile = page.locator("#subtitle"), page.get_by_label("Trades", exact=True)
    expect(subtitle).to_contain_text("regular session · trades of profile on_market")
    expect(profile).to_have_value("on_market")
    profile.select_option("none")
    expect(subtitle).to_contain_text("regular session · all trades")
    page.get_by_label("Regular session only").uncheck()
    expect(subtitle).to_contain_text("whole day · all trades")
    expect(profile).to_have_value("none")


def test_the_company_stands_above_the_chart_and_adjusted_prices_are_the_apis(desk, tab):
    mine = tab(desk)
    page = mine.open(f"{BHP}&day=2014-03-11")
    bars, subtitle, prices = (
        page.locator("#bars tr"),
        page.locator("#subtitle"),
        page.get_by_label("Prices", exact=True),
    )
    expect(page.locator("#company")).to_have_text(
        "Broken Hill · listed since 2001-07-02 · in AUD · ISIN AU000000BHP4 · Mining"
    )
    prices.select_option("splits")
    expect(subtitle).to_contain_text("prices adjusted for splits (1 event since)")
    wanted = {"exchange": "ASX", "interval": "5m", "date": "2014-03-11", "adjusted": "splits"}
    asked = ask(desk, "bars/BHP", **wanted)["data"]
    traded = ask(desk, "bars/BHP", exchange="ASX", interval="5m", date="2014-03-11")["data"]
    assert [Decimal(bar["low"]) for bar in asked] == [Decimal(bar["low"]) / 2 for bar in traded]
    assert [[Decimal(cell) for cell in row[1:5]] for row in mine.rows()] == [
        [Decimal(bar[name]) for name in ("open", "high", "low", "close")] for bar in asked
    ]
    assert parse_qs(urlsplit(page.url).query)["adjusted"] == ["splits"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "BHP-ASX-5m-2014-03-11-adjusted-splits.csv"
    page.get_by_role("button", name="curl").click()
    assert "adjusted=splits" in page.locator("#code").input_value()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Python").click()
    assert 'adjusted="splits"' in page.locator("#code").input_value()
    page.get_by_role("button", name="Close").click()
    assert mine.complaints == []
    prices.select_option("all")
    expect(page.locator("#empty-text")).to_have_text(
        "Prices of BHP cannot be adjusted for splits and dividends. The dividend of BHP with ex-date 2014-03-13 is in "
        "another currency than its trades: found '0.4 USD', expected an amount in AUD: K2 knows no rates of exchange."
    )
    expect(bars).to_have_count(0)
    expect(page.locator("#badge")).to_contain_text("Not shown")
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#empty button")).to_have_text(["Adjust for splits alone", "Show prices as traded"])
    page.get_by_role("button", name="Show prices as traded").click()
    expect(bars).to_have_count(len(traded))
    expect(prices).to_have_value("")
    same_as_the_api(mine, traded)


def test_an_address_with_a_profile_that_there_is_not_leads_to_one_that_there_is(desk, tab):
    page = tab(desk).open(f"{BHP}&day=2014-03-11&profile=lit&adjusted=never")
    expect(page.locator("#empty-text")).to_have_text(
        "ASX has no profile of that name: found 'lit', expected on_market, or none."
    )
    options = page.get_by_label("Trades", exact=True).locator("option")
    expect(options).to_have_text(["All trades", "Profile on_market", "Profile lit"])
    page.get_by_role("button", name="Show all trades").click()
    expect(page.locator("#bars tr")).to_have_count(REGULAR_UNTIL_NOON + 2)
    expect(options).to_have_text(["All trades", "Profile on_market"])
