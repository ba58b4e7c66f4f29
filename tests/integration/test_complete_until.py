"""Up to when an answer is complete: as far as the exchanges that it is of have come, and never later than now."""

from datetime import UTC, datetime, timedelta

import pytest
from k2_testing.ticks import OPEN, append_ticks, trade

PATHS = [
    ("/v1/trades", {"symbol": "BHP"}),
    ("/v1/bars", {"symbol": "BHP", "interval": "1d"}),
    ("/v1/asof", {"symbol": "BHP"}),
    ("/v1/summary", {"symbol": "BHP", "date": "2014-03-10"}),
    ("/v1/symbols", {"exchange": "ASX"}),
]


def complete_until(client, path, params):
    reply = client.get(path, params=params)
    assert reply.status_code == 200, reply.text
    return datetime.fromisoformat(reply.json()["complete_until"])


@pytest.mark.parametrize(("path", "params"), PATHS)
def test_it_is_of_the_exchanges_that_the_answer_is_of(client, lake, path, params):
    append_ticks(lake, [trade(0), trade(600, symbol="CBA")])
    assert complete_until(client, path, params) == OPEN + timedelta(seconds=600)
    append_ticks(lake, [trade(86_400, symbol="IBM", exchange="NYSE")])
    assert complete_until(client, path, params) == OPEN + timedelta(seconds=600)
    append_ticks(lake, [trade(700, symbol="RIO")])
    assert complete_until(client, path, params) == OPEN + timedelta(seconds=700)


@pytest.mark.parametrize(("path", "params"), PATHS)
def test_a_clock_that_is_ahead_makes_nothing_complete_until_then(client, lake, path, params):
    now = datetime.now(UTC)
    append_ticks(lake, [trade(0), trade((now - OPEN).total_seconds() + 86_400)])
    asked = datetime.now(UTC)
    assert asked <= complete_until(client, path, params) <= datetime.now(UTC)


def test_what_has_no_rows_of_an_exchange_says_how_far_the_table_is(client, lake):
    append_ticks(lake, [trade(0), trade(60, symbol="IBM", exchange="NYSE")])
    assert complete_until(client, "/v1/trades", {"symbol": "ZZZ"}) == OPEN + timedelta(seconds=60)
