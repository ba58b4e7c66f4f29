"""What a sink leaves beside its offsets, and what the operator makes of it."""

from datetime import UTC, datetime

import pytest

from k2.model.commit_note import CommitNote
from k2.model.dead_share import DeadShare

THEN = datetime(2026, 3, 2, 15, 0, 1, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "note",
    [
        CommitNote(7_311_264_000_000_000_001, 12, THEN, THEN, 500, 3),
        CommitNote(1),
        CommitNote(1, newest=THEN, gaps=0),
        CommitNote(1, dead=DeadShare(612, 12, "price has more than 8 decimals")),
        CommitNote(1, dead=DeadShare()),
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
