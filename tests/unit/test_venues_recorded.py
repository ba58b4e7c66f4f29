"""What exchanges really sent, as far as it was recorded: all of it is read, and the numbers of trades have no hole."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest
from k2_testing.venues import columns, frames, kinds, needs_recorded, recorded, rows

from k2.feeds.venues.registry import VENUES
from k2.feeds.venues.venue import NoticeKind
from k2.model.events import Decimals
from k2.model.topics import DataType

pytestmark = needs_recorded


def heard(name, messages):
    return VENUES[name](columns(name.upper(), Decimals.WIDE)).parse(frames(*messages))


def numbers(found):
    by_symbol = defaultdict(list)
    for row in rows(found):
        by_symbol[row["symbol"]].append(row["source_sequence"])
    return by_symbol


def test_the_trades_of_coinbase_rise_by_one_in_each_product_over_snapshots_and_updates():
    messages = recorded("coinbase/market_trades")
    found = heard("coinbase", messages)
    assert found.unreadable == found.notices == ()
    for told in numbers(found).values():
        assert told == list(range(told[0], told[0] + len(told)))
    quotes = heard("coinbase", recorded("coinbase/ticker"))
    assert quotes.events[DataType.QUOTES].num_rows == len(recorded("coinbase/ticker"))
    assert quotes.unreadable == quotes.notices == ()


def test_the_side_of_a_trade_on_coinbase_is_that_of_who_crossed_the_book():
    messages = recorded("coinbase/ticker") + recorded("coinbase/market_trades")
    in_order = sorted(messages, key=lambda data: int(data.split(b'"sequence_num":')[1].split(b",")[0]))
    book: dict[str, tuple[Decimal, Decimal]] = {}
    crossed = against = 0
    for message in in_order:
        found = heard("coinbase", [message])
        for quote in rows(found, DataType.QUOTES):
            book[quote["symbol"]] = quote["bid_price"], quote["ask_price"]
        for trade in rows(found) if b'"update"' in message else []:
            bid, ask = book[trade["symbol"]]
            if trade["price"] >= ask or trade["price"] <= bid:
                agrees = (trade["side"] == "BUY") == (trade["price"] >= ask)
                crossed, against = crossed + agrees, against + (not agrees)
    assert crossed > 10 * against


def test_the_trades_of_okx_rise_by_one_in_each_instrument():
    # Recorded of the older channel, which has the same form.
    found = heard("okx", [each.replace(b'"trades"', b'"trades-all"') for each in recorded("okx/trades")])
    assert found.unreadable == found.notices == ()
    for told in numbers(found).values():
        assert told == list(range(told[0], told[0] + len(told)))


def test_a_message_of_bybit_with_many_trades_is_read_whole():
    messages = recorded("bybit/publicTrade")
    found = heard("bybit", messages)
    assert found.unreadable == found.notices == ()
    assert found.events[DataType.TRADES].num_rows == sum(data.count(b'"i":') for data in messages)


@pytest.mark.parametrize("path", ["coinbase/subscriptions", "okx/control", "bybit/control"])
def test_answers_to_subscriptions_are_known(path):
    found = heard(path.partition("/")[0], recorded(path))
    assert found.unreadable == ()
    assert set(kinds(found)) == {NoticeKind.SUBSCRIBED}


def test_the_trades_of_the_documentation_of_kraken_are_read():
    found = heard("kraken", recorded("kraken_v2/trade"))
    assert found.unreadable == found.notices == ()
    assert [row["price"] for row in rows(found)] == [Decimal("0.5147")] * 2
