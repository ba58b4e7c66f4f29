"""A feed's account in Kafka: what a process knew is known to the next one, and the table has each word once."""

import json
import time

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.paper_venue import START_US, paper_trades
from typer.testing import CliRunner

from k2.bus.admin import TopicSpec, committed_with_metadata, ensure_topics
from k2.bus.producer import EventProducer
from k2.bus.registry import ensure_subjects
from k2.cli import app
from k2.feeds.gaps.account import CHECKED_US, Account, Way
from k2.feeds.gaps.topic import begun_account, leave_note, read_account
from k2.feeds.venues.venue import Hole, Numbering
from k2.lake.catalog import load_table
from k2.model.errors import UserError
from k2.model.gap_events import gap_batch, gap_events
from k2.model.gap_note import GapNote
from k2.model.gaps import GapEvent, GapKind
from k2.model.settings import Settings
from k2.model.topics import DataType, TopicName, account_group_id, sink_group_id
from k2.model.workload import SinkConfig
from k2.sink.run import run_sink

SECOND = 1_000_000


class Market:
    """Topics of one exchange, and what a feed's process does with them."""

    def __init__(self, kafka, registry, free_topic, folder):
        self.folder = folder
        self.settings = Settings(
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            registry_url=registry.url,
            catalog_properties=catalog_properties(folder),
        )
        self.topics = {kind: free_topic(str(kind), "crypto") for kind in (DataType.TRADES, DataType.GAPS)}
        names = list(self.topics.values())
        specs = [TopicSpec(each, partitions=2 if each == self.topics[DataType.TRADES] else 1) for each in names]
        specs += [TopicSpec(TopicName.parse(each).dead_letters, partitions=1) for each in names]
        ensure_topics(self.settings.kafka_config(), specs)
        ids = ensure_subjects(self.settings.registry_config(), {topic: kind for kind, topic in self.topics.items()})
        self.producers = {
            kind: EventProducer(self.settings.kafka_config(), topic=topic, data_type=kind, schema_id=ids[topic])
            for kind, topic in self.topics.items()
        }
        self.now = time.time_ns() // 1000

    def hears(self, account, symbol, *numbers):
        """Trades come and are acknowledged."""
        self.now += 1_000
        batch = paper_trades(symbol, numbers, self.now)
        account.seen(DataType.TRADES, batch, Way.STREAM, self.now)
        self.producers[DataType.TRADES].send(batch)
        self.producers[DataType.TRADES].flush()

    def tells(self, account, times=1):
        """What there is to tell is sent, and acknowledged."""
        events = account.events()
        for _ in range(times):
            self.producers[DataType.GAPS].send(gap_batch(events, "PAPER", "crypto"))
        self.producers[DataType.GAPS].flush()
        return events

    def begun(self, symbols=None):
        return begun_account(self.settings, self.topics, Numbering.CONSECUTIVE, symbols)

    def sink(self):
        """Brings the account into its table, to its end."""
        topic = self.topics[DataType.GAPS]
        config = SinkConfig(
            topic=topic,
            table="market_data.gaps",
            data_type=DataType.GAPS,
            group_id=sink_group_id(topic, "market_data.gaps"),
            commit_interval_seconds=0.5,
            until_end=True,
        )
        run_sink(self.settings, config)

    def close(self):
        for each in self.producers.values():
            each.close()


@pytest.fixture
def market(kafka, registry, free_topic, tmp_path):
    found = Market(kafka, registry, free_topic, tmp_path)
    yield found
    found.close()


def holes(account):
    return [(each.symbol, each.first, each.last) for each in account.holes()]


def test_a_restart_knows_what_was_open_and_what_was_not_told_before_it_died(market):
    account = market.begun()
    assert account.counts.open == 0
    market.hears(account, "A", 1, 2, 10)
    market.hears(account, "B", 7, 8)
    for _ in range(2):  # two rounds of checks, so that the next one need not read the trades from their beginning
        market.now += CHECKED_US
        account.advance(market.now)
    market.tells(account)
    # What follows is in the topic and was never told: the process died.
    market.hears(account, "A", 4, 11)
    market.hears(account, "B", 12)
    again = market.begun()
    again.advance(market.now + SECOND)
    assert holes(again) == [("A", 3, 3), ("A", 5, 9), ("B", 9, 11)]
    told = [(str(each.kind), each.symbol, each.first, each.last) for each in market.tells(again)]
    assert ("filled", "A", 4, 4) in told
    assert ("opened", "B", 9, 11) in told
    third = market.begun()
    third.advance(market.now + SECOND)
    assert holes(third) == holes(again)
    assert third.events() == []
    # What a feed does not hear is another feed's.
    assert {symbol for symbol, _, _ in holes(market.begun(["B"]))} <= {"B"}


def test_the_exchanges_newest_trades_tell_what_was_missed_while_nothing_ran(market):
    account = market.begun()
    market.hears(account, "A", 1, 2, 3)
    account.close(market.now)
    market.tells(account)
    again = market.begun()
    market.now += 60 * SECOND
    again.connected(1, ["A"], market.now)
    again.advance(market.now + 6 * SECOND)
    assert again.unheard() == ["A"]
    again.seen(DataType.TRADES, paper_trades("A", [8, 9], market.now), Way.SNAPSHOT, market.now + 7 * SECOND)
    again.advance(market.now + 8 * SECOND)
    (event,) = (each for each in again.events() if each.kind is GapKind.OPENED)
    assert (event.first, event.last) == (4, 7)
    assert event.why.startswith("no connection from ")


def test_where_numbers_prove_nothing_the_time_between_two_processes_is_unknown(market):
    account = Account(Numbering.NONE)
    market.hears(account, "A", 5, 3)
    last = market.now
    again = begun_account(market.settings, market.topics, Numbering.NONE)
    again.connected(1, ["A"], last + 90 * SECOND)
    (event,) = again.events()
    assert (event.kind, event.after, event.before) == (GapKind.UNKNOWN, last, last + 90 * SECOND)


def test_the_account_comes_into_its_table_each_word_once(market):
    catalog = make_lake(market.folder, DataType.GAPS)
    account = Account(Numbering.CONSECUTIVE)
    market.hears(account, "A", 1, 2, 10)
    account.advance(market.now + SECOND)
    account.disconnected(1, ["A"], market.now + SECOND)
    said = market.tells(account, times=2)
    market.hears(account, "A", 5)
    account.close(market.now + SECOND)
    said += market.tells(account)
    market.sink()
    rows = load_table(catalog, "market_data.gaps").scan().to_arrow().sort_by("kafka_offset")
    assert sorted(gap_events(rows), key=repr) == sorted(said, key=repr)
    assert read_account(market.settings, market.topics[DataType.GAPS]).counts.filled == 1


def test_what_an_account_comes_to_is_found_beside_a_groups_offsets(market):
    topic = market.topics[DataType.GAPS]
    account = Account(Numbering.CONSECUTIVE)
    market.hears(account, "A", 1, 5)
    account.advance(market.now + SECOND)
    note = GapNote(account.counts, market.now, worst="A")
    leave_note(market.settings, topic, note)
    ((_, text),) = committed_with_metadata(market.settings.kafka_config(), account_group_id(topic), topic).values()
    assert GapNote.from_json(text) == note
    assert GapNote.from_json('{"snapshot": 5}') is None
    assert GapNote.from_json("") is None


@pytest.fixture
def command(market, monkeypatch):
    """`k2 feed …` against this Kafka."""
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", market.settings.kafka_bootstrap_servers)
    monkeypatch.setenv("K2_REGISTRY_URL", market.settings.registry_url)
    return lambda *words: CliRunner().invoke(app, ["feed", *words])


def test_a_person_is_shown_what_is_missing_and_scripts_know_by_the_exit_code(market, command):
    name = market.topics[DataType.GAPS]
    account = Account(Numbering.CONSECUTIVE)
    market.hears(account, "A", 1, 2, 10)
    account.advance(market.now + SECOND)
    market.tells(account)
    shown = command("gaps", name)
    assert shown.exit_code == 1
    assert ["A", "open", "3", "9", "7"] in [line.split()[:5] for line in shown.stdout.splitlines()]
    assert f"{name}: 7 trades missing now, 0 filled, 0 unfillable, 0 times unknown; as of " in shown.stdout
    body = json.loads(command("gaps", name, "-o", "json").stdout)
    assert (body["complete"], body["open"], body["gaps"][0]["reason"]) == (False, 7, "the numbers jumped")
    account.unfillable(Hole("A", 9, 9, 0, 0), market.now + SECOND, "PAPER has no such trades")
    market.hears(account, "A", *range(3, 9))
    market.tells(account)
    left = json.loads(command("gaps", name, "-o", "json").stdout)
    assert [(each["state"], each["first"], each["last"]) for each in left["gaps"]] == [("unfillable", 9, 9)]
    market.hears(account, "A", 9)
    assert [str(each.kind) for each in market.tells(account)] == ["filled"]
    assert command("gaps", name).exit_code == 0


def test_an_account_with_nothing_missing_is_complete_and_an_unknown_exchange_is_said_to_be_one(market, command):
    name = market.topics[DataType.GAPS]
    account = Account(Numbering.CONSECUTIVE)
    market.hears(account, "A", 1, 2, 3)
    account.close(market.now)
    market.tells(account)
    shown = command("gaps", name.rsplit(".", 1)[1].upper())
    assert shown.exit_code == 0
    assert "0 trades missing now" in shown.stdout
    wrong = command("gaps", "nobody")
    assert isinstance(wrong.exception, UserError)
    assert name.rsplit(".", 1)[1] in wrong.exception.expected
    assert isinstance(command("gaps", market.topics[DataType.TRADES]).exception, UserError)


def test_gap_events_survive_their_columns():
    events = [
        GapEvent(GapKind.OPENED, "A", START_US, 1, 2, START_US, START_US + 1, START_US, why="the numbers jumped"),
        GapEvent(GapKind.UNKNOWN, "B", START_US, after=START_US),
        GapEvent(GapKind.FILLED, "A", START_US, 1, 1, how="fill", since=START_US),
    ]
    assert list(gap_events(gap_batch(events, "PAPER", "crypto"))) == events
