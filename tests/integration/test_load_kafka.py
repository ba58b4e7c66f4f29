"""Loads into a real Kafka: every row once, whatever happens to the loader."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import typer
from confluent_kafka import Consumer, TopicPartition
from k2_testing.sinks import eventually
from typer.testing import CliRunner

from k2 import cli_load
from k2.bus.admin import TopicSpec, delete_topics, end_offsets, ensure_topics
from k2.bus.dead_letters import read_dead_letters
from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.feeds.load.rejects import RejectsFile
from k2.feeds.run import load_source, run_load
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import ProducerConfig

pytestmark = pytest.mark.real


@pytest.fixture
def env(kafka, registry, tmp_path):
    return Settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, registry_url=registry.url, data_dir=tmp_path / "data"
    )


@pytest.fixture
def topic(env, free_topic):
    name = free_topic()
    ensure_topics(env.kafka_config(), [TopicSpec(name, partitions=3), TopicSpec(f"{name}.dlq", partitions=1)])
    return name


def _write_ticks(path, rows, seed=1):
    """A file of the vendor's form: times ascend, and some rows repeat."""
    rng = np.random.default_rng(seed)
    millis = np.sort(rng.integers(0, 6 * 3600 * 1000, rows))
    prices, volumes = rng.integers(3500, 3600, rows), rng.integers(1, 500, rows)
    with path.open("w") as file:
        for ms, price, volume in zip(millis.tolist(), prices.tolist(), volumes.tolist(), strict=True):
            clock = f"{10 + ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
            file.write(f"03/10/2014,{clock},{price / 100},{volume},0,,\n")
    return path


def _source(*paths):
    venue = exchange("ASX")
    form = file_format("asx", Files(DataType.TRADES, venue, symbol="BHP"))
    return CsvFiles(paths, form, Assembler(DataType.TRADES, venue, "AUD", "equities"), symbol="BHP")


def _ids(source):
    return [
        value for chunk in source.chunks() for _, batch in chunk.events for value in batch["message_id"].to_pylist()
    ]


def _load(env, topic, *paths, **options):
    return load_source(
        env,
        _source(*paths),
        {DataType.TRADES: topic},
        directory=env.data_dir / "ledger",
        stop=threading.Event(),
        **options,
    )


def _message_ids(env, topic):
    """The message id of every message: the first field behind the registry's header of five bytes, a string of 36."""
    ends = end_offsets(env.kafka_config(), topic)
    consumer = Consumer(env.kafka_config() | {"group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    found, came = [], time.monotonic()
    while len(found) < sum(ends.values()) and time.monotonic() < came + 60:
        some = [bytes.fromhex(m.value()[6:42].decode().replace("-", "")) for m in consumer.consume(10_000, 0.5)]
        found += some
        came = time.monotonic() if some else came
    consumer.close()
    assert len(found) == sum(ends.values())
    return found


def test_a_load_is_in_the_topic_once_and_a_second_run_sends_nothing(env, topic, tmp_path):
    path = _write_ticks(tmp_path / "a.csv", 5000)
    tally, ledger = _load(env, topic, path)
    assert (tally.sent, tally.rejected, tally.finished) == (5000, 0, True)
    assert ledger.progress.next_offsets[topic] == {p: o for p, o in end_offsets(env.kafka_config(), topic).items() if o}
    again, ledger = _load(env, topic, path.rename(tmp_path / "other-name.csv"))
    assert (again.sent, again.already_there) == (0, 5000)
    assert ledger.progress.next_offsets[topic]
    assert Counter(_message_ids(env, topic)) == Counter(_ids(_source(tmp_path / "other-name.csv")))


def test_split_files_bring_the_same_ids_so_that_the_sink_drops_them(env, topic, tmp_path):
    path = _write_ticks(tmp_path / "a.csv", 3000)
    _load(env, topic, path)
    lines = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "b.csv").write_bytes(b"".join(lines[:1234]))
    (tmp_path / "c.csv").write_bytes(b"".join(lines[1234:]))
    _load(env, topic, tmp_path / "b.csv", tmp_path / "c.csv")
    assert set(Counter(_message_ids(env, topic)).values()) == {2}
    assert set(_message_ids(env, topic)) == set(_ids(_source(path)))


def test_a_topic_that_was_made_anew_is_loaded_again(env, topic, tmp_path):
    path = _write_ticks(tmp_path / "a.csv", 100)
    _load(env, topic, path)
    delete_topics(env.kafka_config(), [topic])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if ensure_topics(env.kafka_config(), [TopicSpec(topic, partitions=3)]):
            break
        time.sleep(0.1)
    tally, _ = _load(env, topic, path)
    assert tally.sent == 100


def test_rejected_rows_are_in_the_dead_letter_topic_with_file_line_and_reason(env, topic, tmp_path):
    path = _write_ticks(tmp_path / "a.csv", 50)
    lines = path.read_bytes().splitlines()
    lines[7] = b"03/10/2014,10:00:00.000,NaN,\xff,0,,"
    lines[9] = b"03/10/2014,10:00:00.000,NaN,1,0,,"
    path.write_bytes(b"\n".join(lines))
    with RejectsFile(tmp_path / "r.csv") as rejects:
        tally, _ = _load(env, topic, path, rejects=rejects)
    assert (tally.read, tally.accepted, tally.rejected) == (50, 48, 2)
    letters = read_dead_letters(env.kafka_config(), f"{topic}.dlq")
    assert [(each.payload, each.file, each.line, each.reason) for each in letters] == [
        (lines[7], str(path), 8, "not UTF-8 text"),
        (lines[9], str(path), 10, "price is not a finite number: found 'NaN'"),
    ]
    assert (tmp_path / "r.csv").read_bytes().count(b"\n") == 3


def test_a_topic_that_is_not_there_is_said_with_the_remedy(env, free_topic, tmp_path):
    name = free_topic()
    with pytest.raises(UserError, match=f"There is no topic {name}, {name}.dlq in Kafka at .*Apply a MarketFeed"):
        _load(env, name, _write_ticks(tmp_path / "a.csv", 3))


_PARKED = """
import pathlib
from k2.feeds.load import load
load._SAVE_SECONDS = 0.1
take = load.Load._take
def parked(self, chunk):
    take(self, chunk)
    while self.tally.read >= 800_000 and not pathlib.Path({go!r}).exists() and not self._stop.wait(0.05):
        self._outlet.poll(0)
        self._acknowledge()
load.Load._take = parked
"""


def _config(topic, source):
    return ProducerConfig.model_validate(
        {
            "feed": "default/test",
            "exchange": "ASX",
            "asset_class": "equities",
            "currency": "AUD",
            "streams": [{"data_type": "trades", "topic": topic, "table": "market_data.trades"}],
            "source": source,
        }
    )


def _start(env, topic, tmp_path, source, entry="run_load", go=None):
    """`k2 run load` (or `producer`) as its own process. With `go` it reads no further than 800,000 rows before that file is there."""
    config = _config(topic, source)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    script = "" if go is None else _PARKED.format(go=str(go))
    script += (
        f"from k2.feeds.run import {entry}; from k2.model.settings import settings; "
        "from k2.model.workload import ProducerConfig, read_config; env = settings(); "
        f"{entry}(env, read_config(env.config_file, ProducerConfig))"
    )
    variables = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": env.kafka_bootstrap_servers,
        "K2_REGISTRY_URL": env.registry_url,
        "K2_DATA_DIR": str(env.data_dir),
        "K2_CONFIG_FILE": str(tmp_path / "config.json"),
        "K2_SOURCE_DIR": str(tmp_path),
    }
    return subprocess.Popen([sys.executable, "-c", script], env=os.environ | variables)


def _when_messages(env, topic, count, process):
    deadline = time.monotonic() + 120
    while sum(end_offsets(env.kafka_config(), topic, "read_uncommitted").values()) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _has_noted(env):
    return any(json.loads(path.read_text())["rows"] for path in (env.data_dir / "ledger").glob("*.json"))


CSV = {"type": "csv", "format": "asx", "uris": ["file:a.csv"], "data_type": "trades", "symbol": "BHP"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGTERM])
def test_a_loader_that_is_killed_in_the_middle_goes_on_and_every_row_is_there_once(env, topic, tmp_path, with_signal):
    path = _write_ticks(tmp_path / "a.csv", 900_000)
    expected = _ids(_source(path))
    assert len(set(expected)) == 900_000
    process = _start(env, topic, tmp_path, CSV, go=tmp_path / "never")
    _when_messages(env, topic, 400_000, process)
    eventually(lambda: _has_noted(env), "the ledger has noted some of it")
    process.send_signal(with_signal)
    code = process.wait(120)
    assert code == (-signal.SIGKILL if with_signal is signal.SIGKILL else 130)
    sent_before = sum(end_offsets(env.kafka_config(), topic).values())
    assert sent_before < 900_000
    assert _start(env, topic, tmp_path, CSV).wait(120) == 0
    found = _message_ids(env, topic)
    assert set(found) == set(expected)
    doubled = len(found) - 900_000
    if with_signal is signal.SIGTERM:
        assert doubled == 0
    else:
        # A crash repeats what the ledger had not yet noted, and never the whole.
        assert doubled < sent_before
    assert _start(env, topic, tmp_path, CSV).wait(120) == 0
    assert sum(end_offsets(env.kafka_config(), topic).values()) == len(found)


@pytest.mark.timeout(300)
def test_a_broker_that_goes_away_for_a_while_costs_no_row_and_doubles_none(env, kafka, topic, tmp_path):
    path = _write_ticks(tmp_path / "a.csv", 900_000)
    go = tmp_path / "go"
    process = _start(env, topic, tmp_path, CSV, go=go)
    _when_messages(env, topic, 100_000, process)
    kafka.kill()
    try:
        go.touch()
        assert process.poll() is None  # the last hundred thousand need the broker
    finally:
        kafka.start()
    assert process.wait(150) == 0
    assert Counter(_message_ids(env, topic)) == Counter(_ids(_source(path)))


def test_a_finite_synthetic_market_is_loaded_once(env, topic, tmp_path):
    source = {"type": "synthetic", "start": "2026-03-06", "days": 1, "trades_per_day": 5000, "quotes_per_trade": 1}
    assert _start(env, topic, tmp_path, source).wait(120) == 0
    assert len(set(_message_ids(env, topic))) == 5000
    assert _start(env, topic, tmp_path, source | {"events_per_second": 5}).wait(120) == 0
    assert len(_message_ids(env, topic)) == 5000


def test_a_load_waits_for_topics_that_come_later(env, free_topic, tmp_path):
    name = free_topic()
    _write_ticks(tmp_path / "a.csv", 10)
    process = _start(env, name, tmp_path, CSV)
    time.sleep(1.5)  # the point is to begin before the topics are there
    assert process.poll() is None
    ensure_topics(env.kafka_config(), [TopicSpec(name, partitions=1), TopicSpec(f"{name}.dlq", partitions=1)])
    assert process.wait(120) == 0
    assert len(_message_ids(env, name)) == 10


def test_a_load_that_waits_for_topics_ends_at_sigterm(env, free_topic, tmp_path):
    process = _start(env, free_topic(), tmp_path, CSV)
    time.sleep(5)  # past its start: until its signal handler is there SIGTERM ends it otherwise
    process.terminate()
    assert process.wait(90) in {130, -signal.SIGTERM}


def test_a_feed_with_a_source_that_is_missing_is_told_so(env, topic, tmp_path):
    config = _config(topic, CSV)
    with pytest.raises(UserError, match=r"a\.csv cannot be read"):
        run_load(env.model_copy(update={"source_dir": tmp_path / "nowhere"}), config)


@pytest.mark.timeout(300)
def test_a_market_without_end_is_produced_until_sigterm(env, topic, tmp_path):
    source = {"type": "synthetic", "start": "2026-03-06", "days": 0, "events_per_second": 2000, "quotes_per_trade": 0}
    process = _start(env, topic, tmp_path, source, "run_producer")
    _when_messages(env, topic, 3000, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0
    found = _message_ids(env, topic)
    assert len(set(found)) == len(found)


def test_the_command_loads_and_tells_in_json(env, tmp_path, monkeypatch):
    name = "market.equities.trades.tse"  # the command takes known exchanges only
    ensure_topics(env.kafka_config(), [TopicSpec(name, partitions=1), TopicSpec(f"{name}.dlq", partitions=1)])
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", env.kafka_bootstrap_servers)
    monkeypatch.setenv("K2_REGISTRY_URL", env.registry_url)
    monkeypatch.setenv("K2_DATA_DIR", str(env.data_dir))
    path = tmp_path / "a.csv"
    path.write_text("symbol,timestamp,price,quantity\nSONY,2014-03-10T00:00:00Z,1,2\nSONY,2014-03-10T00:00:01Z,NaN,2\n")
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_load.register(app)
    result = CliRunner().invoke(app, ["load", "trades", str(path), "--exchange", "tse", "--output", "json"])
    document = json.loads(result.stdout)
    assert result.exit_code == document["exit_code"] == 4
    assert {key: document[key] for key in ("topic", "read", "accepted", "rejected", "sent", "already_there")} == {
        "topic": name, "read": 2, "accepted": 1, "rejected": 1, "sent": 1, "already_there": 0,
    }  # fmt: skip
    assert document["rejects_file"] == str(env.data_dir / "rejects" / "a.csv.rejects.csv")
    again = CliRunner().invoke(app, ["load", "trades", str(path), "--exchange", "TSE"])
    assert again.exit_code == 4
    assert "These files were loaded before: nothing was sent" in again.stdout
