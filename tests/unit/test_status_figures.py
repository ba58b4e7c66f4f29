"""Lag, rate and freshness from offsets, without Kafka."""

from datetime import UTC, datetime, timedelta

import pytest
from k2_testing.planned import TOPIC, planned

from k2.model.commit_note import CommitNote
from k2.model.dead_share import DeadShare
from k2.model.exchanges import exchange
from k2_operator.report import figures
from k2_operator.report.figures import Commits, Reading, commits, progress
from k2_operator.spec.conditions import ConditionType

OPEN = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # a Monday
LIVE, FINITE = planned(0), planned(1)


def reading(at, end, offset=None, newest=None):
    text = "" if newest is None else CommitNote(1, newest=newest).to_json()
    return Reading(at, {0: end}, {} if offset is None else {0: (offset, text)})


def finding(which, feed=LIVE, now=OPEN, at=0.0, **kwargs):
    found = progress(None, reading(at, 10, 10, **kwargs))
    return figures.findings(feed, exchange("SIM"), {"t": found}, {}, now, at)[which]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, 0), (7, 7), (99, 99), (123, 120), (12_345, 12_000), (0.4, 0), (99_999, 100_000)]
)
def test_figures_have_two_digits(value, shown):
    assert figures.rounded(value) == shown


def test_lag_and_rate_of_two_readings():
    first = progress(None, reading(0, 100, 40))
    assert figures.fields(LIVE, {"t": first})["lag"] == 60
    second = progress(first, reading(10, 300, 290))
    assert figures.fields(LIVE, {"t": second}) == {
        "lag": 10,
        "rate": 20,
        "lastEventTime": None,
        "completeness": None,
        "gaps": None,
        "deadLetters": None,
        "sinks": [],
    }


def test_the_newest_event_of_all_streams_is_told():
    early, late = OPEN - timedelta(hours=2), OPEN - timedelta(hours=1)
    streams = {
        "a": progress(None, reading(0, 1, 1, early)),
        "b": progress(None, reading(0, 1, 1, late)),
        "c": progress(None, Reading(0, {0: 1}, {0: (1, "no JSON")})),
    }
    assert figures.fields(LIVE, streams)["lastEventTime"] == "2026-03-02T14:00:00Z"


def test_nothing_read_nothing_told():
    assert figures.fields(LIVE, {}) == {}


def test_fresh_is_asked_only_of_a_live_source_while_its_market_is_open():
    assert finding("Fresh", newest=OPEN - timedelta(seconds=20)).reason == "Fresh"
    assert finding("Fresh", newest=OPEN - timedelta(minutes=20)).reason == "Stale"
    assert finding("Fresh").reason == "NotMeasured"
    assert finding("Fresh", FINITE).reason == "FiniteSource"
    assert finding("Fresh", now=OPEN + timedelta(hours=5)).reason == "MarketClosed"
    assert finding("Fresh", now=OPEN + timedelta(days=5)).reason == "MarketClosed"


INTERVAL = LIVE.sinks[0].config.commit_interval_seconds


def stalled(found, at, feed=LIVE):
    told = figures.findings(feed, exchange("SIM"), {TOPIC: found}, {}, OPEN, at)
    assert told["Degraded"].reason == "AsExpected", "that is for what still flows"
    return told.get("SinkAvailable")


def test_a_sink_that_stands_still_with_messages_before_it_is_not_available():
    limit = 2 * INTERVAL + 30
    found = progress(None, reading(0, 10, 5))
    for at in (limit / 2, limit - 1):
        found = progress(found, reading(at, 1000 + at, 5))
        assert stalled(found, at) is None
    finding = stalled(progress(found, reading(limit, 2000, 5)), limit)
    assert (finding.status, finding.reason) == ("False", "SinkStalled")
    assert f"{TOPIC} ({limit:.0f} s)" in finding.message
    assert limit + figures.STALLED_SECONDS <= 2 * INTERVAL + 60, (
        "with the time between two readings it is told within a minute"
    )
    assert stalled(progress(found, reading(limit, 2000, 6)), limit) is None


def test_a_sink_with_nothing_to_do_is_not_stalled():
    found = progress(None, reading(0, 10, 10))
    assert stalled(progress(found, reading(900, 10, 10)), 900) is None


def noted(at, *sequences, gaps=None):
    """A reading of one partition per sequence number, each with the note of its last commit."""
    notes = [CommitNote(100 + each, each, OPEN + timedelta(seconds=each), gaps=gaps) for each in sequences]
    return Reading(
        at, dict.fromkeys(range(len(notes)), 5), {number: (5, note.to_json()) for number, note in enumerate(notes)}
    )


def test_each_sink_tells_its_newest_snapshot_and_the_gaps_that_it_has_counted():
    told = figures.fields(LIVE, {TOPIC: progress(None, noted(0, 7, 9, 8, gaps=2))})
    assert told["gaps"] == 6
    assert told["sinks"] == [
        {
            "dataType": "trades",
            "topic": TOPIC,
            "table": "market_data.trades",
            "lag": 0,
            "gaps": 6,
            "lastSnapshot": "109",
            "lastCommitTime": "2026-03-02T15:00:09Z",
        }
    ]


def test_where_no_sink_counts_gaps_none_is_told_instead_of_zero():
    told = figures.fields(LIVE, {TOPIC: progress(None, noted(0, 7))})
    assert told["gaps"] is None
    assert "gaps" not in told["sinks"][0]


def test_commits_are_counted_by_the_numbers_of_a_tables_snapshots_over_all_its_sinks():
    first = commits(None, [noted(0, 10), noted(0, 12)])
    assert first == Commits(12, 0, 0.0)
    second = commits(first, [noted(30, 40), noted(30, 72)])
    assert second == Commits(72, 30, 2.0)
    assert commits(second, [noted(60, 72)]) == Commits(72, 60, 0.0)


def test_a_table_that_was_made_anew_begins_to_be_counted_again():
    assert commits(Commits(900, 0, 0.5), [noted(30, 2)]) == Commits(2, 30, 0.0)


def test_sinks_that_have_told_no_number_leave_what_was_known():
    assert commits(None, [reading(0, 10, 10)]) is None
    known = Commits(5, 0, 0.1)
    assert commits(known, [reading(30, 10, 10)]) == known


@pytest.mark.parametrize(("rate", "reason"), [(1.0, "AsExpected"), (1.1, "CommitContention")])
def test_more_than_one_commit_a_second_into_a_table_is_contention(rate, reason):
    found = {TOPIC: progress(None, noted(0, 7))}
    tables = {"market_data.trades": Commits(7, 0, rate), "another.table": Commits(7, 0, 50.0)}
    degraded = figures.findings(LIVE, exchange("SIM"), found, tables, OPEN, 0.0)["Degraded"]
    assert degraded.reason == reason
    assert ("spec.sink.commitInterval" in degraded.message) == (reason == "CommitContention")


def with_dead(*shares, sequence=7):
    """A reading of one partition per share, each as its pod's last commit says it."""
    notes = [CommitNote(100, sequence, OPEN, dead=share).to_json() for share in shares]
    return Reading(0, dict.fromkeys(range(len(notes)), 5), {number: (5, note) for number, note in enumerate(notes)})


def degraded(found, tables=None):
    return figures.findings(LIVE, exchange("SIM"), {TOPIC: progress(None, found)}, tables or {}, OPEN, 0.0)["Degraded"]


@pytest.mark.parametrize(("dead", "is_many"), [(0, False), (100, False), (101, True), (10_000, True)])
def test_more_than_one_in_a_hundred_dead_letters_is_told_with_the_reason_and_the_command(dead, is_many):
    found = degraded(with_dead(DeadShare(dead, 3, "truncated" if dead else "")))
    assert (found.status, found.reason) == (("True", "ManyDeadLetters") if is_many else ("False", "AsExpected"))
    assert (f"`k2 dlq list {TOPIC}`" in found.message) == is_many
    assert ("for one reason: truncated" in found.message) == is_many


def test_the_pod_with_most_dead_letters_is_told_of_and_what_an_old_sink_left_says_nothing():
    notes = with_dead(DeadShare(0), None, DeadShare(300, 0, "truncated"), DeadShare(200, 0, "invalid uuid"))
    assert "3 % of the last 10,000" in degraded(notes).message
    assert "truncated" in degraded(notes).message
    assert degraded(with_dead(None)).reason == "AsExpected"


def test_dead_letters_are_told_before_contention_and_what_is_said_does_not_change_with_each_of_them():
    crowded = {"market_data.trades": Commits(7, 0, 5.0)}
    many = [degraded(with_dead(DeadShare(dead, row, "truncated")), crowded) for dead, row in ((610, 20), (612, 22))]
    assert many[0].reason == "ManyDeadLetters"
    assert many[0] == many[1]


def test_a_sink_tells_how_many_of_its_last_messages_were_dead_letters():
    def told(share):
        return figures.fields(LIVE, {TOPIC: progress(None, with_dead(share))})["sinks"][0].get("recentDeadLetters")

    assert [told(DeadShare(dead)) for dead in (0, 7, 612)] == [None, 7, 610]
    assert told(None) is None


STOPPING = planned(0, deadLetters={"stopAbove": "5%"})


def sink_available(dead, feed=STOPPING, lag=3):
    note = CommitNote(100, 7, OPEN, dead=DeadShare(dead, 0, "truncated")).to_json()
    found = {TOPIC: progress(None, Reading(0, {0: 5 + lag}, {0: (5, note)}))}
    return figures.findings(feed, exchange("SIM"), found, {}, OPEN, 0.0).get("SinkAvailable")


def test_a_sink_that_reads_no_more_is_not_available_and_says_how_it_goes_on():
    finding = sink_available(612)
    assert (finding.status, finding.reason) == ("False", "ManyDeadLetters")
    for said in (
        "6.1 % of the last 10,000 messages",
        "truncated",
        "allows (5 %)",
        "restart the sink",
        "raise stopAbove",
    ):
        assert said in finding.message
    assert sink_available(500) is None
    assert sink_available(10_000, LIVE) is None, "nobody asked for it"
    assert sink_available(612, lag=0) is None, "nothing waits"


def test_a_sink_that_reads_no_more_is_not_called_stalled_although_it_is():
    note = CommitNote(100, 7, OPEN, dead=DeadShare(612, 0, "truncated")).to_json()
    found = progress(None, Reading(0, {0: 8}, {0: (5, note)}))
    found = progress(found, Reading(9_000, {0: 8}, {0: (5, note)}))
    told = figures.findings(STOPPING, exchange("SIM"), {TOPIC: found}, {}, OPEN, 9_000)
    assert told["SinkAvailable"].reason == told["Degraded"].reason == "ManyDeadLetters"


def test_every_measured_condition_is_carried_over_a_restart():
    found = figures.findings(LIVE, exchange("SIM"), {"t": progress(None, reading(0, 1))}, {}, OPEN, 0)
    assert {*found, ConditionType.COMPLETE} == set(figures.MEASURED)


def test_every_figure_of_a_status_is_among_those_that_an_outage_takes():
    assert set(figures.fields(LIVE, {TOPIC: progress(None, noted(0, 7))})) == set(figures.FIELDS)


def test_a_sink_that_stood_still_before_an_outage_has_its_time_again_after_it():
    limit = 2 * INTERVAL + 30
    before = progress(progress(None, reading(0, 10, 5)), reading(limit, 10, 5))
    assert stalled(before, limit).reason == "SinkStalled", "control"
    assert stalled(progress(None, reading(limit + 1, 10, 5)), limit + 1) is None
