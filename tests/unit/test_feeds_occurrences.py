from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.formats.occurrences import Occurrences

ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(0, 2)), max_size=120)


def _key(symbol, time, value):
    return hash((symbol, time, value)) & (2**64 - 1)


def _counted(rows, size, memory_keys, directory):
    found = []
    with Occurrences(memory_keys, directory) as occurrences:
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            found += occurrences.count(
                pa.array([f"S{symbol}" for symbol, _, _ in batch]),
                np.array([time for _, time, _ in batch], dtype=np.int64),
                np.array([_key(*row) for row in batch], dtype=np.uint64),
            ).tolist()
        return found, occurrences.out_of_order, occurrences.surplus


@given(ROWS, st.integers(1, 30), st.integers(1, 40), st.booleans())
def test_occurrences_equal_a_naive_count_in_any_order_and_batch_size(rows, size, memory_keys, ordered):
    rows = sorted(rows) if ordered else rows
    seen, latest, expected, disorder = Counter(), {}, [], 0
    for row in rows:
        expected.append(seen[row])
        seen[row] += 1
        disorder += row[1] < latest.get(row[0], row[1])
        latest[row[0]] = max(latest.get(row[0], row[1]), row[1])
    found, out_of_order, surplus = _counted(rows, size, memory_keys, None)
    assert found == expected
    assert out_of_order == disorder
    assert surplus == len(rows) - len(set(rows))


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_many_spilled_runs_still_count_exactly(order, tmp_path):
    rng = np.random.default_rng(7)
    rows = [(0, int(t), int(v)) for t, v in zip(rng.integers(0, 4000, 60_000), rng.integers(0, 3, 60_000), strict=True)]
    if order == "forward":
        rows.sort(key=lambda row: row[1])
    elif order == "backward":
        rows.sort(key=lambda row: -row[1])
    seen, expected = Counter(), []
    for row in rows:
        expected.append(seen[row])
        seen[row] += 1
    found, _, _ = _counted(rows, 500, 700, tmp_path)
    assert found == expected
    assert list(tmp_path.iterdir()) == []
