"""A histogram that takes columns says what Prometheus' own says of the same values, one by one."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from k2.obs.column_histogram import ColumnHistogram

BUCKETS = (0.0, 1.0, 2.5, 60.0)
COLUMNS = ColumnHistogram("k2_test_of_columns_seconds", "Of a test.", ("place",), buckets=BUCKETS)
REGISTRY.unregister(COLUMNS)  # nobody else's
_places = itertools.count()

values = st.lists(st.floats(0, 1e6) | st.sampled_from(BUCKETS), min_size=1, max_size=50)


def samples(families):
    return {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for family in families
        for sample in family.samples
    }


@given(batches=st.lists(values, min_size=1, max_size=4))
def test_it_counts_as_one_that_takes_values_one_by_one(batches):
    place = str(next(_places))
    registry = CollectorRegistry()
    single = Histogram("k2_test_seconds", "Of a test.", buckets=BUCKETS, registry=registry)
    for batch in batches:
        COLUMNS.observe((place,), np.array(batch))
        for value in batch:
            single.observe(value)
    (family,) = COLUMNS.collect()
    found = {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for sample in family.samples
        if sample.labels["place"] == place
    }
    wanted = samples(registry.collect())
    del found["sum", None], wanted["sum", None]  # floats, added in another order
    assert found == {key: value for key, value in wanted.items() if key[0] != "created"}


def test_the_sum_is_that_of_all_values():
    place = str(next(_places))
    COLUMNS.observe((place,), np.array([0.5, 2.5]))
    COLUMNS.observe((place,), np.array([100.0]))
    (family,) = COLUMNS.collect()
    (total,) = [s.value for s in family.samples if s.labels["place"] == place and s.name.endswith("_sum")]
    assert total == 103.0
