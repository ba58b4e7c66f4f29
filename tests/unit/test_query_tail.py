"""A tail's memory: what it may hold is given back whole, whenever it is released."""

import numpy as np
import pytest
from k2_testing.events import START_US, message_id, trades

from k2.lake.scan import SnapshotFiles
from k2.model.topics import DataType
from k2.query.tail.table_tail import Budget, Known, TableTail, with_lineage


def rows(first, count):
    numbers = range(first, first + count)
    events = trades([message_id(0, n) for n in numbers], symbols=["BHP"] * count, times=[START_US + n for n in numbers])
    return with_lineage(events, "topic-1", np.zeros(count, np.int32), np.arange(first, first + count))


@pytest.mark.parametrize("meanwhile", [False, True], ids=["before", "while rows come in"])
def test_a_tail_that_is_released_holds_nothing_of_the_budget(meanwhile):
    budget = Budget(1_000_000)

    def in_files(_, batch, __):
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
