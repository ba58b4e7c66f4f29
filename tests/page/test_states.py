"""The page where a key, a service or a snapshot is not there, or gives less than all."""

import re
import threading
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

from k2_testing.lake import make_lake
from k2_testing.page import (
    KEY,
    MARKS,
    OPEN,
    market,
    serving,
)
from k2_testing.ticks import append_ticks
from playwright.sync_api import expect

from k2.model.topics import DataType

pytestmark = MARKS


def test_a_wrong_key_is_refused_in_words_and_the_right_one_helps(week, tab):
    mine = tab(week)
    page = mine.open(key="wrong")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#key-problem")).to_contain_text("not known")
    expect(page.locator("#badge")).to_contain_text("Key refused")
    page.get_by_label("Key that your operator gave you").fill(KEY)
    page.get_by_role("button", name="Use key").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
    expect(page.locator("#problem")).to_be_hidden()
    page.get_by_role("button", name="API key").click()
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#badge")).to_contain_text("No key")
    expect(page.locator("#bars tr")).to_have_count(0)
    assert page.evaluate("Object.values(sessionStorage)") == []


def test_a_key_that_asks_too_often_waits_as_it_is_told(lake, tmp_path, tab, monkeypatch):
    append_ticks(lake, market("BHP", OPEN, 5, 35.0, 1))
    goes = threading.Event()  # the service's clock: until both were seen, no request is given back
    clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() if goes.is_set() else 0.0)
    monkeypatch.setattr("k2.api.app.time", clock)
    with serving(tmp_path) as url:
        page = tab(url).open(key="slow-key")
        expect(page.get_by_role("alert").filter(has_text="Too many requests")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile(r"Try again \(\d s\)"))).to_be_visible()
        goes.set()
        expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
        expect(page.locator("#problem")).to_be_hidden()


def test_a_key_sees_on_the_page_what_its_rules_let_it_see(week, tab):
    page = tab(week).open(key="rio-key")
    expect(page.get_by_role("heading", level=1)).to_have_text("RIO · ASX")
    expect(page.locator("#badge")).to_contain_text("complete until 2014-03-10 15:59:")
    page.keyboard.press("/")
    expect(page.locator("#symbols").get_by_role("option")).to_have_text([re.compile("^RIO")])
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Audit").click()
    expect(page.locator("#audited")).to_contain_text("this key sees a part of them")
    page.get_by_role("slider").press("ArrowLeft")
    expect(page.locator("#snapshot")).to_have_text(re.compile(r"^3 of 3: as of [-\d]+ [:\d]+$"))


def test_a_service_that_is_not_ready_is_waited_for(tmp_path, tab):
    with serving(tmp_path) as url:
        page = tab(url).open()
        expect(page.get_by_role("alert").filter(has_text="The service is not ready")).to_be_visible()
        expect(page.locator("#badge")).to_contain_text("Away")
        lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
        append_ticks(lake, market("BHP", OPEN, 5, 35.0, 1))
        expect(page.get_by_role("heading", level=1)).to_have_text("BHP · ASX")
        expect(page.locator("#problem")).to_be_hidden()


def test_a_service_that_went_away_is_said_and_found_again(lake, tmp_path, tab):
    append_ticks(lake, market("BHP", OPEN, 5, 35.0, 1))
    with serving(tmp_path) as url:
        page = tab(url).open()
        expect(page.locator("#badge")).to_contain_text("Live")
    expect(page.get_by_role("alert").filter(has_text="No answer")).to_be_visible()
    assert page.locator("#bars tr").count() == 1, "what was seen stays"
    with serving(tmp_path, port=urlsplit(url).port):
        expect(page.locator("#badge")).to_contain_text("Live")
        expect(page.locator("#problem")).to_be_hidden()


def test_a_snapshot_that_is_gone_gives_way_to_live_data(week, tab):
    page = tab(week).open("?symbol=BHP&snapshot=1234567890")
    expect(page.locator("#badge")).to_contain_text("Live")
    expect(page.locator("#bars tr")).to_have_count(72)
