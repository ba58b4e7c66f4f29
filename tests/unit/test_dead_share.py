"""How many of the last messages were dead letters, against an account that looks at one message after the other."""

from collections import Counter, deque

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.events import START_US, message_id, trades

from k2.model.codec.decode import Bad, Decoded
from k2.model.dead_share import MANY_IN_A_ROW, WINDOW, DeadShare, percent
from k2.model.events import arrow_schema
from k2.model.reasons import reason_kind
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import DataType
from k2.sink.dead_tracker import DeadTracker, places_among
from k2.sink.held import Holding

REASONS = ("truncated", "price has more than 8 decimals: 1.123456789", "price has more than 8 decimals: 2.987654321")


def see(tracker, batch):
    """Take in a batch, given as the reason of each message, None where it is good."""
    dead = [place for place, reason in enumerate(batch) if reason]
    return tracker.see(len(batch), np.array(dead, dtype=np.int64), [batch[place] for place in dead])


def naive(window, in_a_row, batch):
    """The same, one message after the other."""
    for reason in batch:
        window.append(reason)
        in_a_row = in_a_row + 1 if reason else 0
    kinds = Counter(reason_kind(reason) for reason in window if reason)
    return in_a_row, sum(kinds.values()), kinds


RUNS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from([None, None, *REASONS])), max_size=6)
"""Stretches of messages that are all good or dead for one reason."""


@given(batches=st.lists(RUNS, max_size=6), length=st.integers(1, 60))
def test_the_share_is_that_of_the_last_messages_whatever_the_batches_are(batches, length):
    tracker, window, in_a_row = DeadTracker(length), deque(maxlen=length), 0
    for runs in batches:
        batch = [reason for count, reason in runs for _ in range(count)]
        found = see(tracker, batch)
        in_a_row, dead, kinds = naive(window, in_a_row, batch)
        assert (found.dead, found.in_a_row) == (dead, in_a_row)
        assert kinds[found.kind] == max(kinds.values(), default=0)
        assert sum(tracker.classes.values()) == dead


def test_good_messages_push_the_dead_ones_out():
    tracker = DeadTracker()
    assert see(tracker, ["truncated"] * 101).many
    assert see(tracker, [None] * (WINDOW - 101)).dead == 101
    assert see(tracker, [None]) == DeadShare(100, 0, "truncated")
    assert not tracker.share.many
    assert see(tracker, [None] * WINDOW) == DeadShare()
    assert tracker.classes == {"truncated": 0}  # a gauge goes back to zero


def test_one_dead_letter_of_five_says_nothing_and_a_hundred_and_one_do():
    tracker = DeadTracker()
    assert not see(tracker, [None, None, None, None, "truncated"]).many
    assert not see(tracker, ["truncated"] * 99).many
    assert see(tracker, ["truncated"]).many


def test_a_thousand_in_a_row_are_many_whatever_came_before():
    tracker = DeadTracker()
    see(tracker, [None] * 3 * WINDOW)
    found = see(tracker, ["truncated"] * MANY_IN_A_ROW)
    assert (found.in_a_row, found.many) == (MANY_IN_A_ROW, True)


def test_the_limit_is_above_and_not_at():
    assert not DeadShare(500).above(500)
    assert DeadShare(501).above(500)
    assert not DeadShare(WINDOW).above(None)
    assert not DeadShare().above(0)


def test_what_is_said_names_the_share_the_reason_and_the_command():
    assert DeadShare(1_234, 1_050, "truncated").said("t") == (
        "12 % of the last 10,000 messages of t are dead letters, more than a thousand of them in a row, most of them for one "
        "reason: truncated. `k2 dlq list t` shows them"
    )
    assert "in a row" not in DeadShare(1_234, 1_000, "truncated").said("t")
    assert [percent(count) for count in (1, 101, 250, 1_234, 9_990, 10_000)] == [
        "0.01 %",
        "1 %",
        "2.5 %",
        "12 %",
        "100 %",
        "100 %",
    ]


# --- where a batch's dead letters are among its messages --------------------------------------------------------------


class Block:
    """Messages of one poll; a payload that begins with `!` is no event."""

    def __init__(self, payloads, partitions, first=0):
        self.payloads, self.messages = list(payloads), [None] * len(payloads)
        self.partitions = np.array(partitions, dtype=np.int32)
        self.offsets = np.array([first + sum(p == q for q in partitions[:n]) for n, p in enumerate(partitions)])


def decode(payloads):
    bad = [Bad(place, "truncated") for place, payload in enumerate(payloads) if payload.startswith(b"!")]
    good = np.array([place for place, payload in enumerate(payloads) if not payload.startswith(b"!")], dtype=np.int64)
    events = trades(
        [message_id(payloads[place]) for place in good], symbols=["BHP"] * len(good), times=[START_US] * len(good)
    )
    return Decoded(events, good, bad)


def holding(*partitions):
    fields = [*arrow_schema(DataType.TRADES), pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    held = Holding(decode, pa.schema(fields).empty_table())
    for partition in partitions:
        held.begin(partition, 0)
    return held


@given(data=st.data(), dead=st.lists(st.booleans(), max_size=60))
def test_a_batch_knows_where_its_dead_letters_were_read(data, dead):
    """In pieces that are decoded one by one, with rows that are found to be dead letters later, and a partition that goes."""
    partitions = [data.draw(st.integers(0, 2)) for _ in dead]
    held = holding(0, 1, 2)
    firsts = Counter()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(dead)), max_size=3)))
    for low, high in zip([0, *cuts], [*cuts, len(dead)], strict=True):
        block = Block([b"!" if each else b"." for each in dead[low:high]], partitions[low:high])
        block.offsets += np.array([firsts[p] for p in partitions[low:high]], dtype=np.int64)
        firsts.update(partitions[low:high])
        held.add(block)
        held.decode_pending()
    left = list(zip(dead, partitions, strict=True))
    if data.draw(st.booleans()):
        held.drop({1})
        left = [each for each in left if each[1] != 1]
    assert held.dead == sum(each for each, _ in left)
    batch = held.cut()
    rows = [place for place, (each, _) in enumerate(left) if not each]
    assert len(batch.batch.rows) == len(rows)
    late = sorted(data.draw(st.sets(st.sampled_from(range(len(rows)))))) if rows else []
    before = np.array([each.rows_before for each in batch.poison], dtype=np.int64)
    places, reasons = places_among(before, dict.fromkeys(late, "late"), [each.reason for each in batch.poison])
    expected = {place: "truncated" for place, (each, _) in enumerate(left) if each}
    expected |= {rows[row]: "late" for row in late}
    assert list(zip(places.tolist(), reasons, strict=True)) == sorted(expected.items())


@pytest.mark.parametrize("dead", [[], [3], [0, 1, 2]])
def test_places_without_late_ones_are_as_they_were_read(dead):
    before = np.array([place - n for n, place in enumerate(dead)], dtype=np.int64)
    assert places_among(before, {}, ["x"] * len(dead))[0].tolist() == dead
