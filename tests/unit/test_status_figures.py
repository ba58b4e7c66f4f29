"""Lag, rate and freshness from offsets, without Kafka."""

from datetime import UTC, datetime, timedelta

import pytest

from k2.model.exchanges import exchange
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2_operator import figures
from k2_operator.figures import Reading, progress
from k2_operator.plan import plan

OPEN = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # a Monday
PLATFORM = Platform(
    kafka=KafkaPlatform(bootstrap_servers="k:9092"),
    registry=RegistryPlatform(url="http://r"),
    catalog=CatalogPlatform(properties={}),
)


def planned(days):
    api = "k2.dev/v1alpha1"
    source = {"synthetic": {"start": "2026-03-02", "days": days}}
    stream = {"dataType": "trades", "tableRef": {"name": "trades"}}
    spec = {"source": source, "exchange": "SIM", "streams": [stream]}
    table = {"identifier": "market_data.trades", "schema": "trades"}
    documents = [
        {"apiVersion": api, "kind": "IcebergTable", "metadata": {"name": "trades"}, "spec": table},
        {"apiVersion": api, "kind": "MarketFeed", "metadata": {"name": "sim"}, "spec": spec},
    ]
    return plan(documents, PLATFORM).feeds[0]


LIVE, FINITE = planned(0), planned(1)


def reading(at, end, offset=None, newest=None):
    text = "" if newest is None else f'{{"newest": "{newest.isoformat()}"}}'
    return Reading(at, {0: end}, {} if offset is None else {0: (offset, text)})


def finding(which, feed=LIVE, now=OPEN, at=0.0, **kwargs):
    found = progress(None, reading(at, 10, 10, **kwargs))
    return figures.findings(feed, exchange("SIM"), {"t": found}, now, at)[which]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, 0), (7, 7), (99, 99), (123, 120), (12_345, 12_000), (0.4, 0), (99_999, 100_000)]
)
def test_figures_have_two_digits(value, shown):
    assert figures.rounded(value) == shown


def test_lag_and_rate_of_two_readings():
    first = progress(None, reading(0, 100, 40))
    assert figures.fields({"t": first})["lag"] == 60
    second = progress(first, reading(10, 300, 290))
    assert figures.fields({"t": second}) == {"lag": 10, "rate": 20, "lastEventTime": None}


def test_the_newest_event_of_all_streams_is_told():
    early, late = OPEN - timedelta(hours=2), OPEN - timedelta(hours=1)
    streams = {
        "a": progress(None, reading(0, 1, 1, early)),
        "b": progress(None, reading(0, 1, 1, late)),
        "c": progress(None, Reading(0, {0: 1}, {0: (1, "no JSON")})),
    }
    assert figures.fields(streams)["lastEventTime"] == "2026-03-02T14:00:00Z"


def test_nothing_read_nothing_told():
    assert figures.fields({}) == {}


def test_fresh_is_asked_only_of_a_live_source_while_its_market_is_open():
    assert finding("Fresh", newest=OPEN - timedelta(seconds=20)).reason == "Fresh"
    assert finding("Fresh", newest=OPEN - timedelta(minutes=20)).reason == "Stale"
    assert finding("Fresh").reason == "NotMeasured"
    assert finding("Fresh", FINITE).reason == "FiniteSource"
    assert finding("Fresh", now=OPEN + timedelta(hours=5)).reason == "MarketClosed"
    assert finding("Fresh", now=OPEN + timedelta(days=5)).reason == "MarketClosed"


def degraded(found, at):
    return figures.findings(LIVE, exchange("SIM"), {"t": found}, OPEN, at)["Degraded"].reason


def test_a_sink_that_stands_still_with_messages_before_it_is_degraded():
    found = progress(None, reading(0, 10, 5))
    for at in (100, 200, 301):
        found = progress(found, reading(at, 10 + at, 5))
    assert degraded(found, 301) == "SinkStalled"
    found = progress(found, reading(330, 400, 6))
    assert degraded(found, 330) == "AsExpected"


def test_a_sink_with_nothing_to_do_is_not_degraded():
    found = progress(None, reading(0, 10, 10))
    assert degraded(progress(found, reading(900, 10, 10)), 900) == "AsExpected"
