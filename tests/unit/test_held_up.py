"""What holds a sink up: kept short enough for Kafka, told at each change and again while it lasts, and of which kind it is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from pyiceberg.exceptions import ForbiddenError, UnauthorizedError
from sqlalchemy.exc import OperationalError

from k2.lake.appends.trouble import Trouble
from k2.lake.appends.unwritable import TableFaultError
from k2.lake.payloads import PausedError
from k2.lake.schema_ids import BoundAnewError, refuse_bound_anew
from k2.model.commit_note import CommitNote, held_up_of, note
from k2.model.dead_share import DeadShare
from k2.model.errors import RefusedError, UserError, WorldError
from k2.model.held_up import HEAD, TAIL, HeldUp, HeldUpBy, in_short
from k2.sink.telling import AGAIN, Telling, TooManyDeadError, in_words, of_commits

THEN = datetime(2026, 3, 2, 15, 0, 1, 250_000, tzinfo=UTC)
KEPT_BYTES = 4_096
"""Kafka's default of `offset.metadata.max.bytes`."""


def held(said="the table is away", by=HeldUpBy.COMMIT):
    return HeldUp(by, said, THEN, THEN + timedelta(seconds=20))


# --- the note ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", list(HeldUpBy))
def test_a_note_tells_the_commit_and_what_holds_the_sink_up(by):
    commit = CommitNote(7, 12, THEN, THEN, 500, 3, DeadShare(2, 0, "truncated"), 9)
    text = note(commit, held("“côté”", by))
    assert CommitNote.from_json(text) == commit
    assert held_up_of(text) == held("“côté”", by)


def test_before_the_first_commit_there_is_only_what_holds_it_up_and_without_either_nothing():
    text = note(None, held())
    assert CommitNote.from_json(text) is None
    assert held_up_of(text) == held()
    assert note(None) == ""
    assert held_up_of(note(CommitNote(7))) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "null",
        "no JSON",
        '{"held": 7}',
        '{"held": ["commit", "x"]}',
        '{"held": ["a word of another version", "x", "2026-03-02T15:00:00+00:00", "2026-03-02T15:00:00+00:00"]}',
        '{"held": ["commit", "x", "soon", "now"]}',
    ],
)
def test_what_others_have_left_holds_nobody_up(text):
    assert held_up_of(text) is None


@given(st.text(st.characters(), max_size=3_000))
def test_any_reason_fits_beside_an_offset_on_one_line(text):
    short = in_short(text)
    assert len(short) <= HEAD + TAIL + 3
    assert short.isprintable()
    dead = DeadShare(10_000, 10_000, "\U0001f600" * 160)
    whole = note(CommitNote(2**63 - 1, 2**31, THEN, THEN, 2**40, 2**31, dead, 2**40), held(short))
    assert len(whole.encode()) <= KEPT_BYTES


def test_of_a_long_reason_what_is_wrong_and_the_remedy_stay():
    text = f"The table was rolled back: found {'x' * 5_000}. To read on: k2 sink reset t --to-snapshot 7."
    short = in_short(text)
    assert short.startswith("The table was rolled back: found x")
    assert short.endswith("To read on: k2 sink reset t --to-snapshot 7.")
    assert in_short("one\n  two\tthree\x00") == "one two three"


# --- when it is told --------------------------------------------------------------------------------------------------


def gauges(topic):
    return {by: REGISTRY.get_sample_value("k2_sink_held_up", {"topic": topic, "reason": by.value}) for by in HeldUpBy}


def only(by):
    return {each: float(each is by) for each in HeldUpBy}


def test_it_is_told_at_each_change_and_again_while_it_lasts_with_the_newest_words(unique):
    telling = Telling(unique)
    assert gauges(unique) == only(None), "an alert needs the series before it is 1"
    assert not telling.see(None, "", THEN), "there is nothing to tell"
    assert telling.see(HeldUpBy.COMMIT, "away", THEN)
    assert telling.held == HeldUp(HeldUpBy.COMMIT, "away", THEN, THEN)
    assert gauges(unique) == only(HeldUpBy.COMMIT)
    assert not telling.see(HeldUpBy.COMMIT, "away, 2nd try", THEN + AGAIN / 2), "not at each look"
    assert telling.see(HeldUpBy.COMMIT, "away, 3rd try", THEN + AGAIN)
    assert telling.held == HeldUp(HeldUpBy.COMMIT, "away, 3rd try", THEN, THEN + AGAIN)
    later = THEN + AGAIN + timedelta(seconds=1)
    assert telling.see(HeldUpBy.DECISION, "rolled back", later), "another kind at once"
    assert telling.held == HeldUp(HeldUpBy.DECISION, "rolled back", THEN, later), "it has stood still since then"
    assert gauges(unique) == only(HeldUpBy.DECISION)
    assert telling.see(None, "", later), "that it goes on is told"
    assert telling.held is None
    assert gauges(unique) == only(None)
    assert not telling.see(None, "", later)


# --- of which kind it is ----------------------------------------------------------------------------------------------


def caused(error, cause):
    error.__cause__ = cause
    return error


DECIDE = RefusedError("Retention has passed", found="9", expected="5", remedy="k2 sink reset t --skip-to-earliest")


@pytest.mark.parametrize(
    ("error", "by", "said"),
    [
        (DECIDE, HeldUpBy.DECISION, "k2 sink reset t --skip-to-earliest. The sink reads nothing until that is decided"),
        (TooManyDeadError("too many"), HeldUpBy.DEAD_LETTERS, "too many"),
        (BoundAnewError("id 7 is another's"), HeldUpBy.DECISION, "id 7 is another's"),
        (TableFaultError("t", "codec"), HeldUpBy.TABLE, "goes on by itself when the table is mended"),
        (PausedError("no column for flag"), HeldUpBy.TABLE, "no column for flag"),
        (caused(PausedError("no schema 7"), WorldError("x")), HeldUpBy.REGISTRY, "no schema 7"),
        (UserError("There is no table t"), HeldUpBy.PARTS, "There is no table t"),
        (WorldError("The catalog cannot be opened: refused"), HeldUpBy.PARTS, "cannot be opened"),
        (caused(TableFaultError("t", "no"), ForbiddenError("no")), HeldUpBy.ACCESS, "into the Secret"),
        (caused(WorldError("cannot be opened"), UnauthorizedError("who?")), HeldUpBy.ACCESS, "into the Secret"),
        (UserError("The Schema Registry at r refuses access (x)"), HeldUpBy.ACCESS, "into the Secret"),
    ],
)
def test_the_error_tells_the_kind_and_the_remedy(error, by, said):
    kind, words = in_words(error)
    assert kind is by
    assert said in words


@pytest.mark.parametrize(
    "text",
    [
        'connection to server at "db" failed: FATAL:  password authentication failed for user "k2"',
        "AWS Error ACCESS_DENIED during PutObject operation: Access Denied.",
        "When reading 's3://b/k': AWS Error INVALID_ACCESS_KEY_ID during HeadObject operation",
        "SignatureDoesNotMatch: The request signature we calculated does not match",
        "NotAuthorizedException: Not authorized: Missing or invalid token",
        "FATAL: permission denied for table iceberg_tables",
    ],
)
def test_credentials_that_are_refused_are_known_by_the_words_of_catalogs_and_stores(text):
    assert Trouble.of(text).of_access
    assert Trouble.of(OSError(text)).of_access


@pytest.mark.parametrize(
    "text", ["database is locked", "Connection refused", "[Errno 28] No space left on device", "Read timed out"]
)
def test_other_troubles_are_not_taken_for_credentials(text):
    assert Trouble.of(OSError(text)) == Trouble(text)


def test_of_a_drivers_error_neither_the_statement_nor_a_web_page_is_told():
    error = OperationalError("SELECT 1", {"a": 1}, Exception("database is locked"))
    assert Trouble.of(error).said == "(builtins.Exception) database is locked"
    assert Trouble.of(KeyError()).said == "KeyError()", "one without words has its name"


@pytest.mark.parametrize(
    ("seconds", "trouble", "by", "said"),
    [
        (14, "database is locked", None, ""),
        (16, "database is locked", HeldUpBy.COMMIT, "Commits to t fail: database is locked. Nothing is lost"),
        (16, "password authentication failed", HeldUpBy.ACCESS, "into the Secret that platform.yaml names for it"),
        (39, "", None, ""),
        (41, "", HeldUpBy.COMMIT, "neither the catalog nor the store answers"),
        (69, None, None, ""),
        (71, None, HeldUpBy.COMMIT, "nothing tells why"),
    ],
)
def test_a_sink_that_has_work_and_commits_nothing_is_held_up_the_sooner_the_more_is_known(seconds, trouble, by, said):
    found = of_commits("t", 5.0, seconds, trouble)
    assert (found or (None, ""))[0] is by
    assert said in (found or (None, ""))[1]


def test_of_what_a_forgetful_registry_holds_up_both_the_reason_and_the_commands_are_kept():
    table, topic = "market_data.trades_of_everything", "market.equities.trades.an-exchange-with-a-name"
    with pytest.raises(BoundAnewError) as held:
        refuse_bound_anew(topic, table, {123_456: "a schema"})
    said = in_short(str(held.value))
    assert said.startswith("The Schema Registry has another schema under schema id 123456")
    assert f"k2 sink schemas {table} --topic {topic}, with --keep" in said
    assert "--take 123456" in said
