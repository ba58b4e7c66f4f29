"""`Complete`, and what a status says of a feed's account of gaps."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from k2_testing.planned import planned

from k2.model.gap_note import GapNote
from k2.model.gaps import GapCounts
from k2.model.topics import DataType
from k2.model.workload import StreamConfig
from k2_operator.report.completeness import HEARD, account_topic, complete, completeness_fields
from k2_operator.spec.crds import market_feed

NOW = datetime(2026, 3, 2, 14, 0, 30, tzinfo=UTC)
AT = int(NOW.timestamp()) * 1_000_000 - 5_000_000
LIVE, FINITE = planned(0), planned(1)


def with_account(feed):
    gaps = StreamConfig(data_type=DataType.GAPS, topic="market.crypto.gaps.sim", table="market_data.gaps")
    config = feed.producer.config.model_copy(update={"streams": (*feed.producer.config.streams, gaps)})
    return replace(feed, producer=replace(feed.producer, config=config))


FEED = with_account(LIVE)


def found(note=None, feed=FEED, now=NOW):
    finding = complete(feed, note, now)
    return str(finding.status), str(finding.reason)


def test_a_feed_without_an_account_or_with_an_end_does_not_say_what_is_missing():
    assert found(feed=LIVE) == ("Unknown", "NoAccount")
    assert found(feed=with_account(FINITE)) == ("Unknown", "NoAccount")
    assert account_topic(FEED) == "market.crypto.gaps.sim"


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, ("Unknown", "NotMeasured")),
        (GapNote(GapCounts(), AT), ("True", "AllTradesHere")),
        (GapNote(GapCounts(filled=9, dead_lettered=2), AT), ("True", "AllTradesHere")),
        (GapNote(GapCounts(open=3, unfillable=7, unknown=1, oldest=AT), AT, worst="A"), ("False", "GapsOpen")),
        (GapNote(GapCounts(unfillable=7, unknown=1), AT), ("False", "TradesMissing")),
        (GapNote(GapCounts(unknown=1), AT, numbered=False), ("Unknown", "TimesUnknown")),
        (GapNote(GapCounts(), AT, deaf=4), ("Unknown", "TimesUnknown")),
    ],
)
def test_what_an_account_comes_to_is_whether_a_feed_is_complete(note, expected):
    assert found(note) == expected


def test_the_words_name_a_symbol_the_time_and_the_command():
    told = complete(FEED, GapNote(GapCounts(open=3, oldest=AT), AT, worst="BTCUSDT"), NOW).message
    assert told == (
        "3 trades are missing (of BTCUSDT among others), the oldest since 2026-03-02T14:00:25Z. They are asked for; "
        "`k2 feed gaps sim` lists them."
    )


def test_what_a_feed_that_is_gone_has_said_is_not_believed_for_long():
    note = GapNote(GapCounts(), AT)
    assert found(note, now=NOW + HEARD - timedelta(seconds=10)) == ("True", "AllTradesHere")
    assert found(note, now=NOW + HEARD) == ("Unknown", "NotMeasured")


def test_the_status_has_the_counts_and_the_column_shows_what_is_missing_now():
    told = completeness_fields(GapNote(GapCounts(open=3, filled=5, unfillable=1, oldest=AT), AT))
    assert told == {
        "gaps": 3,
        "completeness": {
            "open": 3,
            "filled": 5,
            "unfillable": 1,
            "unknown": 0,
            "deadLettered": 0,
            "oldest": "2026-03-02T14:00:25Z",
            "asOf": "2026-03-02T14:00:00Z",
        },
    }
    assert completeness_fields(None) == {}
    version = market_feed()["spec"]["versions"][0]
    columns = {each["name"]: each for each in version["additionalPrinterColumns"]}
    assert columns["Gaps"]["jsonPath"] == ".status.gaps"
    assert "priority" not in columns["Gaps"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["completeness"]["properties"]
    assert set(told["completeness"]) <= set(schema)
