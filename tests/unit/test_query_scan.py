"""Choosing a snapshot's files by the bounds in its manifests."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from k2.lake.scan import DataFileRef, DeleteFileRef, SnapshotFiles, _Entry, _with_deletes

NAME = st.text("ABÉz", max_size=3)
BOUNDS = st.none() | st.tuples(NAME, NAME).map(lambda pair: tuple(sorted(pair, key=str.encode)))
FILE = st.builds(
    lambda number, start, length, symbols, exchanges: DataFileRef(
        f"f{number}", 1, 1, start, start + length, symbols or (None, None), exchanges or (None, None)
    ),
    st.integers(),
    st.integers(-50, 50),
    st.integers(0, 30),
    BOUNDS,
    BOUNDS,
)


def within(value, bounds):
    lower, upper = bounds
    return (lower is None or lower.encode() <= value.encode()) and (upper is None or value.encode() <= upper.encode())


@given(
    st.lists(FILE, max_size=12),
    st.none() | st.integers(-60, 60),
    st.none() | st.integers(-60, 60),
    st.none() | st.lists(NAME, max_size=4),
    st.none() | st.lists(NAME, max_size=2),
)
def test_no_file_that_may_hold_a_row_is_left_out_and_no_other_is_kept(files, start, end, symbols, exchanges):
    expected = {
        id(file)
        for file in files
        if (start is None or file.end_us >= start)
        and (end is None or file.start_us < end)
        and (symbols is None or any(within(symbol, file.symbols) for symbol in symbols))
        and (exchanges is None or any(within(exchange, file.exchanges) for exchange in exchanges))
    }
    found = SnapshotFiles(files).select(symbols=symbols, start_us=start, end_us=end, exchanges=exchanges)
    assert {id(file) for file in found} == expected
    assert [file.start_us for file in found] == sorted(file.start_us for file in found)


def test_one_exchange_is_proven_only_by_bounds_that_cannot_have_been_cut():
    file = DataFileRef("f", 1, 1, 0, 0, (None, None), ("ASX", "ASX"))
    assert file.exchange == "ASX"
    assert replace(file, exchanges=("ASX", "NYSE")).exchange is None
    assert replace(file, exchanges=("A" * 16, "A" * 16)).exchange is None
    assert replace(file, exchanges=(None, None)).exchange is None


def test_a_delete_file_applies_to_the_data_that_the_format_says():
    data = _Entry(DataFileRef("f", 1, 1, 0, 0, (None, None), (None, None)), (0, "(1,)"), 5)

    def applies(partition, sequence, *fields, targets=(None, None)):
        delete = DeleteFileRef("d", fields)
        found = _with_deletes(data, [_Entry(data.file, partition, sequence, delete, targets)])
        return found.deletes == (delete,)

    assert applies((0, "(1,)"), 5)
    assert not applies((0, "(1,)"), 4)
    assert not applies((0, "(2,)"), 9)
    assert applies((0, "(1,)"), 5, targets=("e", "g"))
    assert not applies((0, "(1,)"), 5, targets=("g", "h"))
    assert not applies((0, "(1,)"), 5, targets=("d", "e"))
    assert applies((0, "(1,)"), 6, 3)
    assert not applies((0, "(1,)"), 5, 3)
    assert applies((1, "()"), 6, 3)
    assert not applies((0, "(2,)"), 6, 3)
