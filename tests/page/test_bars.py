"""The page in a real browser, against the real service on a real table: what it shows is what the API says."""

import re
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from k2_testing.lake import make_lake
from k2_testing.page import (
    AFTER_FRAMES,
    KEY,
    MARKS,
    OPEN,
    ask,
    market,
    same_as_the_api,
    serving,
)
from k2_testing.ticks import append_ticks
from playwright.sync_api import expect

from k2.model.events import Decimals
from k2.model.topics import DataType

pytestmark = MARKS


def test_the_page_asks_for_a_key_and_then_shows_the_newest_day_without_a_complaint(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
    expect(page.locator("#subtitle")).to_contain_text("Tuesday, 11 March 2014")
    expect(page.locator("#badge")).to_contain_text("Live")
    expect(page.locator("#badge")).to_contain_text("complete until 2014-03-11 15:59:")
    same_as_the_api(mine, ask(week, "bars/BHP", interval="5m", date="2014-03-11")["data"])
    assert mine.rows()[0][0] == "10:00", "the exchange's own clock"
    assert mine.complaints == []
    assert {urlsplit(each)[:2] for each in mine.requests} == {urlsplit(week)[:2]}
    assert mine.page.evaluate("Object.values(sessionStorage)") == [KEY]
    assert mine.page.evaluate("Object.keys(localStorage)") == []
    assert KEY not in page.url
    assert not [each for each in mine.requests if KEY in each]


@pytest.mark.parametrize(
    ("bucket", "first"), [("1m", "2014-03-11"), ("30m", "2014-03-09"), ("1h", "2014-03-05"), ("4h", "2014-02-09")]
)
def test_every_bucket_shows_what_the_api_answers(week, tab, bucket, first):
    mine = tab(week)
    page = mine.open()
    page.get_by_label(bucket, exact=True).check(force=True)
    expect(page.locator("#subtitle")).to_contain_text(f"bars of {bucket}")
    same_as_the_api(mine, ask(week, "bars/BHP", interval=bucket, date=first, last_date="2014-03-11")["data"])


def test_daily_bars_and_the_days_before_and_after(week, tab):
    mine = tab(week)
    page = mine.open("?symbol=BHP&bucket=1d")
    expect(page.locator("#subtitle")).to_contain_text("bars of 1d")
    same_as_the_api(mine, ask(week, "bars/BHP", interval="1d")["data"])
    assert [row[0] for row in mine.rows()] == ["2014-03-10", "2014-03-11"]
    page.get_by_role("button", name="Day before").click()
    expect(page.locator("#subtitle")).to_contain_text("10 March 2014 · bars of 1d")
    page.get_by_role("button", name="Day before").click()
    expect(page.locator("#subtitle")).to_contain_text("7 March 2014 · bars of 1d")
    expect(page.locator("#empty")).to_contain_text("No trades")
    page.get_by_role("button", name="Day after").click()
    expect(page.locator("#subtitle")).to_contain_text("10 March 2014 · bars of 1d")


def test_the_regular_session_alone(own, lake, tab):
    early = market("BHP", OPEN - timedelta(hours=2), 30, 34.0, 5)
    append_ticks(lake, [*early, *market("BHP", OPEN, 60, 35.0, 1)])
    mine = tab(own)
    page = mine.open()
    expect(page.locator("#bars tr")).to_have_count(18)
    page.get_by_label("Regular session only").check()
    expect(page.locator("#bars tr")).to_have_count(12)
    expect(page.locator("#subtitle")).to_contain_text("regular session")
    same_as_the_api(mine, ask(own, "bars/BHP", interval="5m", date="2014-03-10", session="regular")["data"])
    page.reload()
    expect(page.locator("#bars tr")).to_have_count(12)


def test_a_symbol_is_found_and_chosen_by_keyboard_alone(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
    page.keyboard.press("/")
    expect(page.get_by_role("combobox", name="Symbol")).to_be_focused()
    expect(page.locator("#symbols").get_by_role("option")).to_have_count(2)
    page.keyboard.type("io")
    expect(page.locator("#symbols").get_by_role("option")).to_have_count(1)
    expect(page.locator("#symbols").get_by_role("option", selected=True)).to_contain_text("RIO")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("RIO · ASX")
    expect(page.locator("#subtitle")).to_contain_text("Monday, 10 March 2014")
    same_as_the_api(mine, ask(week, "bars/RIO", interval="5m", date="2014-03-10")["data"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#symbols").get_by_role("option", selected=True)).to_contain_text("BHP")
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(page.get_by_role("combobox", name="Symbol")).to_have_value("RIO")


def test_bars_are_read_from_the_chart_by_keyboard(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.locator("#bars tr")).to_have_count(72)
    rows = mine.rows()
    page.locator("#chart").focus()
    page.keyboard.press("Home")
    expect(page.locator("#status")).to_contain_text(f"{rows[0][0]}: open {rows[0][1]}")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#legend [data-of=close]")).to_have_text(rows[1][4])
    for pressed in ("+", "+", "-", "0", "End"):
        page.keyboard.press(pressed)
    expect(page.locator("#legend [data-of=time]")).to_have_text(rows[-1][0])
    for keys, chosen in ((["+", "+", "0"], rows[-1]), (["+", "+", "Home"], rows[0]), (["0", "End"], rows[-1])):
        # Faster than frames are drawn: the scale moves under the cross, the bar stays chosen.
        page.locator("#chart").evaluate(
            "(chart, keys) => { for (const key of keys) chart.dispatchEvent(new KeyboardEvent('keydown', { key })); }",
            keys,
        )
        page.evaluate(AFTER_FRAMES)
        assert page.locator("#legend [data-of=time]").text_content() == chosen[0], keys
    page.keyboard.press("Escape")
    assert mine.complaints == []


def test_the_slider_answers_from_a_snapshot_of_the_past(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.locator("#bars tr")).to_have_count(72)
    snapshots = [each["snapshot_id"] for each in reversed(ask(week, "snapshots")["data"])]
    slider = page.get_by_role("slider", name="Time travel")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#bars tr")).to_have_count(36)
    expect(slider).to_have_attribute("aria-valuetext", re.compile("^2 of 3: as of "))
    expect(page.locator("#badge")).to_contain_text("Past")
    assert f"snapshot={snapshots[1]}" in page.url
    same_as_the_api(mine, ask(week, "bars/BHP", interval="5m", date="2014-03-11", snapshot=snapshots[1])["data"])
    page.keyboard.press("Home")
    expect(page.locator("#empty")).to_contain_text("No trades")
    page.get_by_role("button", name="Live", exact=True).click()
    expect(page.locator("#bars tr")).to_have_count(72)
    expect(page.locator("#badge")).to_contain_text("Live")


def test_a_commit_is_shown_by_itself_and_a_new_day_is_followed(own, lake, tab):
    append_ticks(lake, market("BHP", OPEN, 30, 35.0, 1))
    mine = tab(own)
    page = mine.open("?bucket=1m")
    expect(page.locator("#bars tr")).to_have_count(30)
    append_ticks(lake, market("BHP", OPEN + timedelta(minutes=30), 12, 35.2, 2))
    expect(page.locator("#bars tr")).to_have_count(42)
    same_as_the_api(mine, ask(own, "bars/BHP", interval="1m", date="2014-03-10")["data"])
    expect(page.locator("#snapshot")).to_contain_text("newest of 2")
    append_ticks(lake, market("BHP", OPEN + timedelta(days=1), 5, 36.0, 3))
    expect(page.locator("#subtitle")).to_contain_text("Tuesday, 11 March 2014")
    expect(page.locator("#bars tr")).to_have_count(5)
    assert mine.complaints == []


def test_what_kafka_holds_is_shown_before_it_is_committed_and_counted_once(pipeline, tab):
    pipeline.produce(0, 1_000)
    pipeline.finish()
    platform = {
        "kafka_bootstrap_servers": pipeline.kafka["bootstrap.servers"],
        "registry_url": pipeline.registry["url"],
    }
    with serving(pipeline.folder, **platform) as url:
        page = tab(url).open("?symbol=BHP&bucket=1d")
        trades = page.locator("#bars td:last-child")
        expect(trades).to_have_text("125")
        pipeline.produce(1_000, 1_800)
        expect(trades).to_have_text("225")
        expect(page.locator("#badge")).to_have_text(re.compile(r"Live\s+· complete until .*, \d+ s behind"))
        commits = page.get_by_role("slider").get_attribute("max")
        pipeline.finish()
        expect(page.get_by_role("slider")).not_to_have_attribute("max", commits)
        page.get_by_role("button", name="Audit").click()
        expect(page.locator("#audited")).to_have_text("Every offset once: 1,800 rows")
        expect(trades).to_have_text("225")


def test_a_table_without_data_says_so_and_begins_by_itself(own, lake, tab):
    mine = tab(own)
    page = mine.open()
    expect(page.locator("#empty")).to_contain_text("No trades are stored yet")
    append_ticks(lake, market("BHP", OPEN, 5, 35.0, 1))
    expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
    expect(page.locator("#bars tr")).to_have_count(1)


def test_prices_and_quantities_of_a_wide_table_are_shown_to_the_last_digit(tmp_path, tab):
    amounts = [("0.0000234500001", "1234567890123"), ("0.000000000000012345", "0.000000000000000001"), ("37.01", "1")]
    amounts.append(("12345678901234567890.123456789012345678", "23456789012345678901.987654321098765432"))
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES, decimals=Decimals.WIDE)
    for number, (price, quantity) in enumerate(amounts):
        own = {"symbol": f"X{number}", "price": Decimal(price), "quantity": Decimal(quantity)}
        append_ticks(lake, [own | {"timestamp": OPEN + timedelta(seconds=second)} for second in (1, 70, 130)])
    with serving(tmp_path) as url:
        for number, (price, quantity) in enumerate(amounts):
            mine = tab(url)
            page = mine.open(f"?symbol=X{number}&bucket=1m")
            expect(page.locator("#bars tr")).to_have_count(3)
            assert [[bare(cell) for cell in row[1:7]] for row in mine.rows()] == [[price] * 4 + [quantity, price]] * 3
            # The chart library draws no numbers as large as the last.
            drawn = [float(price)] * 3 if number < 3 else []
            assert [candle["close"] for candle in mine.candles()] == drawn
            page.evaluate(AFTER_FRAMES)
            assert mine.complaints == []


def bare(text):
    """A number without what only makes it easier to read."""
    text = text.replace(",", "")
    return text.rstrip("0").rstrip(".") if "." in text else text
