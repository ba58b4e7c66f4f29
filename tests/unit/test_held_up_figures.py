"""What sinks say that holds them up, dead letters in all, and sinks that are too slow, as a feed's status has them; without Kafka."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from k2_testing.planned import TOPIC, planned

from k2.model.commit_note import CommitNote, note
from k2.model.dead_share import DeadShare
from k2.model.exchanges import exchange
from k2.model.held_up import HeldUp, HeldUpBy
from k2_operator.build import names
from k2_operator.reconcile.collector import lacking_pods
from k2_operator.reconcile.observe import FeedFacts
from k2_operator.report import figures, status
from k2_operator.report.figures import Reading, progress
from k2_operator.spec.conditions import ConditionType, Reason

OPEN = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # a Monday
LIVE = planned(0)
INTERVAL = LIVE.sinks[0].config.commit_interval_seconds


def reading(at, end, offset, text=""):
    return Reading(at, {0: end}, {0: (offset, text)})


def noted_held(at, by, said="why, and what to do", lag=3, told=None, since=None, partitions=1):
    """A reading in which a sink says beside each of its offsets that it is held up."""
    now = OPEN + timedelta(seconds=at)
    held = HeldUp(by, said, since or now, told or now)
    text = note(CommitNote(100, 7, OPEN), held)
    return Reading(at, dict.fromkeys(range(partitions), 5 + lag), dict.fromkeys(range(partitions), (5, text)))


def available(found, at, feed=LIVE):
    now = OPEN + timedelta(seconds=at)
    return figures.findings(feed, exchange("SIM"), {TOPIC: found}, {}, now, at).get("SinkAvailable")


LIMIT = 2 * INTERVAL + 30
PASSES = [by for by in HeldUpBy if by.passes]
REASONS = {HeldUpBy.DECISION: "DecisionNeeded", HeldUpBy.DEAD_LETTERS: "ManyDeadLetters"}


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("by", [by for by in HeldUpBy if not by.passes])
def test_what_only_people_can_mend_is_told_at_the_first_look_whether_messages_wait_or_not(by, lag):
    finding = available(progress(None, noted_held(0, by, "Rolled back. Do this", lag)), 0)
    assert (finding.status, finding.reason) == ("False", REASONS.get(by, "SinkStalled"))
    assert finding.message == f"{TOPIC} (0 s): Rolled back. Do this."


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("by", PASSES)
def test_what_may_pass_by_itself_is_told_once_it_has_lasted_two_intervals_and_half_a_minute(by, lag):
    found = progress(None, noted_held(0, by, lag=lag))
    for at in (30, LIMIT - 1):
        found = progress(found, noted_held(at, by, lag=lag, since=OPEN))
        assert available(found, at) is None
    finding = available(progress(found, noted_held(LIMIT, by, lag=lag, since=OPEN)), LIMIT)
    assert (finding.status, finding.reason) == ("False", "SinkStalled")
    assert finding.message == f"{TOPIC} ({LIMIT:.0f} s): why, and what to do."


def test_what_a_sink_left_that_is_gone_is_not_taken_for_the_truth():
    left = noted_held(0, HeldUpBy.DECISION, lag=0)
    found = progress(None, left)
    assert available(found, 0).reason == "DecisionNeeded"
    later = figures.HEARD_SECONDS + 1
    found = progress(found, Reading(later, left.ends, left.committed))
    assert available(found, later) is None, "it says so no more"
    again = progress(found, noted_held(later + 30, HeldUpBy.DECISION, lag=0))
    assert available(again, later + 30).reason == "DecisionNeeded", "until one says it anew"
    old = noted_held(0, HeldUpBy.DECISION, told=OPEN - figures.OLD - timedelta(seconds=1))
    assert available(progress(None, old), 0) is None, "at the first look the clocks tell"


def test_a_sink_that_waits_and_does_not_say_why_is_stalled_all_the_same():
    left = noted_held(0, HeldUpBy.COMMIT)
    found = progress(None, left)
    for at in (60, 120, 180):
        found = progress(found, Reading(at, left.ends, left.committed))
    finding = available(found, 180)
    assert finding.reason == "SinkStalled"
    assert finding.message.startswith(f"Messages wait and no sink commits them: {TOPIC} (3 min).")


def test_a_sink_that_goes_on_is_available_at_the_next_look():
    found = progress(None, noted_held(0, HeldUpBy.DECISION))
    text = note(CommitNote(101, 8, OPEN))
    found = progress(found, Reading(30, {0: 9}, {0: (8, text)}))
    assert available(found, 30) is None
    found = progress(found, noted_held(60, HeldUpBy.COMMIT))
    assert available(found, 60) is None, "the time begins anew"


def test_of_several_sinks_a_decision_is_the_feeds_reason_and_all_are_told():
    both = LIVE
    quotes = replace(
        both.sinks[0], config=both.sinks[0].config.model_copy(update={"topic": "market.equities.quotes.sim"})
    )
    feed = replace(LIVE, sinks=(*LIVE.sinks, quotes))
    streams = {
        TOPIC: progress(None, noted_held(0, HeldUpBy.DECISION, "decide")),
        "market.equities.quotes.sim": progress(None, noted_held(0, HeldUpBy.TABLE, "no column.")),
    }
    finding = figures.findings(feed, exchange("SIM"), streams, {}, OPEN, 0)["SinkAvailable"]
    assert finding.reason == "DecisionNeeded"
    assert finding.message == f"market.equities.quotes.sim (0 s): no column; {TOPIC} (0 s): decide."


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (119, "119 s"), (120, "2 min"), (3000, "50 min"), (7199, "120 min"), (86_400, "24 h")],
)
def test_a_time_is_the_coarser_the_longer_it_is_so_that_a_status_is_seldom_written(seconds, said):
    found = progress(None, noted_held(0, HeldUpBy.DECISION, since=OPEN - timedelta(seconds=seconds)))
    assert f"({said})" in available(found, 0).message


# --- dead letters in all, and sinks that are too slow -------------------------------------------------------------------


def test_dead_letters_of_all_partitions_and_streams_are_counted_with_the_commonest_reason():
    notes = [CommitNote(100, 7, OPEN, dead=DeadShare(3, 0, "truncated"), letters=each) for each in (2, 40)]
    found = Reading(0, {0: 5, 1: 5}, {number: (5, each.to_json()) for number, each in enumerate(notes)})
    told = figures.fields(LIVE, {TOPIC: progress(None, found)})
    assert told["deadLetters"] == 42
    (sink,) = told["sinks"]
    assert (sink["deadLetters"], sink["recentDeadLetters"], sink["deadLetterReason"]) == (42, 3, "truncated")
    assert (
        figures.fields(LIVE, {TOPIC: progress(None, reading(0, 9, 5, CommitNote(7).to_json()))})["deadLetters"] is None
    ), "no sink has told"


@pytest.mark.parametrize(("in_a_row", "is_said"), [(10, False), (11, True), (80, True)])
def test_a_topic_of_few_messages_that_are_all_dead_letters_is_degraded(in_a_row, is_said):
    text = CommitNote(7, dead=DeadShare(in_a_row, in_a_row, "truncated")).to_json()
    streams = {TOPIC: progress(None, reading(0, 9, 9, text))}
    found = figures.findings(LIVE, exchange("SIM"), streams, {}, OPEN, 0)["Degraded"]
    assert (found.reason == "ManyDeadLetters") == is_said
    assert ("dead letters without exception" in found.message) == is_said
    assert ("for one reason: truncated" in found.message) == is_said


def grown(seconds, step=30, moves=True):
    """A sink whose lag has grown at each look for so long."""
    found = progress(None, reading(0, 100, 50))
    for at in range(step, seconds + 1, step):
        found = progress(found, reading(at, 100 + 20 * at, 50 + (10 * at if moves else 0)))
    return figures.findings(LIVE, exchange("SIM"), {TOPIC: found}, {}, OPEN, at)


def test_a_sink_whose_lag_grows_and_grows_is_degraded():
    enough = int(2 * INTERVAL + figures.GROWING_SECONDS) // 30 * 30 + 30
    assert grown(enough)["Degraded"].reason == "FallingBehind"
    assert TOPIC in grown(enough)["Degraded"].message
    assert "SinkAvailable" not in grown(enough)
    assert grown(enough - 60)["Degraded"].reason == "AsExpected"
    assert grown(enough, moves=False)["Degraded"].reason == "AsExpected", "that one is stalled"


def test_a_lag_that_rises_between_commits_and_falls_with_each_is_no_delay():
    found = progress(None, reading(0, 100, 50))
    for number in range(1, 40):
        found = progress(found, reading(30 * number, 1_000 * number, 1_000 * (number - number % 3)))
    told = figures.findings(LIVE, exchange("SIM"), {TOPIC: found}, {}, OPEN, 30 * 39)
    assert told["Degraded"].reason == "AsExpected"


# --- whom the operator asks, and what it knows after a restart ----------------------------------------------------------


def test_a_group_is_asked_where_it_may_have_moved_or_may_say_why_it_does_not():
    settled = progress(None, reading(0, 9, 9))
    assert not figures.is_asked(settled, {0: 9}, lacks_pods=False)
    assert not figures.is_asked(None, {0: 0}, lacks_pods=False), "an empty topic"
    assert figures.is_asked(None, {0: 9}, lacks_pods=False)
    assert figures.is_asked(settled, {0: 10}, lacks_pods=False), "more has come"
    assert figures.is_asked(progress(None, reading(0, 9, 5)), {0: 9}, lacks_pods=False), "something waits"
    assert figures.is_asked(settled, {0: 9}, lacks_pods=True), "its pods are not ready: it may say why"
    held = progress(None, noted_held(0, HeldUpBy.DECISION, lag=0))
    assert figures.is_asked(held, {0: 5}, lacks_pods=False), "until it says so no more"


@pytest.mark.parametrize("reason", list(Reason))
def test_over_a_restart_a_feed_stays_what_its_sinks_have_said_and_nothing_else(reason):
    written = {"type": "SinkAvailable", "status": "False", "reason": reason.value, "message": "as it was"}
    found = figures.carried({"metadata": {}, "status": {"conditions": [written]}})
    known = {ConditionType.SINK_AVAILABLE: status.no(reason, "as it was")}
    assert found == (known if reason in figures.HELD_UP else {})


@pytest.mark.parametrize(("available", "lacks"), [(None, True), (0, True), (1, False)])
def test_a_sink_without_a_ready_pod_is_one_that_may_say_why(available, lacks):
    (sink,) = LIVE.sinks
    name = names.sink(sink.config.topic, sink.config.table)
    deployment = {"kind": "Deployment", "metadata": {"name": name}, "status": {"availableReplicas": available}}
    owned = () if available is None else (deployment,)
    facts = FeedFacts({"metadata": {}}, LIVE, (), {}, owned)
    assert lacking_pods(facts, LIVE) == ([sink.config.group_id] if lacks else [])
    assert lacking_pods(facts, planned(0, sink={"replicas": 0})) == [], "nobody asked for any"
