"""A live feed and a stand-in exchange that breaks by script: the table equals the exchange's own list of trades, one row for one trade."""

import json
import threading
import time

import pyarrow as pa
import pytest
from k2_testing.exchange import Exchange, Fault, Planned, Script
from k2_testing.extent import sized
from typer.testing import CliRunner

from k2 import cli
from k2.bus.dead_letters import read_dead_letters
from k2.feeds.live.pace import Timing
from k2.feeds.live.source import HeardMarket
from k2.feeds.load.live import LiveProducer
from k2.feeds.load.outlet import KafkaOutlet
from k2.feeds.venues.columns import EventColumns
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.sources import VenueSource
from k2.model.topics import DataType

TRADES, QUOTES = DataType.TRADES, DataType.QUOTES
QUICK = Timing(silent=6.5, stream=2.0, longest_retry=1.0, look=0.1, overlap=1.0, opening=5.0)
SECONDS = 120.0
COLUMNS = ["symbol", "source_sequence", "price", "quantity", "side", "timestamp"]
WIDE = pa.decimal128(38, 18)


class Feed:
    """A market that is heard until the test has what it waits for."""

    def __init__(self, exchange, symbols=None, data_types=(TRADES,), timing=QUICK, **more):
        urls = {"stream": exchange.url, "rest": exchange.rest_url}
        said = {"ca_file": str(exchange.ca_file), **more}
        asked = symbols or exchange.symbols
        source = VenueSource(venue=exchange.setup.venue, symbols=asked, urls=urls, **said)
        self.stop = threading.Event()
        self.columns = EventColumns("BINANCE")
        self.market = HeardMarket(source, self.columns, data_types, self.stop, timing=timing)
        self.batches, self.unreadable, self.ids = {TRADES: [], QUOTES: []}, [], set()

    def events(self, done):
        """What comes, until `done()`, which is asked again and again, with a deadline."""
        deadline = time.monotonic() + SECONDS
        for batches in self.market.events():
            for kind, batch in batches:
                self.batches[kind].append(batch)
                self.ids.update(batch.column("message_id").to_pylist())
            yield batches
            if done():
                self.stop.set()
            elif time.monotonic() > deadline and not self.stop.is_set():
                self.stop.set()
                raise AssertionError(f"{len(self.ids)} events came: {self.market.ready()}")

    def hear(self, done):
        """Hear until `done()`."""
        for _ in self.events(done):
            self.unreadable += self.market.unreadable()

    def table(self):
        """The trades, one row for each id, as the sink makes it."""
        heard = pa.Table.from_batches(self.batches[TRADES])
        first = (
            heard.append_column("row", pa.array(range(len(heard)))).group_by("message_id").aggregate([("row", "min")])
        )
        return ordered(heard.take(first.column("row_min")))


def ordered(table):
    table = table.sort_by([("symbol", "ascending"), ("source_sequence", "ascending")])
    kinds = {"symbol": pa.string(), "side": pa.string(), "price": WIDE, "quantity": WIDE}
    columns = {name: table.column(name).combine_chunks() for name in COLUMNS}
    return pa.table({name: each.cast(kinds.get(name, each.type)) for name, each in columns.items()})


def same(table, oracle):
    return ordered(table).equals(ordered(oracle))


def last_numbers(exchange):
    """Whether the market has made all."""
    return exchange.server.quiet.is_set()


def test_a_market_is_heard_whole_with_the_currencies_that_the_listing_says():
    with Exchange(venue="binance", trades=600, rate=600, quote_rate=100) as exchange:
        feed = Feed(exchange, data_types=(TRADES, QUOTES))
        feed.hear(lambda: last_numbers(exchange) and sum(map(len, feed.batches[TRADES])) >= exchange.made)
        assert same(feed.table(), exchange.oracle())
        assert feed.unreadable == []
        heard = pa.Table.from_batches(feed.batches[QUOTES])
        assert set(heard.column("quote_id").to_pylist()) <= set(
            exchange.quotes().column("source_sequence").cast(pa.string()).to_pylist()
        )
        assert len(heard) > 0
        assert set(heard.column("currency").to_pylist()) == {"USDT"}
        counts = exchange.counts
        assert (counts.connections, counts.over_messages, counts.over_streams, counts.status_429) == (1, 0, 0, 0)


@pytest.mark.parametrize("seed", range(1, sized(3, 21)))
def test_whatever_breaks_each_trade_comes_and_limits_are_kept(seed):
    trades = 1_500
    script = Script.drawn(seed=seed, trades=trades, faults=6)
    with Exchange(venue="binance", trades=trades, rate=600, seed=seed, script=script) as exchange:
        feed = Feed(exchange)
        feed.hear(lambda: last_numbers(exchange) and len(feed.ids) >= exchange.made)
        assert same(feed.table(), exchange.oracle()), exchange.counts.faults
        counts = exchange.counts
        assert (counts.over_messages, counts.over_streams, counts.status_429, counts.bans) == (0, 0, 0, 0)
        # The control: something did break.
        assert counts.faults


def test_an_announced_end_loses_nothing_for_the_next_connection_stands_before():
    script = Script([Planned(300, Fault.SHUTDOWN, seconds=2.0)])
    with Exchange(venue="binance", trades=1_500, rate=500, script=script) as exchange:
        feed = Feed(exchange)
        feed.hear(lambda: last_numbers(exchange) and len(feed.ids) >= exchange.made)
        assert same(feed.table(), exchange.oracle())
        counts = exchange.counts
        assert (counts.connections, counts.faults[Fault.SHUTDOWN]) == (2, 1)
        # Nothing had to be asked for.
        assert set(counts.paths) == {"/api/v3/exchangeInfo"}


def test_what_waits_for_kafka_is_bounded_and_what_was_missed_meanwhile_is_filled():
    with Exchange(venue="binance", trades=3_000, rate=1_500) as exchange:
        feed = Feed(exchange)
        feed.market.handover.most = 400
        events = feed.events(lambda: last_numbers(exchange) and len(feed.ids) >= exchange.made)
        next(events)
        # Whoever sends has stopped: the exchange is let go, and memory does not grow.
        until(lambda: exchange.made > 100 and not exchange.connections, "the connections were not let go")
        assert feed.market.handover.rows < 2_000
        assert feed.market.ready() == (False, "Kafka is too slow: nothing is heard until what waits is sent")
        for _ in events:
            pass
        assert same(feed.table(), exchange.oracle())
        assert exchange.counts.paths["/api/v3/historicalTrades"] > 0


def test_through_kafka_and_a_sink_the_table_equals_the_exchanges_own_list(pipeline):
    faults = [Fault.RESET, Fault.CUT_JSON, Fault.DROPPED, Fault.REPEATED, Fault.NUMBER_FOR_STRING, Fault.SWAPPED]
    script = Script([Planned(150 * (place + 1), fault, times=3) for place, fault in enumerate(faults)])
    settings = Settings(
        kafka_bootstrap_servers=pipeline.kafka["bootstrap.servers"], registry_url=pipeline.registry["url"]
    )
    with Exchange(venue="binance", trades=1_500, rate=500, script=script) as exchange:
        feed = Feed(exchange)
        producer = LiveProducer("BINANCE", feed.market.ready)
        with KafkaOutlet(settings, {TRADES: pipeline.topic}) as outlet:
            events = feed.events(lambda: last_numbers(exchange) and len(feed.ids) >= exchange.made)
            producer.run(events, outlet, feed.market.unreadable)
        pipeline.finish()
        table = pipeline.catalog.load_table(pipeline.table).scan().to_arrow()
        assert same(table, exchange.oracle())
        assert exchange.counts.faults[Fault.CUT_JSON] > 0
    # What was no message is a dead letter, as it came.
    letters = list(read_dead_letters(pipeline.kafka, pipeline.topic + ".dlq"))
    assert letters
    assert all("is no message of Binance" in letter.reason for letter in letters)


def test_a_place_that_the_exchange_does_not_serve_is_said_and_tried_again():
    with Exchange(venue="binance", trades=100, rate=400) as exchange:
        exchange.inject(Fault.CONNECT_451, times=8)
        feed, said = Feed(exchange), set()

        def done():
            said.add(feed.market.ready()[1])
            return last_numbers(exchange) and len(feed.ids) >= exchange.made

        feed.hear(done)
        assert any("binance refuses this place: HTTP 451" in each for each in said), said
        assert same(feed.table(), exchange.oracle())


def test_a_page_in_place_of_the_listing_is_said_and_asked_for_again():
    with Exchange(venue="binance", trades=100, rate=400) as exchange:
        exchange.inject(Fault.REST_HTML, times=8)
        feed, said = Feed(exchange), set()

        def done():
            said.add(feed.market.ready()[1])
            return last_numbers(exchange) and len(feed.ids) >= exchange.made

        feed.hear(done)
        assert any("a web page came" in each and "source.live.urls" in each for each in said), said


def test_a_symbol_that_is_not_listed_ends_the_feed_with_the_nearest_one():
    with (
        Exchange(venue="binance") as exchange,
        pytest.raises(UserError, match="does not list BTCUSD: found 'BTCUSD', expected BTCUSDT"),
    ):
        Feed(exchange, symbols=["BTCUSD"]).hear(lambda: False)


def test_a_certificate_of_another_name_is_never_taken():
    with Exchange(venue="binance", certified="exchange.example") as exchange:
        feed, said = Feed(exchange), set()

        def done():
            said.add(feed.market.ready()[1])
            return any("is not trusted" in each and "source.live.caFile" in each for each in said)

        feed.hear(done)
        assert exchange.counts.requests == 0


def test_a_symbol_is_checked_on_a_terminal_without_a_platform():
    with Exchange(venue="binance", rate=100, quote_rate=50, waits=False) as exchange:
        exchange.begin()
        where = ["--url", exchange.url, "--rest-url", exchange.rest_url, "--ca-file", str(exchange.ca_file)]

        def checked(*options):
            return CliRunner().invoke(cli.app, ["feed", "check", "binance", *options, *where])

        done = checked("BTCUSDT", "ETHUSDT", "--seconds", "2", "-o", "json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        heard = {(each["symbol"], each["data_type"]) for each in found["streams"]}
        assert heard == {(symbol, kind) for symbol in ("BTCUSDT", "ETHUSDT") for kind in ("trades", "quotes")}
        assert (found["odd"], found["clock_difference"] < 1) == ([], True)
        exchange.inject(Fault.CLOCK, seconds=300)
        done = checked("BTCUSDT", "--seconds", "1")
        assert done.exit_code == 4, done.output
        assert "s behind the exchange's: look at NTP" in " ".join(done.stdout.split())
        done = checked("btcusd")
        assert isinstance(done.exception, UserError)
        assert "expected BTCUSDT" in str(done.exception)


def until(question, what):
    deadline = time.monotonic() + SECONDS
    while not question():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
