"""Items that are taken ahead come in their order, and what goes wrong comes out where they are used."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.lake.upkeep.ahead import ahead


@given(st.lists(st.integers(), max_size=30), st.integers(1, 5))
def test_they_are_the_same_items(items, most):
    assert list(ahead(iter(items), most)) == items


def test_what_is_raised_comes_after_what_was_there():
    def items():
        yield 1
        raise OSError("the store is gone")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="the store is gone"):
        next(found)


def test_no_more_are_taken_than_were_asked_for_and_may_be_held():
    taken, worked = [], threading.Event()

    def items():
        for number in range(100):
            taken.append(number)
            if number == 3:
                worked.set()
            yield number

    found = ahead(items(), most=2)
    assert next(found) == 0
    assert worked.wait(60)
    found.close()
    # One was used, two are held, one waits for room.
    assert len(taken) == 4


def test_who_stops_asking_leaves_no_thread_and_a_closed_generator():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    found = ahead(items())
    next(found)
    found.close()
    assert closed == ["k2-ahead"]
    assert "k2-ahead" not in [each.name for each in threading.enumerate()]
