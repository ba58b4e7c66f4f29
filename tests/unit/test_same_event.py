"""One event is one row and two are two, however finely each way tells the time: on a real catalog, over real files."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.extent import sized
from k2_testing.lake import TRADES, held, make_lake

from k2.lake.appends.batch import Batch, OrderedBatch
from k2.lake.appends.commit import Committer
from k2.lake.appends.same_event import alike, coarseness, repeats_within
from k2.lake.proof.audit import audit_table
from k2.model.feed_rules import FeedRules
from k2.model.topics import DataType

SECOND, DAY = 1_000_000, 86_400_000_000
MIDNIGHT = START_US // DAY * DAY + DAY


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


class Feeding:
    """A sink's committer, given trades of BHP by (id, time) or (id, time, price), with the offsets that come next."""

    def __init__(self, catalog, **options) -> None:
        self.buried = []
        self.committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, bury=self.buried.extend, **options)
        self.next = self.committer.start_offsets().get(0, 0)

    def __call__(self, *told, symbols=None, sides=None):
        start, self.next = self.next, self.next + len(told)
        events = trades(
            [message_id(each[0]) for each in told],
            symbols=symbols or ["BHP"] * len(told),
            times=[each[1] for each in told],
            trade_ids=[str(each[0]) for each in told],
            prices=[Decimal(str(each[2] if len(each) > 2 else 10)) for each in told],
        )
        rows = with_lineage(events, [0] * len(told), range(start, self.next))
        if sides is not None:
            rows = rows.set_column(rows.column_names.index("side"), "side", pa.array(sides))
        return self.committer.commit(Batch(rows, {0: (start, self.next)}, {}))


def times_held(catalog):
    return sorted(catalog.load_table(TRADES).scan().to_arrow().column("timestamp").cast(pa.int64()).to_pylist())


def restarted(feeding):
    return Feeding(feeding.committer.catalog)


# --- one event told more than once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_process", [False, True])
def test_an_event_told_in_milliseconds_later_is_the_one_told_in_microseconds_before(catalog, new_process):
    feed = Feeding(catalog)
    feed(("a", START_US + 200_789))
    again = restarted(feed) if new_process else feed
    done = again(("a", START_US + 200_000))
    assert (done.rows, done.duplicates, done.dead_rows) == (0, 1, 0)
    assert times_held(catalog) == [START_US + 200_789]


def test_across_commits_the_row_that_is_there_stays_even_where_it_is_the_coarser(catalog):
    feed = Feeding(catalog)
    feed(("a", START_US + 200_000))
    assert feed(("a", START_US + 200_789)).duplicates == 1
    assert times_held(catalog) == [START_US + 200_000]


def test_within_a_batch_the_finest_time_stays_and_of_equals_the_one_read_first(catalog):
    feed = Feeding(catalog)
    fine = START_US + 200_789
    done = feed(
        ("a", START_US + 200_000), ("a", fine), ("b", START_US + 7_000), ("a", fine + 2), ("b", START_US + 3_000)
    )
    assert (done.rows, done.duplicates) == (2, 3)
    assert times_held(catalog) == [START_US + 7_000, fine]


@pytest.mark.parametrize("new_process", [False, True])
def test_midnight_between_the_two_times_makes_no_difference(catalog, new_process):
    feed = Feeding(catalog)
    feed(("before", MIDNIGHT - 300), ("other", MIDNIGHT - 5 * SECOND))
    again = restarted(feed) if new_process else feed
    assert again(("before", MIDNIGHT)).duplicates == 1
    assert times_held(catalog) == [MIDNIGHT - 5 * SECOND, MIDNIGHT - 300]


def test_the_tolerance_is_the_feeds_and_zero_means_the_very_instant(catalog):
    feed = Feeding(catalog, rules=FeedRules(tolerance_us=0))
    feed(("a", START_US + 1))
    assert feed(("a", START_US)).rows == 1
    wide = Feeding(catalog, rules=FeedRules(tolerance_us=60 * SECOND))
    assert wide(("a", START_US + 50 * SECOND)).duplicates == 1


def test_one_id_at_two_symbols_is_two_events(catalog):
    feed = Feeding(catalog)
    feed(("a", START_US))
    assert feed(("a", START_US), symbols=["CBA"]).rows == 1


def test_a_side_that_one_source_does_not_tell_contradicts_nothing(catalog):
    feed = Feeding(catalog)
    feed(("a", START_US), ("b", START_US), sides=["BUY", "UNKNOWN"])
    assert feed(("a", START_US), ("b", START_US), sides=["UNKNOWN", "SELL"]).duplicates == 2
    assert feed(("a", START_US), sides=["SELL"]).dead_rows == 1


@settings(max_examples=sized(40, 400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(st.tuples(st.integers(0, 11), st.booleans()), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    fresh=st.booleans(),
)
def test_events_told_in_two_ways_are_each_there_once_however_they_are_split(tmp_path_factory, told, cuts, fresh):
    """Every event n has one true time, around a midnight; one way tells it in µs, the other in ms."""
    catalog = make_lake(tmp_path_factory.mktemp("lake"))
    true = {n: MIDNIGHT + (n - 6) * 700_000 + 123 * n + 1 for n in range(12)}
    feed = Feeding(catalog)
    edges = sorted({0, len(told), *(cut for cut in cuts if cut < len(told))})
    total = Counter()
    for start, stop in pairwise(edges):
        feed = restarted(feed) if fresh else feed
        part = [(n, true[n] if in_micros else true[n] // 1000 * 1000) for n, in_micros in told[start:stop]]
        done = feed(*part)
        total.update(rows=done.rows, duplicates=done.duplicates, conflicts=done.dead_rows)
    ids = catalog.load_table(TRADES).scan().to_arrow().column("message_id").to_pylist()
    assert sorted(each.bytes for each in ids) == sorted({message_id(n) for n, _ in told})
    assert (total["rows"], total["conflicts"]) == (len({n for n, _ in told}), 0)
    assert total["rows"] + total["duplicates"] == len(told)


# --- two events under one id --------------------------------------------------------------------------------------------


def reasons(feed):
    return [each.reason for each in feed.buried]


def test_two_events_under_one_id_in_one_batch_are_one_row_and_a_dead_letter_with_both_places(catalog):
    feed = Feeding(catalog)
    done = feed((7, START_US + 3, "1.00"), (7, START_US + 4, "2.00"), (7, START_US + DAY + 3, "1.00"))
    assert (done.rows, done.duplicates, done.dead_rows) == (1, 0, 2)
    assert [(each.partition, each.offset) for each in feed.buried] == [(0, 1), (0, 2)]
    taken, first = "trade id 7 of BHP is another event's already", f"at {ORIGIN.topic}/0/0"
    here, there = "timestamp 2014-03-10T23:00:00.000003Z", "timestamp 2014-03-09T23:00:00.000003Z"
    assert reasons(feed) == [f"{taken}: price 2 here, price 1 {first}", f"{taken}: {here} here, {there} {first}"]
    assert held(catalog) == {(0, 0): 1}


@pytest.mark.parametrize("new_process", [False, True])
def test_an_event_under_the_id_of_one_in_the_table_is_a_dead_letter(catalog, new_process):
    feed = Feeding(catalog)
    feed((1, START_US, 5), (7, START_US + 10, "2.50"))
    feed = restarted(feed) if new_process else feed
    done = feed((7, START_US + 10, "2.75"), (8, START_US + 11, 5))
    assert (done.rows, done.duplicates, done.dead_rows) == (1, 0, 1)
    assert reasons(feed) == [
        f"trade id 7 of BHP is another event's already: price 2.75 here, price 2.5 at {ORIGIN.topic}/0/1"
    ]


def test_conflicts_are_counted_so_that_the_audit_still_adds_up(catalog):
    feed = Feeding(catalog)
    feed((1, START_US, 5), (1, START_US, 6), (2, START_US, 5))
    feed((2, START_US, 5), (2, START_US, 7), (3, START_US, 5))
    audit = audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 6}})
    (part,) = audit.partitions
    assert audit.ok
    assert (part.rows, part.offsets.duplicates, part.offsets.dead_letters, part.offsets.non_records) == (3, 1, 2, 0)


def test_a_conflict_is_buried_before_the_commit_that_moves_past_it(catalog):
    seen = []
    committer = Committer(
        catalog,
        TRADES,
        ORIGIN,
        DataType.TRADES,
        bury=lambda conflicts: seen.append((len(conflicts), held(catalog))),
    )
    events = trades([message_id(1)] * 2, symbols=["BHP"] * 2, times=[START_US] * 2, prices=[Decimal(1), Decimal(2)])
    committer.commit(Batch(with_lineage(events, [0] * 2, range(2)), {0: (0, 2)}, {}))
    assert seen == [(1, Counter())]


def test_what_was_a_conflict_is_one_again_when_it_is_read_again_and_nothing_is_added(catalog):
    told = [(1, START_US, 5), (1, START_US, 6), (2, START_US, 5), (2, START_US + DAY, 5)]
    feed = Feeding(catalog)
    feed(*told)
    before = held(catalog)
    again = restarted(feed)
    done = again(*told)
    assert (done.rows, done.duplicates, done.dead_rows) == (0, 2, 2)
    assert held(catalog) == before


def test_two_rows_of_one_id_that_the_table_has_from_before_are_both_known(catalog):
    old = Feeding(catalog, rules=FeedRules(tolerance_us=0))
    old((1, START_US, 5), (2, START_US, 5))
    old((1, START_US + 5, 6))
    feed = restarted(old)
    done = feed((1, START_US, 5), (1, START_US + 5, 6))
    assert (done.rows, done.duplicates, done.dead_rows) == (0, 2, 0)


def test_all_rows_of_one_event_have_one_fate(catalog):
    """The coarser of two is near the table's row and the finer just beyond the tolerance: none is added for that."""
    feed = Feeding(catalog)
    feed((1, START_US))
    done = restarted(feed)((1, START_US + SECOND), (1, START_US + SECOND + 789))
    assert (done.rows, done.duplicates) == (0, 2)


# --- what it costs ------------------------------------------------------------------------------------------------------


def test_a_live_feed_with_jitter_within_the_tolerance_reads_no_file(catalog):
    feed = Feeding(catalog)
    for number in range(5):
        begins = START_US + number * 3 * SECOND - (SECOND // 2 if number else 0)
        feed(*((f"{number}/{n}", begins + n * 100_000) for n in range(35)))
    assert feed.committer.known.files_read == 0


def test_of_a_large_file_only_the_row_groups_that_overlap_are_read(catalog):
    with catalog.load_table(TRADES).transaction() as transaction:
        transaction.set_properties({"write.parquet.row-group-limit": "100"})
    feed = Feeding(catalog)
    symbols = [symbol for symbol in ("AAA", "BHP", "CBA") for _ in range(1000)]
    feed(*((n, START_US + n % 1000 * SECOND) for n in range(3000)), symbols=symbols)
    again = restarted(feed)
    done = again(*((1000 + n, START_US + n * SECOND) for n in range(500, 600)))
    assert (done.duplicates, done.rows) == (100, 0)
    assert again.committer.known.groups_read <= 3


# --- the parts ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3_000_000), st.integers(1, 2)), max_size=40))
def test_repeats_of_a_batch_are_those_of_plain_python(drawn):
    base = START_US
    table = with_lineage(
        trades(
            [message_id(n) for n, _, _ in drawn],
            symbols=["BHP"] * len(drawn),
            times=[base + time for _, time, _ in drawn],
            sequence=[None] * len(drawn),
            prices=[Decimal(price) for _, _, price in drawn],
        ),
        [0] * len(drawn),
        range(len(drawn)),
    )
    ordered = OrderedBatch(table, DataType.TRADES)
    repeats = repeats_within(ordered, DataType.TRADES)
    read = ordered.order.tolist()
    stays, conflicts = set(), set()
    for n in {n for n, _, _ in drawn}:
        rows = [i for i, each in enumerate(drawn) if each[0] == n]
        _, time, price = drawn[rows[0]]
        told = [i for i in rows if abs(drawn[i][1] - time) <= SECOND and drawn[i][2] == price]
        conflicts |= set(rows) - set(told)
        zeros = {i: len(digits := f"{drawn[i][1]:07d}"[-6:]) - len(digits.rstrip("0")) for i in told}
        stays.add(min(told, key=lambda i: (zeros[i], i)))
    left_out = {read[place] for place in repeats.left_out.tolist()}
    assert left_out == set(range(len(drawn))) - stays
    assert {read[place] for place in repeats.rows[~repeats.same].tolist()} == conflicts


def test_how_coarse_a_time_is():
    times = np.array([START_US + 123_456, START_US + 123_450, START_US + 123_000, START_US])
    assert coarseness(times).tolist() == [0, 1, 3, 6]


def test_decimals_of_two_scales_and_nulls_are_compared_by_value():
    narrow = pa.table({"bid_price": pa.array([Decimal("1.5"), Decimal("1.5"), None, None], pa.decimal128(18, 8))})
    wide = pa.table(
        {"bid_price": pa.array([Decimal("1.5"), Decimal("1.50000000001"), None, Decimal(1)], pa.decimal128(38, 18))}
    )
    assert alike(narrow, wide).tolist() == [True, False, True, False]
