"""The browser, tables and services of the page's tests."""

from datetime import timedelta

import pytest
from k2_testing import browser
from k2_testing.lake import make_lake
from k2_testing.page import OPEN, Tab, market, serving
from k2_testing.sinks import Pipeline
from k2_testing.ticks import append_ticks
from playwright.sync_api import expect, sync_playwright

from k2.model.topics import DataType

expect.set_options(timeout=60_000)


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


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    made = Pipeline(tmp_path, kafka, registry, free_topic())
    yield made
    made.close()


@pytest.fixture
def tab(chromium):
    opened = []

    def start(url, **options):
        opened.append(Tab(chromium, url, **options))
        return opened[-1]

    yield start
    for each in opened:
        each.context.close()
