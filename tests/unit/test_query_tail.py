"""A tail's memory: what it may hold is given back whole, whenever it is released, and it holds what the sinks will keep."""

import numpy as np
import pyarrow as pa
import pytest
from k2_testing.events import START_US, message_id, trades

from k2.lake.scan import SnapshotFiles
from k2.model.feed_rules import FeedRules
from k2.model.topics import DataType
from k2.query.rows.tail_blocks import Reach, block_of
from k2.query.rows.tail_view import Tail, TailView
from k2.query.rows.visibility import EVERYTHING, Sight
from k2.query.tail.table_tail import Budget, Known, TableTail, with_lineage

KEEP = FeedRules(keeps_duplicates=True)


def rows(first, count, offset=None):
    """Trades of these numbers, read from `offset` on (or from the first's number)."""
    numbers, begin = range(first, first + count), first if offset is None else offset
    times = [START_US + n for n in numbers]
    events = trades([message_id(0, n) for n in numbers], symbols=["BHP"] * count, times=times)
    return with_lineage(events, "topic-1", np.zeros(count, np.int32), np.arange(begin, begin + count))


def places(number, count):
    return np.full(count, number, np.int32)


def tail_of(in_files=lambda _, batch, *__: np.zeros(batch.rows.num_rows, dtype=bool), begun=(0, 1)):
    tail = TableTail(DataType.TRADES, Budget(1_000_000), in_files, Known({}, SnapshotFiles([])))
    for place in begun:
        tail.begin(place, 0)
    return tail


def read_at(tail, starts):
    """(Place, offset) of each row from these offsets on."""
    view = tail.view(starts)
    there = [at for block in view.blocks for at in zip(block.places.tolist(), block.offsets.tolist(), strict=True)]
    return sorted(at for at in there if at[1] >= starts[at[0]] and at not in view.reach.without)


@pytest.mark.parametrize("meanwhile", [False, True], ids=["before", "while rows come in"])
def test_a_tail_that_is_released_holds_nothing_of_the_budget(meanwhile):
    budget = Budget(1_000_000)

    def in_files(_, batch, *__):
        if meanwhile:
            tail.close()
        return np.zeros(batch.rows.num_rows, dtype=bool)

    tail = TableTail(DataType.TRADES, budget, in_files, Known({}, SnapshotFiles([])))
    tail.begin(0, 0)
    tail.insert(rows(0, 10), np.zeros(10, np.int32), {0: 10})
    assert (budget.used > 0) is not meanwhile
    tail.close()
    assert budget.used == 0
    tail.insert(rows(10, 10), np.zeros(10, np.int32), {0: 20})  # its follower has not noticed yet
    assert budget.used == 0


def test_duplicates_are_kept_of_a_topic_whose_feed_keeps_them_and_of_no_other():
    tail = tail_of()
    tail.insert(rows(0, 3), places(0, 3), {0: 3}, KEEP)
    tail.insert(rows(0, 3, offset=3), places(0, 3), {0: 6}, KEEP)
    tail.insert(rows(1, 4, offset=0), places(1, 4), {1: 4})  # 1 and 2 are there, 3 and 4 are new
    kept = [(0, offset) for offset in range(6)]
    assert read_at(tail, {0: 0, 1: 0}) == [*kept, (1, 2), (1, 3)]
    # The other sink has committed what the tail left out: what is kept in any case stays all the same.
    assert read_at(tail, {0: 0, 1: 4}) == kept


def test_of_two_topics_whose_feeds_drop_duplicates_the_one_that_is_committed_first_has_the_event():
    tail = tail_of()
    tail.insert(rows(0, 3), places(0, 3), {0: 3})
    tail.insert(rows(1, 4, offset=0), places(1, 4), {1: 4})
    assert read_at(tail, {0: 0, 1: 0}) == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 3)]
    assert read_at(tail, {0: 0, 1: 4}) == [(0, 0)]


def test_files_are_asked_within_the_feeds_tolerance():
    asked = []

    def in_files(_, batch, __, tolerance_us):
        asked.append(tolerance_us)
        return np.zeros(batch.rows.num_rows, dtype=bool)

    tail = tail_of(in_files)
    tail.insert(rows(0, 3), places(0, 3), {0: 3}, FeedRules(tolerance_us=250_000))
    tail.insert(rows(3, 3), places(0, 3), {0: 6}, KEEP)
    tail.insert(rows(6, 3), places(0, 3), {0: 9})
    assert asked == [250_000, 1_000_000]


def test_a_tail_that_was_closed_gives_no_view_that_lacks_what_it_held():
    tail = tail_of()
    tail.insert(rows(0, 3), places(0, 3), {0: 3})
    tail.close()
    assert tail.view({0: 0}) is None


def test_symbols_of_a_tail_are_those_that_may_be_seen_of_the_exchange():
    parts = []
    for exchange, ticks in (("ASX", [("BHP", 0), ("OLD", 10)]), ("NYSE", [("BHP", 30), ("IBM", 20)])):
        symbols, at = zip(*ticks, strict=True)
        ids, times = [message_id(exchange, n) for n in range(2)], [START_US + us for us in at]
        parts.append(pa.Table.from_batches([trades(ids, symbols=symbols, times=times, exchange=exchange)]))
    events = pa.concat_tables(parts).combine_chunks().to_batches()[0]
    rows = with_lineage(events, "topic-1", np.zeros(4, np.int32), np.arange(4))
    block = block_of(rows, places(0, 4), np.arange(4), DataType.TRADES)
    tail = Tail(TailView((block,), Reach({}, {})), ())
    assert tail.symbols(None, EVERYTHING) == {"BHP", "IBM", "OLD"}
    assert tail.symbols("ASX", EVERYTHING) == {"BHP", "OLD"}
    assert tail.symbols("LSE", EVERYTHING) == set()
    assert tail.symbols(None, Sight(symbols=frozenset({"IBM"}))) == {"IBM"}
    assert tail.symbols(None, Sight(exchanges=frozenset({"ASX"}))) == {"BHP", "OLD"}
    assert tail.symbols("NYSE", Sight(exchanges=frozenset({"ASX"}))) == set()
    assert tail.symbols("ASX", Sight(oldest_us=START_US + 5)) == {"OLD"}, "its row of ASX is older"
    assert tail.symbols(None, Sight(oldest_us=START_US + 15)) == {"BHP", "IBM"}
