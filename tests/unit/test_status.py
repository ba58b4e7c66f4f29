"""Status: what is said of what was found, and that a time moves only when its status does."""

import pytest

from k2_operator.report import status
from k2_operator.report.status import no, ready, unknown, yes
from k2_operator.spec.conditions import ConditionType, Reason

THEN, NOW = "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"


def resource(generation=1, **found):
    return {"metadata": {"name": "sim", "generation": generation}, "status": found}


def deployment(available=0, observed=1, generation=1, name="k2-sink-x"):
    counts = {"availableReplicas": available} if available else {}
    return {"metadata": {"name": name, "generation": generation}, "status": {"observedGeneration": observed, **counts}}


def job(**conditions):
    found = [{"type": kind, "status": value, "message": "why"} for kind, value in conditions.items()]
    return {"metadata": {"name": "sim-load-1"}, "status": {"conditions": found}}


def written(previous, finding, now=NOW, generation=1):
    return status.status(resource(generation, conditions=previous), {ConditionType.READY: finding}, now)["conditions"][
        0
    ]


def test_a_time_moves_when_the_status_does_and_not_when_only_the_words_do():
    first = written([], no(Reason.KAFKA_UNREACHABLE, "away"), THEN)
    assert first["lastTransitionTime"] == THEN
    second = written([first], no(Reason.TOPIC_REFUSED, "compacted"))
    assert (second["reason"], second["lastTransitionTime"]) == ("TopicRefused", THEN)
    third = written([second], yes(Reason.AS_ASKED))
    assert third["lastTransitionTime"] == NOW


def test_the_same_findings_give_the_same_status_so_that_nothing_is_written():
    findings = {
        ConditionType.READY: no(Reason.TABLE_NOT_FOUND, "apply it"),
        ConditionType.TABLES_READY: no(Reason.TABLE_NOT_FOUND, "apply it"),
    }
    once = status.status(resource(3), findings, THEN, {"lag": None, "streams": "trades"})
    assert "lag" not in once
    again = status.status(resource(3, **once), findings, NOW, {"lag": None, "streams": "trades"})
    assert again == once


def test_what_the_api_server_orders_and_fills_in_by_itself_is_no_difference():
    said = {"rows": 3, "conditions": [{"type": "Ready", "status": "True"}, {"type": "Complete", "status": "Unknown"}]}
    kept = {"rows": 3, "upkeep": [], "conditions": said["conditions"][::-1]}
    assert status.says_the_same(said, kept)
    assert not status.says_the_same(said, kept | {"rows": 4})
    assert not status.says_the_same(said, kept | {"upkeep": [{"task": "compact"}]})
    assert not status.says_the_same(said, kept | {"conditions": [{"type": "Ready", "status": "True"}]})


def test_the_generation_that_was_looked_at_is_told():
    assert written([], yes(Reason.AS_ASKED), generation=7)["observedGeneration"] == 7


def test_a_long_message_is_cut():
    assert len(written([], no(Reason.KAFKA_UNREACHABLE, "x" * 5000))["message"]) == status.MESSAGE_LIMIT


def gates(**different):
    return {gate: different.get(gate, yes(Reason.AS_ASKED)) for gate in status.GATES}


def test_ready_is_every_gate_and_names_the_first_that_is_shut():
    assert ready(gates()).good
    shut = ready(
        gates(SinkAvailable=no(Reason.SINK_NOT_AVAILABLE, "pods"), TopicsReady=no(Reason.KAFKA_UNREACHABLE, "away"))
    )
    assert (shut.status, shut.reason, shut.message) == ("False", "KafkaUnreachable", "away")
    assert ready(gates(TablesReady=unknown(Reason.NOT_MEASURED, "yet"))).status == "False"


@pytest.mark.parametrize(
    ("deployments", "wanted", "suspended", "expected"),
    [
        ([deployment(2)], 2, False, ("True", "SinkAvailable")),
        ([deployment(1)], 2, False, ("False", "SinkNotAvailable")),
        ([None], 1, False, ("False", "SinkNotAvailable")),
        ([], 0, False, ("True", "NoSink")),
        ([deployment(0)], 0, False, ("False", "ScaledToZero")),
        ([deployment(1)], 1, True, ("False", "Suspended")),
    ],
)
def test_sinks(deployments, wanted, suspended, expected):
    found = status.sinks([(each, wanted) for each in deployments], suspended=suspended)
    assert (found.status, found.reason) == expected
    assert found.message


def test_each_sink_needs_its_own_number_of_pods():
    assert status.sinks([(deployment(3), 3), (deployment(1), 1)], suspended=False).good
    assert "2 of 3" in status.sinks([(deployment(2), 3), (deployment(1), 1)], suspended=False).message


@pytest.mark.parametrize(
    ("found", "completed", "suspended", "expected"),
    [
        (None, True, False, ("True", "LoadCompleted")),
        (None, False, False, ("False", "LoadStarting")),
        (job(Failed="True"), False, False, ("False", "LoadFailed")),
        (job(), False, False, ("False", "LoadStarting")),
        ({"metadata": {"name": "j"}, "status": {"ready": 1}}, False, False, ("True", "LoadRunning")),
        (job(), False, True, ("False", "Suspended")),
        (job(Failed="True"), True, True, ("True", "LoadCompleted")),
    ],
)
def test_loads(found, completed, suspended, expected):
    said = status.load(found, completed=completed, suspended=suspended)
    assert (said.status, said.reason) == expected


def test_a_failed_load_says_what_to_do():
    assert "delete the Job" in status.load(job(Failed="True"), completed=False, suspended=False).message


def test_a_job_is_complete_when_it_says_so():
    assert status.is_complete(job(Complete="True"))
    assert not status.is_complete(job(Failed="True"))
    assert not status.is_complete(None)


def test_what_others_add_is_degraded_unless_something_else_is_wrong():
    well, wrong = no(Reason.AS_EXPECTED, "Nothing."), yes(Reason.COMMIT_CONTENTION, "Too often.")
    kept = ["Deployment d: spec.paused by somebody"]
    found = status.degraded(well, kept)
    assert (found.status, found.reason) == ("True", Reason.FIELDS_ADDED)
    assert "spec.paused by somebody" in found.message
    assert status.degraded(None, kept) == found
    assert status.degraded(wrong, kept) == wrong
    assert status.degraded(well, []) == well
    assert status.degraded(None, []) is None
    # As it stood in the status before a restart, until it is measured again.
    assert status.degraded(found, []).reason is Reason.AS_EXPECTED
    assert status.degraded(found, kept) == found


def test_pods_that_do_not_come_up_are_degraded_where_their_feed_goes_on():
    stuck, wrong = yes(Reason.IMAGE_PULL_FAILED, "no image"), yes(Reason.COMMIT_CONTENTION, "Too often.")
    assert status.degraded(no(Reason.AS_EXPECTED, "Nothing."), [], stuck) == stuck
    assert status.degraded(None, ["Deployment d: spec.paused by somebody"], stuck) == stuck
    assert status.degraded(wrong, [], stuck) == wrong
    # As it stood in the status before a restart.
    assert status.degraded(stuck, []).reason is Reason.AS_EXPECTED
