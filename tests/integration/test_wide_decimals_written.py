"""Wide decimals from end to end on real parts: producer, registry, sink, table, audit, dead letters, and `k2 load`."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import typer
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US, message_id, trades
from k2_testing.lake import catalog_properties
from k2_testing.sinks import Pipeline
from typer.testing import CliRunner

from k2 import cli_load
from k2.bus.dead_letters import read_dead_letters
from k2.bus.producer import EventProducer
from k2.bus.registry import ensure_subjects
from k2.lake.proof.sequence_audit import audit_sequences
from k2.lake.tables import ensure_table
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.sequences import SequenceScope
from k2.model.tables import builtin_table
from k2.model.topics import DataType, TopicName
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.requests import EventsQuery

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

STANDARD = "market_data.trades_standard"
FINE = [Decimal("0.0000000000001"), Decimal("0.0000000000002"), Decimal("9999999999999.123456789012345678")]
PLAIN = [Decimal("36.5"), Decimal("0.00000001"), Decimal("9999999999.99999999")]
REMEDY = "; an IcebergTable with spec.decimals: wide holds it"


def send(pipeline, schema_id, decimals, prices, first):
    """Trades with such prices, numbered from `first` on."""
    numbers = range(first, first + len(prices))
    producer = EventProducer(
        pipeline.kafka, topic=pipeline.topic, data_type=DataType.TRADES, schema_id=schema_id, decimals=decimals
    )
    producer.send(
        trades(
            [message_id(number) for number in numbers],
            symbols=["PEPE"] * len(prices),
            times=[START_US + number for number in numbers],
            sequence=list(numbers),
            trade_ids=[f"T{number}" for number in numbers],
            prices=prices,
            decimals=decimals,
        )
    )
    producer.flush(60)
    producer.close()


def prices_of(pipeline, table):
    rows = pipeline.catalog.load_table(table).scan(selected_fields=("source_sequence", "price")).to_arrow()
    return dict(zip(rows.column("source_sequence").to_pylist(), rows.column("price").to_pylist(), strict=True))


def test_a_topic_that_went_to_wide_decimals_is_in_its_wide_table_exactly_and_in_a_standard_one_as_far_as_it_fits(
    tmp_path, kafka, registry, free_topic
):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1, decimals=Decimals.WIDE)
    try:
        # As a feed does whose stream was moved: standard messages first, then wide ones, and standard ones once more.
        (standard,) = ensure_subjects(pipeline.registry, {pipeline.topic: DataType.TRADES}).values()
        send(pipeline, standard, Decimals.STANDARD, PLAIN, 0)
        send(pipeline, pipeline.schema_id, Decimals.WIDE, FINE, 3)
        send(pipeline, standard, Decimals.STANDARD, PLAIN, 0)  # the same events: repeats
        send(pipeline, pipeline.schema_id, Decimals.WIDE, PLAIN, 0)  # and told in wide decimals
        pipeline.finish()
        assert prices_of(pipeline, pipeline.table) == dict(enumerate(PLAIN + FINE))
        audit = pipeline.audit()
        (part,) = audit.partitions
        assert audit.ok
        assert (part.rows, part.offsets.duplicates, part.offsets.dead_letters) == (6, 6, 0)
        numbers = audit_sequences(pipeline.catalog.load_table(pipeline.table), SequenceScope.SYMBOL)
        assert (numbers.rows, numbers.missing, numbers.duplicated) == (6, 0, 0)

        ensure_table(pipeline.catalog, builtin_table(DataType.TRADES, STANDARD))
        pipeline.table = STANDARD
        pipeline.finish()
        assert prices_of(pipeline, STANDARD) == dict(enumerate(PLAIN))
        (part,) = pipeline.audit().partitions
        assert (part.rows, part.offsets.duplicates, part.offsets.dead_letters) == (3, 6, 3)
        letters = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
        assert [(letter.offset, letter.reason) for letter in letters] == [
            (3, f"price has more than 8 decimals: 0.0000000000001{REMEDY}"),
            (4, f"price has more than 8 decimals: 0.0000000000002{REMEDY}"),
            (5, f"price has more than 10 integer digits: 9999999999999.123456789012345678{REMEDY}"),
        ]
    finally:
        pipeline.close()


def test_what_the_topic_of_a_wide_table_holds_beyond_it_is_asked_for_exactly_and_is_the_same_once_committed(
    tmp_path, kafka, registry, free_topic
):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1, decimals=Decimals.WIDE)
    events = EventsQuery(DataType.TRADES, symbols=("PEPE",))
    bars = BarsQuery(("PEPE",), Interval.HOUR)
    try:
        send(pipeline, pipeline.schema_id, Decimals.WIDE, FINE, 0)
        pipeline.finish()
        (standard,) = ensure_subjects(pipeline.registry, {pipeline.topic: DataType.TRADES}).values()
        send(pipeline, standard, Decimals.STANDARD, PLAIN, 3)
        send(pipeline, pipeline.schema_id, Decimals.WIDE, [FINE[2], FINE[0]], 6)
        asked = []
        for rows_of_the_tail in (5, 0):
            with hybrid_questions_of(pipeline) as questions:
                found = questions.events(events)
                assert found.provenance.tail_rows == rows_of_the_tail
                asked.append((found.rows, questions.bars(bars).rows))
            pipeline.finish()
        (rows, (bar,)), later = (asked[0][0], asked[0][1].to_pylist()), asked[1]
        assert rows["price"].to_pylist() == [*FINE, *PLAIN, FINE[2], FINE[0]]
        assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (FINE[0], FINE[2], FINE[0], FINE[0])
        assert asked[0] == later
    finally:
        pipeline.close()


ROWS = [
    ("0.0000000000001", "7123456789012"),
    ("0.000004335", "10000000000"),
    ("1.000000000000000001", "0.5"),
    ("0.00000001", "9999999999.99999999"),
    ("1.0000000000000000001", "1"),
    ("1", "100000000000000000000"),
]


@pytest.fixture
def load(tmp_path, kafka, registry, monkeypatch):
    """`k2 load trades` of a file with these amounts, on an exchange whose topic nobody else uses."""
    values = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "K2_REGISTRY_URL": registry.url,
        "K2_DATA_DIR": str(tmp_path / "data"),
        "K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(tmp_path)),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "fine.csv"
    lines = [f"PEPE,2024-03-04T15:00:0{at}Z,{price},{quantity}" for at, (price, quantity) in enumerate(ROWS)]
    path.write_text("\n".join(["symbol,timestamp,price,quantity", *lines, ""]))
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_load.register(app)

    def run(*options):
        result = CliRunner().invoke(app, ["load", "trades", str(path), "-e", "KRAKEN", *options, "-o", "json"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return json.loads(result.stdout)

    return run


def test_a_load_and_its_dry_run_take_the_decimals_of_the_topic_and_agree(tmp_path, kafka, registry, load):
    topic = "market.crypto.trades.kraken"
    pipeline = Pipeline(tmp_path, kafka, registry, topic, partitions=1)
    try:
        told = ("decimals", "read", "accepted", "rejected")
        dry = load("--dry-run")
        assert [dry[name] for name in told] == ["standard", 6, 1, 5]
        with pytest.raises(UserError, match=r"Let the feed's stream name an IcebergTable with spec\.decimals: wide"):
            load("--decimals", "wide")
        ensure_subjects(pipeline.registry, {topic: DataType.TRADES}, {topic: Decimals.WIDE})  # as its feed does
        dry, done = load("--dry-run"), load()
        assert [dry[name] for name in told] == [done[name] for name in told] == ["wide", 6, 4, 2]
        pipeline.catalog.drop_table(pipeline.table)
        ensure_table(pipeline.catalog, builtin_table(DataType.TRADES, decimals=Decimals.WIDE))
        pipeline.finish()
        rows = pipeline.catalog.load_table(pipeline.table).scan().to_arrow().sort_by("timestamp")
        amounts = zip(rows.column("price").to_pylist(), rows.column("quantity").to_pylist(), strict=True)
        assert list(amounts) == [(Decimal(price), Decimal(quantity)) for price, quantity in ROWS[:4]]
        letters = read_dead_letters(pipeline.kafka, TopicName.parse(topic).dead_letters)
        assert [letter.reason for letter in letters] == [
            "price has more than 18 decimals: found '1.0000000000000000001'",
            "quantity has more than 20 integer digits: found '100000000000000000000'",
        ]
    finally:
        pipeline.close()
