import uuid

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2.model.ids import NAMESPACE, hex_ids, id_keys, message_id, message_ids
from k2.model.topics import DataType

TEXT = st.text(max_size=30)


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 10**6)), max_size=20), st.sampled_from(list(DataType)))
def test_columns_of_ids_equal_uuid5_of_the_same_names(rows, data_type):
    symbols = pa.array([symbol for symbol, _, _ in rows], pa.string())
    sources = pa.array([source for _, source, _ in rows], pa.string())
    numbers = np.array([n for _, _, n in rows], dtype=np.int64)
    plain = message_ids(data_type, "ASX", symbols, sources)
    counted = message_ids(data_type, "ASX", symbols, sources, numbers)
    assert [uuid.UUID(bytes=value) for value in plain.to_pylist()] == [
        uuid.uuid5(NAMESPACE, f"{data_type}\x1fASX\x1f{symbol}\x1f{source}") for symbol, source, _ in rows
    ]
    assert [uuid.UUID(bytes=value) for value in counted.to_pylist()] == [
        message_id(data_type, "ASX", symbol, source, n) for symbol, source, n in rows
    ]


@given(TEXT, st.lists(TEXT, max_size=20))
def test_one_symbol_for_all_rows_gives_the_same_ids_as_one_each(symbol, sources):
    ids = pa.array(sources, pa.string())
    each = pa.array([symbol] * len(sources), pa.string())
    assert message_ids(DataType.TRADES, "NYSE", symbol, ids).equals(message_ids(DataType.TRADES, "NYSE", each, ids))


def test_ids_of_a_slice_are_those_of_its_rows():
    sources = pa.array(["a", "bb", "ccc", "dddd"])
    whole = message_ids(DataType.QUOTES, "ASX", "BHP", sources)
    assert message_ids(DataType.QUOTES, "ASX", "BHP", sources.slice(1, 2)).equals(whole.slice(1, 2))
    assert hex_ids(whole.slice(1, 2)).to_pylist() == [uuid.UUID(bytes=v).hex[:16] for v in whole.to_pylist()[1:3]]
    assert id_keys(whole.slice(2)).tolist() == id_keys(whole).tolist()[2:]


def test_ids_are_fixed_for_ever():
    # A change here is a change of every id in every table: bump nothing, mend the code.
    assert str(message_id(DataType.TRADES, "ASX", "BHP", "T1")) == str(
        uuid.uuid5(uuid.UUID("8f0e9a52-6c1d-5b7e-9d43-2b6a1f0c7e11"), "trades\x1fASX\x1fBHP\x1fT1")
    )
