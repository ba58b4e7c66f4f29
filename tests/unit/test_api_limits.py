"""What one key and all together may ask: buckets, accounts, turns."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.api.access.keys import KeyLimits
from k2.api.access.limits import Gate, GateLimits, Meter, OverloadedError, RateLimitedError, TokenBucket

DAY = 86_400


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


def meter(at=0.0):
    clock = Clock(at)
    return Meter(clock, clock), clock


def refused(found, *arguments):
    with pytest.raises(RateLimitedError) as raised:
        found.admit(*arguments)
    return raised.value


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=200))
def test_a_bucket_never_gives_more_than_its_size_and_what_came_back(rate, size, pauses):
    bucket, now, taken = TokenBucket(rate, size, size, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= size + rate * now + 1e-6
    assert bucket.take(now + bucket.seconds_to(1) + 1e-6)  # what it says of when there is one again is true


def test_requests_beyond_the_burst_wait_for_tokens_and_the_headers_say_how_long():
    found, clock = meter()
    limits = KeyLimits(requests_per_second=2, burst=3)
    for _ in range(3):
        found.admit("a", limits)()
    error = refused(found, "a", limits)
    assert str(error) == "Too many requests, expected at most 2 a second, 3 at once. Ask again in 1 s."
    assert error.retry_after == 0.5
    assert dict(found.allowance("a", limits).headers()) == {
        b"ratelimit-limit": b"3",
        b"ratelimit-remaining": b"0",
        b"ratelimit-reset": b"2",
        b"ratelimit-policy": b'"requests";q=3;w=2',
        b"ratelimit": b'"requests";r=0;t=2',
    }
    found.admit("b", limits)  # another key has its own
    clock.now += 0.5
    found.admit("a", limits)
    refused(found, "a", limits)


def test_so_many_at_a_time():
    found, _ = meter()
    limits = KeyLimits(concurrent=2)
    ends = [found.admit("a", limits) for _ in range(2)]
    assert str(refused(found, "a", limits)).startswith(
        "Too many requests of this key are under way, expected at most 2"
    )
    ends.pop()()
    found.admit("a", limits)


def test_so_many_rows_a_day_and_midnight_brings_new_ones():
    found, clock = meter(at=10 * DAY + 80_000.0)
    limits = KeyLimits(rows_per_day=100)
    found.admit("a", limits)
    found.count_rows("a", limits, 60)
    assert b'"rows";r=40;t=6400' in dict(found.allowance("a", limits).headers())[b"ratelimit"]
    found.count_rows("a", limits, 60)
    error = refused(found, "a", limits)
    assert error.retry_after == 6_400
    assert "at most 100 rows until 1970-01-12T00:00:00.000000Z" in str(error)
    clock.now += 6_400
    found.admit("a", limits)


def test_changed_limits_hold_at_once_and_what_is_under_way_stays_counted():
    found, _ = meter()
    end = found.admit("a", KeyLimits(concurrent=2))
    assert refused(found, "a", KeyLimits(concurrent=1))
    end()
    found.admit("a", KeyLimits(concurrent=1))


# --- turns -----------------------------------------------------------------------------------------------------------


def gate(**limits):
    return Gate(GateLimits(**{"wait_seconds": 600} | limits))


def test_those_beyond_wait_and_those_beyond_these_are_refused_at_once():
    async def story():
        turns = gate(running=2, waiting=1)
        first = await turns.enter("a")
        await turns.enter("a")
        third = asyncio.create_task(turns.enter("a"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1 requests wait already"):
            await turns.enter("b")
        assert not third.done()
        first.end()
        (await third).end()
        (await turns.enter("b")).end()

    asyncio.run(story())


def test_a_request_that_waited_too_long_is_refused_and_leaves_its_place():
    async def story():
        turns = gate(running=1, waiting=1, wait_seconds=0.02)
        first = await turns.enter("a")
        for _ in range(3):
            with pytest.raises(OverloadedError, match=r"waited 0.02 s and was not begun"):
                await turns.enter("b")
        first.end()
        (await turns.enter("b")).end()

    asyncio.run(story())


def test_the_next_turn_is_of_the_key_that_has_the_fewest():
    async def story():
        turns, order = gate(running=2, waiting=20), []

        async def ask(key):
            turn = await turns.enter(key)
            order.append(key)
            await asyncio.sleep(0.001)
            turn.end()

        busy = [await turns.enter("many") for _ in range(2)]
        tasks = [asyncio.create_task(ask("many")) for _ in range(6)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(ask("few")))
        await asyncio.sleep(0)
        busy[0].end()
        busy[1].end()
        await asyncio.gather(*tasks)
        assert order.index("few") == 0

    asyncio.run(story())


def test_an_answer_that_is_being_sent_holds_no_turn_but_there_are_only_so_many():
    async def story():
        turns = gate(running=1, waiting=0, sending=1)
        first = await turns.enter("a")
        first.answer_begins()
        with pytest.raises(OverloadedError, match="As many answers as can be are being sent"):
            await turns.enter("a")
        first.end()
        first.end()  # twice is once
        (await turns.enter("a")).end()
        (await turns.enter("a")).end()

    asyncio.run(story())


def test_a_cancelled_request_gives_its_place_and_its_turn_back():
    async def story():
        turns = gate(running=1, waiting=2)
        first = await turns.enter("a")
        waiting = asyncio.create_task(turns.enter("a"))
        await asyncio.sleep(0)
        first.end()  # its turn comes in the same moment
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (await asyncio.wait_for(turns.enter("b"), 1)).end()

    asyncio.run(story())
