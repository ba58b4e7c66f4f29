"""What a sink leaves beside its offsets, and what the operator makes of it."""

from datetime import UTC, datetime

import pytest

from k2.model.commit_note import CommitNote, held_up_of, note
from k2.model.dead_share import DeadShare
from k2.model.errors import WorldError
from k2.model.held_up import HeldUp, HeldUpBy
from k2.sink.notes import Notes

THEN = datetime(2026, 3, 2, 15, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "note",
    [
        CommitNote(7_311_264_000_000_000_001, 12, THEN, THEN, 500, 3),
        CommitNote(1),
        CommitNote(1, newest=THEN, gaps=0),
        CommitNote(1, dead=DeadShare(612, 12, "price has more than 8 decimals")),
        CommitNote(1, dead=DeadShare()),
        CommitNote(1, letters=12),
    ],
)
def test_a_note_comes_back_as_it_was(note):
    assert CommitNote.from_json(note.to_json()) == note


def test_what_is_not_known_takes_no_room():
    assert CommitNote(5, rows=2).to_json() == '{"snapshot":5,"rows":2}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "snapshot=12",
        "[]",
        "null",
        "{}",
        '{"snapshot": "x"}',
        '{"snapshot": 1, "newest": "soon"}',
        '{"snapshot": 1, "dead": [1]}',
        '{"snapshot": 1, "dead": 7}',
        "7",
    ],
)
def test_what_others_commit_is_no_note(text):
    assert CommitNote.from_json(text) is None


# --- the notes of a sink's partitions ---------------------------------------------------------------------------------


def commit(number, dead=0):
    return CommitNote(number, newest=THEN, rows=number, dead=DeadShare(dead, 0, "truncated" if dead else ""))


def read(told):
    return {partition: (offset, CommitNote.from_json(text)) for partition, (offset, text) in told.items()}


def test_what_is_told_of_the_sink_as_a_whole_is_not_old_beside_a_quiet_partition():
    notes = Notes("t", dict)
    notes.take_over({0, 1, 2})
    in_table = {0: 5, 1: 7, 2: 0}
    first = read(notes.after(commit(1, 300), {0, 1}, in_table, None))
    assert first == {0: (5, commit(1, 300)), 1: (7, commit(1, 300))}, "nothing was ever committed of the third"
    then = read(notes.after(commit(2), {0}, in_table | {0: 9}, None))
    assert then[0] == (9, commit(2))
    assert then[1] == (7, CommitNote(1, newest=THEN, rows=1, dead=DeadShare())), "the commit is the one that it had"


def test_gaps_are_counted_on_from_what_the_last_sink_has_left_where_they_are_counted():
    left = {0: (5, CommitNote(1, gaps=4).to_json()), 1: (5, "somebody else's")}
    notes = Notes("t", lambda: left)
    notes.take_over({0, 1})
    told = read(notes.after(commit(2), {0, 1}, {0: 6, 1: 6}, {0: 2}))
    assert [told[partition][1].gaps for partition in (0, 1)] == [6, 0]
    assert read(notes.after(commit(3), {0}, {0: 7, 1: 6}, None))[0][1].gaps is None


def test_partitions_that_are_given_up_are_told_of_no_more_and_a_silent_kafka_stops_nobody():
    def silent():
        raise WorldError("Kafka is away")

    notes = Notes("t", silent)
    notes.take_over({0, 1})
    assert set(notes.after(commit(1), {0, 1}, {0: 1, 1: 1}, {})) == {0, 1}
    notes.drop({1, 2})
    assert set(notes.after(commit(2), {0}, {0: 2}, {})) == {0}


# --- that something holds the sink up -----------------------------------------------------------------------------------


HELD = HeldUp(HeldUpBy.TABLE, "no column", THEN, THEN)


def standing(told):
    return {partition: (offset, held_up_of(text)) for partition, (offset, text) in told.items()}


def test_what_holds_the_sink_up_stands_beside_each_of_its_partitions_and_goes_with_the_next_commit():
    notes = Notes("t", dict)
    notes.take_over({0, 1})
    in_table = {0: 5, 1: 7}
    notes.after(commit(1), {0}, in_table, None)
    told = notes.standing(HELD, in_table)
    assert standing(told) == {0: (5, HELD), 1: (7, HELD)}, "one without a commit too"
    assert read(told) == {0: (5, commit(1)), 1: (7, None)}, "the last commit stays beside it"
    after = notes.after(commit(2), {0}, in_table | {0: 6}, None)
    assert standing(after) == {0: (6, None), 1: (7, None)}
    assert notes.standing(None, in_table) == {}, "there is nothing to take off any more"


def test_that_it_goes_on_is_told_once_and_only_where_something_else_stands():
    notes = Notes("t", dict)
    notes.take_over({0})
    assert notes.standing(None, {0: 5}) == {}
    notes.standing(HELD, {0: 5})
    assert notes.standing(None, {0: 5}) == {0: (5, "")}
    assert notes.standing(None, {0: 5}) == {}


def test_what_a_former_sink_has_left_is_taken_off_by_who_gets_the_partition():
    left = {0: (5, note(CommitNote(1), HELD)), 1: (0, note(None, HELD)), 2: (3, note(CommitNote(1)))}
    notes = Notes("t", lambda: left)
    notes.take_over({0, 1, 2})
    notes.drop({1})
    assert read(notes.standing(None, {0: 5, 2: 3})) == {0: (5, CommitNote(1))}


def test_the_dead_letters_that_the_table_has_counted_are_told_of_each_partition():
    notes = Notes("t", dict)
    notes.take_over({0, 1})
    in_table = {0: 5, 1: 7}
    notes.after(commit(1), {0, 1}, in_table, None, {0: 2, 1: 3, 2: 99})
    told = read(notes.after(commit(2), {0}, in_table, None, {0: 4}))
    assert [told[partition][1].letters for partition in (0, 1)] == [4, 3]
