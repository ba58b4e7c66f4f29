"""What the stand-in exchange does to messages and to subscriptions: what its name says, and nothing else."""

from __future__ import annotations

import json

import aiohttp
import pytest
from k2_testing.exchange import Fault
from k2_testing.exchange_client import all_heard, drive, heard, numbers


def spoiled(still, fault, trades=6, **options):
    """What of trades should be heard, and what is after a fault happened to the first."""

    async def work(client):
        async with await client.stream(autoping=False) as stream:
            still.inject(fault, **options)
            made = still.trade(trades)
            await stream.ping(b"end")
            said = []
            while (message := await heard(stream)).type is not aiohttp.WSMsgType.PONG:
                said.append(message.data)
                if message.type is aiohttp.WSMsgType.ERROR:
                    break
            return made, said

    made, said = drive(still, work)
    return [(still.symbols[trade.listing], trade.number) for trade in made], said


def whole(said):
    return numbers(map(json.loads, said))


def test_dropped_messages_leave_a_hole(still):
    made, said = spoiled(still, Fault.DROPPED, times=2)
    assert whole(said) == made[2:]


def test_repeated_and_swapped_messages_are_whole(still):
    made, said = spoiled(still, Fault.REPEATED, times=2)
    assert whole(said) == [made[0], made[0], made[1], made[1], *made[2:]]
    made, said = spoiled(still, Fault.SWAPPED)
    assert whole(said) == [made[1], made[0], *made[2:]]


def test_a_message_is_cut_and_the_next_is_whole(still):
    made, said = spoiled(still, Fault.CUT_JSON)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(said[0])
    assert whole(said[1:]) == made[1:]


def test_broken_utf8_is_what_no_client_can_read(still):
    _, said = spoiled(still, Fault.BROKEN_UTF8)
    assert isinstance(said[0], Exception)
    assert still.counts.faults[Fault.BROKEN_UTF8] >= 1


@pytest.mark.parametrize("fault", [Fault.HUGE_FRAME, Fault.HTML_MESSAGE, Fault.UNKNOWN_EVENT])
def test_a_message_that_nobody_knows_comes_between_those_that_are_whole(still, fault):
    made, said = spoiled(still, fault)
    assert whole(said[1:]) == made
    if fault is Fault.HTML_MESSAGE:
        assert said[0].startswith("<html>")
    else:
        assert json.loads(said[0])["data"]["e"] == "tradeCorrected"
        assert (len(said[0]) >= 10_000_000) == (fault is Fault.HUGE_FRAME)


def test_a_field_more_and_a_price_as_a_number_change_nothing_else(still):
    made, said = spoiled(still, Fault.NEW_FIELD)
    assert whole(said) == made
    first, second = (json.loads(message)["data"] for message in said[:2])
    assert set(first) - set(second) == {"addedLater"}
    made, said = spoiled(still, Fault.NUMBER_FOR_STRING)
    assert whole(said) == made
    assert [type(json.loads(message)["data"]["p"]) for message in said[:2]] == [float, str]


def test_the_last_trades_come_once_more(still):
    still.trade(3)
    last = {(still.symbols[n], t.number) for n in range(3) for t in still.call(lambda s, n=n: s.market.newest(n, 100))}
    made, said = spoiled(still, Fault.SNAPSHOT_AGAIN)
    assert whole(said)[-len(made) :] == made
    assert set(whole(said)[: -len(made)]) == last


def test_a_subscription_is_slow_refused_or_deaf(still):
    ask = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}

    async def work(client):
        async with await client.stream("/ws", autoping=False) as stream:
            still.inject(Fault.REFUSED_SUBSCRIPTION)
            await stream.send_json(ask)
            assert (await all_heard(stream, 1))[0]["code"] == 2
            still.inject(Fault.SLOW_SUBSCRIPTION, seconds=0.2)
            await stream.send_json(ask)
            await stream.ping()
            assert (await heard(stream)).type is aiohttp.WSMsgType.PONG
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]
        async with await client.stream("/stream") as stream:
            still.inject(Fault.DEAF_SUBSCRIPTION)
            await stream.send_json(ask)
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]
            still.trade(30)
            await stream.send_json(ask | {"params": ["ethusdt@trade"]})
            assert await all_heard(stream, 1) == [{"result": None, "id": 1}]

    drive(still, work)
