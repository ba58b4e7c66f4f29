"""What hears an exchange, without one: waits, limits, what is chosen of a listing, what is silent, and the way between the threads."""

import asyncio
import threading
import time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.live.handover import Handover, together
from k2.feeds.live.listing import chosen
from k2.feeds.live.pace import EvenPace, RetryWaits
from k2.feeds.live.streams import StreamWatch
from k2.feeds.venues.registry import VENUES
from k2.feeds.venues.venue import Instrument, Unreadable
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.sources import SymbolSelection, VenueSource
from k2.model.topics import DataType
from k2.model.venues import NUMBERED

TRADES, QUOTES = DataType.TRADES, DataType.QUOTES


def test_every_venue_that_a_person_can_name_is_there_and_said_to_prove_what_it_proves():
    names = VenueSource.model_json_schema()["properties"]["venue"]
    assert set(VENUES) == set(NUMBERED) == set(names.get("enum", [names.get("const")]))
    for name, made in VENUES.items():
        assert made.name == name
        assert (made.numbering == "consecutive") is NUMBERED[name]


# --- waits --------------------------------------------------------------------------------------------------------------


def test_waits_double_up_to_a_minute_and_begin_anew_only_when_it_worked():
    backoff = RetryWaits(0.25, 60.0, random_part=lambda: 1.0)
    assert [backoff.failed() for _ in range(10)] == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    backoff.worked()
    assert backoff.failed() == 0.25


@given(st.integers(0, 5_000), st.floats(0, 1))
def test_a_wait_is_any_part_of_its_bound_for_ever(failures, part):
    backoff = RetryWaits(0.25, 60.0, random_part=lambda: part)
    backoff.failures = failures
    assert 0 <= backoff.failed() <= 60


def test_a_pace_is_kept_by_whoever_waits_for_a_turn():
    async def turns():
        pace = EvenPace(a_second=50, at_once=2)
        began = time.monotonic()
        for _ in range(6):
            await pace.turn()
        return time.monotonic() - began

    # Two at once, and four that wait 20 ms each.
    assert asyncio.run(turns()) >= 0.079


# --- a listing ----------------------------------------------------------------------------------------------------------


def listed(symbol, quote="USDT", trading=True, tick="0.01", lot="0.001", volume=None):
    base, status = symbol.removesuffix(quote), "TRADING" if trading else "BREAK"
    return Instrument(symbol, base, quote, trading, status, Decimal(tick), Decimal(lot), volume)


LISTING = [
    listed("BTCUSDT", volume=Decimal(9)),
    listed("ETHUSDT", volume=Decimal(8)),
    listed("ETHBTC", "BTC"),
    listed("LUNAUSDT", trading=False),
    listed("BNBUSDT", volume=Decimal(30)),
    listed("PEPEUSDT", tick="0.0000000001"),
]


def choose(asked, before=(), decimals=Decimals.STANDARD, listing=LISTING):
    return chosen("binance", asked, listing, decimals, before)


def test_named_symbols_are_heard_in_their_order_with_the_currency_of_their_prices():
    found = choose(["ETHBTC", "BTCUSDT"])
    assert found.symbols == ("ETHBTC", "BTCUSDT")
    assert (found.currencies["ETHBTC"], found.currencies["BTCUSDT"]) == ("BTC", "USDT")
    assert (found.left_out, found.not_trading) == ({}, {})


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (["BTCUSDT", "BTCUSD"], "does not list BTCUSD: found 'BTCUSD', expected BTCUSDT"),
        (["BTC-USDT"], "expected BTCUSDT"),
        (["btcusdt"], "expected BTCUSDT"),
        (["QQQQQQQQ"], "expected one of 6 symbols, such as BNBUSDT, BTCUSDT, ETHBTC"),
        (["A1", "A2", "A3", "A4", "A5"], "does not list A1, A2, A3 and 2 more"),
    ],
)
def test_a_symbol_that_is_not_listed_is_named_with_the_nearest_ones(asked, text):
    with pytest.raises(UserError) as error:
        choose(asked)
    assert text in str(error.value)


def test_prices_finer_than_the_table_are_refused_before_anything_is_subscribed_to():
    with pytest.raises(UserError, match=r"PEPEUSDT of binance has a price in steps of 0\.0000000001.*decimals: wide"):
        choose(["PEPEUSDT"])
    assert choose(["PEPEUSDT"], decimals=Decimals.WIDE).symbols == ("PEPEUSDT",)
    found = choose(SymbolSelection(quote="usdt"))
    assert "PEPEUSDT" not in found.symbols
    assert "8 decimals" in found.left_out["PEPEUSDT"]


def test_a_selection_takes_the_most_traded_and_keeps_what_it_has():
    assert choose(SymbolSelection(quote="USDT", limit=2)).symbols == ("BNBUSDT", "BTCUSDT")
    assert choose(SymbolSelection(quote="USDT", limit=2), before=["ETHUSDT"]).symbols == ("ETHUSDT", "BNBUSDT")
    assert choose(SymbolSelection(status="break")).symbols == ("LUNAUSDT",)
    with pytest.raises(UserError, match=r"lists nothing that source\.live\.symbols selects.*BTC, USDT"):
        choose(SymbolSelection(quote="EUR"))


def test_what_is_delisted_or_halted_later_is_told_and_ends_nothing():
    listing = [each for each in LISTING if each.symbol != "ETHUSDT"]
    found = choose(["ETHUSDT", "LUNAUSDT", "BTCUSDT"], before=["ETHUSDT", "BTCUSDT"], listing=listing)
    assert found.symbols == ("LUNAUSDT", "BTCUSDT")
    assert found.left_out == {"ETHUSDT": "is not listed any more"}
    assert found.not_trading == {"LUNAUSDT": "BREAK"}


def test_symbols_that_k2_cannot_write_are_not_selected():
    odd = [*LISTING, Instrument("币安USDT", "币安", "USDT", True, "TRADING")]
    assert "币安USDT" not in choose(SymbolSelection(quote="USDT"), listing=odd).symbols


# --- what is silent -----------------------------------------------------------------------------------------------------


def test_a_stream_that_falls_silent_among_living_ones_is_suspected_once():
    watch = StreamWatch(seconds=270)
    watch.expect([(TRADES, "BTCUSDT"), (TRADES, "RAREUSDT"), (TRADES, "NEVERUSDT")], 0)
    for second in range(0, 600, 10):
        watch.seen((TRADES, "BTCUSDT"), 5, second)
    watch.seen((TRADES, "RAREUSDT"), 1, 500)
    assert watch.suspects(600) == [(TRADES, "NEVERUSDT")]
    # Once in 500 seconds is its usual pace.
    assert watch.suspects(900) == [(TRADES, "BTCUSDT")]
    assert watch.suspects(1_000) == []
    watch.seen((TRADES, "BTCUSDT"), 1, 1_001)
    assert watch.suspects(1_300) == [(TRADES, "BTCUSDT")]
    watch.forget(["BTCUSDT"])
    assert watch.suspects(9_000) == [(TRADES, "RAREUSDT")]


# --- between the threads ------------------------------------------------------------------------------------------------


def batch(numbers):
    return pa.RecordBatch.from_pydict({"n": list(numbers)})


def test_what_is_handed_over_comes_out_once_and_in_order_and_the_end_is_told():
    handover = Handover(most=1_000)
    taken = []

    def put():
        for start in range(0, 500, 10):
            handover.put(
                [(TRADES, batch(range(start, start + 10)))], [Unreadable(b"x", "why")] if start % 100 == 0 else []
            )
        handover.close()

    thread = threading.Thread(target=put)
    thread.start()
    bad = 0
    while (part := handover.take(5.0, 64)) is not None:
        taken += [number for _, each in together(part.events) for number in each.column("n").to_pylist()]
        bad += len(part.unreadable)
    thread.join()
    assert taken == list(range(500))
    assert (bad, handover.rows) == (5, 0)


def test_it_is_full_at_its_bound_and_keeps_what_is_put_in_all_the_same():
    handover = Handover(most=10)
    handover.put([(TRADES, batch(range(9)))])
    assert not handover.is_full
    handover.put([(QUOTES, batch(range(5)))])
    assert (handover.is_full, handover.rows) == (True, 14)
    assert [kind for kind, _ in handover.take(0, 100).events] == [TRADES, QUOTES]
    assert not handover.is_full


def test_whoever_waits_for_nothing_gets_nothing():
    taken = Handover().take(0.0, 10)
    assert (taken.events, taken.unreadable) == ([], [])
