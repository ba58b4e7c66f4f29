"""A tab of a real browser on the page, the real service behind it, and what they show and say."""

import hashlib
import json
import random
import threading
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
import uvicorn

from k2.api.app import create_app
from k2.api.page.route import CHART_LIBRARY, FOLDER
from k2.model.settings import Settings
from k2.model.workload import QueryConfig
from k2_testing.lake import catalog_properties
from k2_testing.ticks import at

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
MARKS = [
    pytest.mark.real,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (FOLDER / CHART_LIBRARY).exists(),
        reason="the chart library is not here: npm was away when k2 was installed",
    ),
]


def entry(key, **more):
    return {"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} | more


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
