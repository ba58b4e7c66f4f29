"""A live feed's account against a stand-in exchange: what was missed while it ran, and while it did not, is found, filled and told."""

import threading
import time

import pyarrow as pa
import pytest
from k2_testing.exchange import Exchange, Fault, Planned, Script

from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.bounded import read_to_end
from k2.feeds.gaps.kept import AccountPlace
from k2.feeds.gaps.topic import read_account
from k2.feeds.live.pace import Timing
from k2.feeds.live.source import HeardMarket
from k2.feeds.load.live import LiveProducer
from k2.feeds.load.outlet import KafkaOutlet
from k2.feeds.venues.columns import EventColumns
from k2.model.gap_events import gap_events
from k2.model.gaps import GapKind
from k2.model.settings import Settings
from k2.model.sources import VenueSource
from k2.model.topics import DataType, TopicName

QUICK = Timing(silent=6.5, stream=2.0, longest_retry=1.0, look=0.1, overlap=1.0, opening=5.0)
SECONDS = 120.0


class Topics:
    """Topics of one exchange, which feeds write to one after the other."""

    def __init__(self, kafka, registry, free_topic):
        self.settings = Settings(kafka_bootstrap_servers=kafka.bootstrap_servers, registry_url=registry.url)
        self.names = {kind: free_topic(str(kind), "crypto") for kind in (DataType.TRADES, DataType.GAPS)}
        topics = list(self.names.values())
        specs = [TopicSpec(each, partitions=1) for each in topics]
        specs += [TopicSpec(TopicName.parse(each).dead_letters, partitions=1) for each in topics]
        ensure_topics(self.settings.kafka_config(), specs)

    def run_feed(self, exchange, done):
        """A feed hears the exchange until `done(numbers of trades that it has sent)`."""
        urls = {"stream": exchange.url, "rest": exchange.rest_url}
        source = VenueSource(venue="binance", symbols=exchange.symbols, urls=urls, ca_file=str(exchange.ca_file))
        stop, sent = threading.Event(), set()
        place = AccountPlace(self.settings, self.names, "crypto")
        market = HeardMarket(source, EventColumns("BINANCE"), list(self.names), stop, timing=QUICK, place=place)

        def events():
            deadline = time.monotonic() + SECONDS
            for batches in market.events():
                for kind, batch in batches:
                    if kind is DataType.TRADES:
                        sent.update(batch.column("message_id").to_pylist())
                yield batches
                if done(len(sent)):
                    stop.set()
                elif time.monotonic() > deadline and not stop.is_set():
                    stop.set()
                    raise AssertionError(f"{len(sent)} trades came: {market.ready()}")

        producer = LiveProducer("BINANCE", market.ready, market.lost)
        with KafkaOutlet(self.settings, self.names) as outlet:
            producer.run(events(), outlet, market.unreadable)
        return market

    def read(self, kind):
        return list(read_to_end(self.settings.kafka_config(), self.settings.registry_config(), self.names[kind], kind))

    def trades(self):
        """Numbers of the trades in the topic, by symbol."""
        table = pa.Table.from_batches(self.read(DataType.TRADES))
        return set(zip(table.column("symbol").to_pylist(), table.column("source_sequence").to_pylist(), strict=True))

    def told(self):
        return [event for batch in self.read(DataType.GAPS) for event in gap_events(batch)]

    def account(self):
        return read_account(self.settings, self.names[DataType.GAPS])


@pytest.fixture
def topics(kafka, registry, free_topic):
    return Topics(kafka, registry, free_topic)


def everything(exchange):
    oracle = exchange.oracle()
    return set(zip(oracle.column("symbol").to_pylist(), oracle.column("source_sequence").to_pylist(), strict=True))


def is_settled(exchange, sent):
    return exchange.server.quiet.is_set() and sent >= exchange.made


def test_what_was_missed_is_told_filled_and_complete_at_the_end(topics):
    script = Script([Planned(200, Fault.DROPPED, times=3), Planned(500, Fault.RESET), Planned(800, Fault.DROPPED)])
    with Exchange(venue="binance", trades=1_200, rate=400, script=script) as exchange:
        topics.run_feed(exchange, lambda sent: is_settled(exchange, sent))
        assert topics.trades() == everything(exchange)
        # The control: some trades did not come by the stream.
        assert exchange.counts.faults[Fault.DROPPED] > 0
    account = topics.account()
    assert (account.counts.open, account.counts.unfillable) == (0, 0)
    assert account.counts.filled > 0
    opened = sum(each.last - each.first + 1 for each in topics.told() if each.kind is GapKind.OPENED)
    assert opened >= account.counts.filled
    assert set(account.checked) == set(exchange.symbols)


def test_what_was_missed_between_two_processes_is_found_and_filled_by_the_second(topics):
    with Exchange(venue="binance", trades=300, rate=400) as exchange:
        topics.run_feed(exchange, lambda sent: is_settled(exchange, sent))
        first = topics.trades()
        assert first == everything(exchange)
        # While nobody hears it the market goes on, and then it is quiet: only its newest trades tell.
        exchange.trade(900)
        topics.run_feed(exchange, lambda sent: len(first) + sent >= exchange.made)
        assert topics.trades() == everything(exchange)
    reasons = {each.why for each in topics.told() if each.kind is GapKind.OPENED}
    account = topics.account()
    assert (account.counts.open, account.counts.unfillable) == (0, 0)
    assert {each.split(" from ")[0] for each in reasons} <= {"no connection"}
