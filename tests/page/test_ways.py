"""Ways through the page: by keys, by addresses, from an empty day to one with trades, and out of it with what is shown."""

import csv
import io
import shlex
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from k2_testing import axe
from k2_testing.controlplane import UnavailableError
from k2_testing.page import AFTER_FRAMES, DESKTOP, KEY, MARKS, PHONE, ask
from playwright.sync_api import expect

pytestmark = MARKS

BHP = "?symbol=BHP&exchange=ASX"


def test_a_slash_goes_to_the_search_whatever_has_the_focus_and_is_a_letter_within(week, tab):
    page = tab(week).open(BHP)
    expect(page.locator("#bars tr")).to_have_count(72)
    search = page.get_by_role("combobox", name="Symbol")
    for name in ("#chart", "[value='15m']", "#day", "#regular", "#snapshots", "#theme", "#export-csv"):
        page.locator(name).focus()
        page.keyboard.press("/")
        expect(search).to_be_focused()
        expect(search).to_have_value("BHP")
    search.fill("A")
    page.keyboard.press("/")
    expect(search).to_have_value("A/")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="API key").click()
    page.keyboard.press("/")
    expect(page.get_by_label("Key that your operator gave you")).to_have_value("/")


def test_an_empty_day_names_the_clock_and_leads_to_the_nearest_days_with_trades(week, tab):
    mine = tab(week)
    page = mine.open(f"{BHP}&day=2014-03-13")
    expect(page.locator("#empty")).to_contain_text(
        "No trades of BHP on Thursday, 13 March 2014 (dates of ASX, by the clock of Australia/Sydney)"
    )
    expect(page.locator("#empty button")).to_have_text(["Tuesday, 11 March 2014"])
    page.goto(f"{week}/{BHP}&day=2013-12-02")  # further away than a fortnight
    expect(page.locator("#empty button")).to_have_text(["Monday, 10 March 2014"])
    page.locator("#empty button").click()
    expect(page.locator("#subtitle")).to_contain_text("Monday, 10 March 2014")
    expect(page.locator("#bars tr")).to_have_count(72)
    expect(page.locator("#empty")).to_be_hidden()
    assert mine.complaints == []


def test_back_and_forward_go_through_what_was_chosen(week, tab):
    page = tab(week).open(BHP)
    title, bars = page.get_by_role("heading", level=1), page.locator("#bars tr")
    expect(bars).to_have_count(72)
    page.get_by_label("30m", exact=True).check(force=True)
    expect(page.locator("#subtitle")).to_contain_text("bars of 30m")
    expect(bars).to_have_count(24)
    page.get_by_role("combobox", name="Symbol").fill("RIO")
    page.keyboard.press("Enter")
    expect(title).to_have_text("RIO · ASX")
    expect(bars).to_have_count(12)
    page.go_back()
    expect(title).to_have_text("BHP · ASX")
    expect(bars).to_have_count(24)
    page.go_back()
    expect(page.locator("#subtitle")).to_contain_text("bars of 5m")
    expect(bars).to_have_count(72)
    expect(page.get_by_label("5m", exact=True)).to_be_checked()
    page.go_forward()
    expect(page.locator("#subtitle")).to_contain_text("bars of 30m")
    expect(page.get_by_label("30m", exact=True)).to_be_checked()
    assert parse_qs(urlsplit(page.url).query)["bucket"] == ["30m"]


def test_what_is_shown_is_taken_along_as_csv_picture_curl_and_python(week, tab, monkeypatch):
    mine = tab(week)
    page = mine.open(f"{BHP}&day=2014-03-10&bucket=15m&session=regular")
    expect(page.locator("#subtitle")).to_contain_text("regular session")
    wanted = {"interval": "15m", "date": "2014-03-10", "session": "regular", "exchange": "ASX"}
    bars = ask(week, "bars/BHP", **wanted)["data"]
    expect(page.locator("#bars tr")).to_have_count(len(bars))
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "BHP-ASX-15m-2014-03-10.csv"
    text = saved.value.path().read_text()
    assert list(csv.DictReader(io.StringIO(text))) == [
        {name: str(bar[name]) for name in text.partition("\n")[0].split(",")} for bar in bars
    ]
    with page.expect_download() as saved:
        page.get_by_role("button", name="PNG").click()
    assert saved.value.suggested_filename == "BHP-ASX-15m-2014-03-10.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    page.get_by_role("button", name="curl").click()
    curl, flag, header, url = shlex.split(page.locator("#code").input_value().replace("$K2_API_KEY", KEY))
    assert (curl, flag) == ("curl", "-H")
    name, _, value = header.partition(": ")
    assert httpx.get(url, headers={name: value}).raise_for_status().json()["data"] == bars
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).not_to_be_empty()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Python").click()
    monkeypatch.setenv("K2_API_KEY", KEY)
    names = {}
    exec(page.locator("#code").input_value(), names)
    names["db"].close()
    assert [str(price) for price in names["bars"]["close"]] == [bar["close"] for bar in bars]
    assert KEY not in page.locator("#code").input_value()
    assert mine.complaints == []


def test_the_chart_is_what_a_phone_shows_first(week, tab):
    page = tab(week).open(BHP)
    expect(page.locator("#bars tr")).to_have_count(72)
    page.set_viewport_size(PHONE)
    page.wait_for_function(f"innerWidth === {PHONE['width']}")
    page.evaluate(AFTER_FRAMES)
    box = page.locator("#chart").bounding_box()
    assert box["y"] <= 200
    assert box["height"] >= 0.5 * PHONE["height"]
    assert box["y"] + box["height"] <= PHONE["height"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing stands out at the side"


def test_axe_finds_nothing_serious(week, tab):
    try:
        script = axe.source()
    except UnavailableError as error:
        pytest.skip(str(error))
    for scheme in ("light", "dark"):
        page = tab(week, color_scheme=scheme).open(BHP)
        expect(page.locator("#bars tr")).to_have_count(72)
        page.locator("#listing summary").click()
        for size in (DESKTOP, PHONE):
            page.set_viewport_size(size)
            page.wait_for_function(f"innerWidth === {size['width']}")
            assert axe.serious(page, script) == [], (scheme, size)
        page.get_by_role("combobox", name="Symbol").focus()
        assert axe.serious(page, script) == [], (scheme, "the list of symbols")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="curl").click()
        assert axe.serious(page, script) == [], (scheme, "a dialog")
        page.keyboard.press("Escape")
    # The control: a picture without a text for who does not see it.
    page.evaluate("document.querySelector('main').append(new Image())")
    assert [each["rule"] for each in axe.serious(page, script)] == ["image-alt"]
