"""Answers from a snapshot and its topic's tail, on a real broker, registry, catalog and real sinks."""

import hashlib
import json
import signal
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US, message_id
from k2_testing.lake import TRADES, catalog_properties
from k2_testing.sinks import SYMBOLS, eventually

from k2.api.app import create_app
from k2.bus.producer import EventProducer
from k2.lake.tables import ensure_tables
from k2.model.settings import Settings
from k2.model.tables import builtin_table
from k2.model.times import to_datetime
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.pace import Pace
from k2.query.asked.requests import At, EventsQuery, SummaryQuery
from k2.query.events.player import Player

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

TABLES = {DataType.TRADES: TRADES, DataType.QUOTES: "market_data.quotes"}


def ids_of(questions, **options):
    """Ids in an answer about all symbols, and what it says of its sources."""
    found = questions.events(EventsQuery(DataType.TRADES, limit=1_000_000, **options))
    return found.rows["message_id"].to_pylist(), found.provenance


def as_uuid(number):
    text = message_id(number).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def assert_whole(ids, sent):
    """Every id once, and of each symbol (one partition holds all of it) a prefix of what was sent."""
    seen = Counter(ids)
    assert max(seen.values(), default=1) == 1, "an event stands there twice"
    for numbers in sent.values():
        there = [as_uuid(number) in seen for number in numbers]
        assert there == sorted(there, reverse=True), "an event is missing among others that are there"


def by_symbol(stop):
    return {symbol: [n for n in range(stop) if SYMBOLS[n % len(SYMBOLS)] == symbol] for symbol in SYMBOLS}


def committed(pipeline, stop):
    """Send events and let a sink bring them into the table."""
    pipeline.produce(0, stop)
    pipeline.finish()


def test_what_the_sink_has_yet_to_commit_is_in_the_answer_once(pipeline):
    committed(pipeline, 1_000)
    pipeline.produce(1_000, 1_500)
    with hybrid_questions_of(pipeline) as questions:
        ids, said = ids_of(questions)
        assert Counter(ids) == Counter(map(as_uuid, range(1_500)))
        assert said.tails[0].problem is None
        assert said.tail_rows == 500
        assert said.complete_until_us == START_US + 1_499_000
        ((topic,),) = [tail.topics for tail in said.tails]
        assert sum(to - start for start, to in topic.ranges.values()) == 500
        alone, without = ids_of(questions, at=At(hybrid=False))
        assert Counter(alone) == Counter(map(as_uuid, range(1_000)))
        assert without.tails == ()


def test_a_summary_and_a_page_hold_the_tail_too(pipeline):
    committed(pipeline, 800)
    pipeline.produce(800, 1_600)
    with hybrid_questions_of(pipeline) as questions:
        day = to_datetime(START_US).date() + timedelta(days=1)
        found = questions.summary(SummaryQuery("BHP", day, "ASX"))
        assert found.trade_count == 200
        first = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=150))
        assert first.more
        pipeline.finish()  # the second page finds in files what the first one had from the topic
        pipeline.produce(1_600, 1_700)
        at = At(ends=first.provenance.ends)
        second = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=150, at=at, after=first.last))
        ids = first.rows["message_id"].to_pylist() + second.rows["message_id"].to_pylist()
        assert ids == [as_uuid(n) for n in range(1_600) if SYMBOLS[n % len(SYMBOLS)] == "BHP"]


def test_dead_letters_and_duplicates_are_no_rows(pipeline):
    committed(pipeline, 500)
    pipeline.produce(400, 700)  # 100 that the table has
    pipeline.produce(600, 800)  # 100 that the tail has
    with EventProducer(pipeline.kafka, topic=pipeline.topic, data_type=DataType.TRADES, schema_id=0) as producer:
        producer.produce(b"no event at all", "BHP")
        producer.produce(None, "BHP")
        producer.flush()
    with hybrid_questions_of(pipeline) as questions:
        ids, said = ids_of(questions)
        assert Counter(ids) == Counter(map(as_uuid, range(800)))
        assert said.tail_rows == 300
        pipeline.finish()
        after, said = ids_of(questions)
        assert Counter(after) == Counter(ids)
        assert said.tail_rows == 0


def test_a_tail_beyond_the_budget_says_up_to_where_it_is_complete(pipeline):
    committed(pipeline, 100)
    pipeline.produce(100, 20_000)
    with hybrid_questions_of(pipeline, budget_bytes=500_000) as questions:
        ids, said = ids_of(questions)
        assert_whole(ids, by_symbol(20_000))
        assert 100 < len(ids) < 20_000
        eventually(lambda: "longer than the service keeps" in (ids_of(questions)[1].tails[0].problem or ""), "says so")
        assert said.complete_until_us < START_US + 19_999_000
        pipeline.finish()
        eventually(lambda: len(ids_of(questions)[0]) == 20_000, "goes on when the table has what was held")
        assert_whole(ids_of(questions)[0], by_symbol(20_000))


def test_without_kafka_the_table_answers_alone_and_says_so(pipeline, kafka):
    committed(pipeline, 300)
    kafka.stop()
    try:
        with hybrid_questions_of(pipeline, wait_seconds=30.0) as questions:
            ids, said = ids_of(questions)
            assert Counter(ids) == Counter(map(as_uuid, range(300)))
            assert said.tails[0].problem
            eventually(lambda: "Kafka" in (ids_of(questions)[1].tails[0].problem or ""), "says why", 60)
            began = time.monotonic()
            ids_of(questions)
            assert time.monotonic() - began < 15.0, "only the first question waits"
            kafka.start()
            pipeline.produce(300, 400)
            eventually(lambda: len(ids_of(questions)[0]) == 400, "goes on when Kafka is back", 90)
    finally:
        kafka.start()


def test_the_tail_of_a_table_that_nobody_asks_about_is_released(pipeline):
    committed(pipeline, 100)
    pipeline.produce(100, 200)
    with hybrid_questions_of(pipeline) as questions:
        assert len(ids_of(questions)[0]) == 200
        missed = EventsQuery(DataType.TRADES, ("bhp",), at=At(hybrid=True))
        assert "Did you mean BHP?" in questions.events(missed).note
        tails = questions._planner.tails
        tails._idle = 1.0  # from here on nobody asks: sooner it might be released while a question waits for it
        eventually(lambda: not tails._followed and tails._budget.used == 0, "released")
        tails._idle = 300.0
        assert len(ids_of(questions)[0]) == 200


def test_every_answer_is_whole_while_a_sink_commits_is_killed_and_comes_back(pipeline):
    """Questions without a pause, while events flow and sinks die at each point of a commit."""
    committed(pipeline, 200)
    sinks_done = threading.Event()
    sent: list[int] = []

    def flow():
        low = 200
        while not sinks_done.is_set():
            pipeline.produce(low, low + 100, per_batch=100)
            low += 100
            time.sleep(0.1)
        sent.append(low)

    def sinks():
        try:
            for kill in ("before:2", "during:2", "after:3"):
                pipeline.sink(interval=0.2, kill=kill).wait(90)
            last = pipeline.sink(interval=0.2)
            at_first = pipeline.snapshots()
            eventually(
                lambda: pipeline.snapshots() > at_first + 3 and len(sources) > 4 and sources.total() > 20,
                "a healthy sink commits while questions are answered",
                180,
            )
            last.send_signal(signal.SIGSTOP)  # down, with what it holds
            time.sleep(1)
            last.kill()
        finally:
            sinks_done.set()

    threads = [threading.Thread(target=flow), threading.Thread(target=sinks)]
    before, sources = 0, Counter()
    with hybrid_questions_of(pipeline) as questions:
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                ids, said = ids_of(questions)
                assert_whole(ids, by_symbol(len(ids) + 2_000))
                assert len(ids) >= before, "an event was seen and is gone"
                before = len(ids)
                sources[said.snapshot.id] += 1
                # A broker that stands still for some seconds is told as just that.
                problem = said.tails[0].problem
                assert problem is None or problem.startswith("Kafka has not answered"), problem
        finally:
            for thread in threads:
                thread.join()
        (total,) = sent
        eventually(lambda: len(ids_of(questions)[0]) == total, "all that was sent")
        pipeline.finish()
        ids, said = ids_of(questions)
        assert Counter(ids) == Counter(map(as_uuid, range(total)))
    assert sources.total() > 20
    assert len(sources) > 4, "the sinks did not commit meanwhile: nothing was proven"
    assert pipeline.audit().ok


def test_over_rest_an_answer_says_from_where_each_part_came_and_pages_stay_whole(pipeline, tmp_path):
    committed(pipeline, 400)
    pipeline.produce(400, 800)
    (tmp_path / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": hashlib.sha256(b"secret").hexdigest()}]))
    settings = Settings(
        catalog_properties=catalog_properties(tmp_path),
        data_dir=tmp_path,
        kafka_bootstrap_servers=pipeline.kafka["bootstrap.servers"],
        registry_url=pipeline.registry["url"],
    )
    config = QueryConfig(api_keys_file=tmp_path / "keys.json", tail_wait_seconds=30)
    with TestClient(create_app(config, settings), headers={"X-API-Key": "secret"}) as client:
        reply = client.get("/v1/trades", params={"symbol": "BHP", "limit": 70})
        body = reply.json()
        assert body["hybrid"] is True
        iceberg, kafka = body["sources"]
        assert (iceberg["kind"], kafka["kind"], kafka["topic"]) == ("iceberg", "kafka", pipeline.topic)
        assert sum(to - start for start, to in kafka["offsets"].values()) == 400
        assert body["tail_rows"] == 50
        assert body["stale_seconds"] < 60
        assert "incomplete" not in body
        assert reply.headers["K2-Hybrid"] == "true"
        assert "ETag" not in reply.headers
        pipeline.finish()
        pipeline.produce(800, 900)
        second = client.get("/v1/trades", params={"page_token": body["next_page"], "limit": 70}).json()
        ids = [row["message_id"] for row in (*body["data"], *second["data"])]
        assert ids == [as_uuid(n) for n in range(800) if SYMBOLS[n % len(SYMBOLS)] == "BHP"]
        alone = client.get("/v1/trades", params={"symbol": "BHP", "hybrid": "false"})
        assert (alone.json()["count"], alone.json()["hybrid"]) == (100, False)
        assert "ETag" in alone.headers
        past = client.get("/v1/trades", params={"symbol": "BHP", "snapshot": alone.json()["snapshot_id"]})
        assert past.json()["hybrid"] is False
        wrong = client.get("/v1/trades", params={"symbol": "BHP", "as_of": "2030-01-01", "hybrid": "true"})
        assert wrong.status_code == 400
        (audited,) = client.get("/v1/audit", params={"table": "trades"}).json()["tables"]
        assert audited["ok"]
        assert sum(part["behind"] for part in audited["partitions"]) == 100


def test_a_replay_that_goes_on_within_a_step_misses_nothing_of_what_was_committed_meanwhile(pipeline):
    """The step's end is in the cursor; the file that holds the rest of the step holds what comes after it, too."""
    committed(pipeline, 100)
    seen: list[str] = []

    def take(batch):
        seen.extend(batch.rows["message_id"].to_pylist() if batch.rows.num_rows else ())

    with hybrid_questions_of(pipeline) as questions:
        replay = replace(questions.replay_merged(ReplayQuery((DataType.TRADES,), follow=True)), batch_rows=16)
        with closing(replay.batches()) as batches:
            while len(seen) < 100:
                take(next(batches))
            pipeline.produce(100, 200)
            everything = EventsQuery(DataType.TRADES, limit=1_000)
            eventually(lambda: questions.events(everything).rows.num_rows == 200, "all of them in the tail")
            while len(seen) == 100:
                take(batch := next(batches))
        assert len(seen) == 116, "it stops within the step"
        token = batch.cursor.encode()
    pipeline.produce(200, 300)
    pipeline.finish()
    with hybrid_questions_of(pipeline) as questions:
        stop = threading.Event()
        deadline = time.monotonic() + 120
        for batch in questions.replay_from(Cursor.decode(token)).batches(stop):
            take(batch)
            if len(seen) >= 300 or time.monotonic() > deadline:
                break
    assert Counter(seen) == Counter(map(as_uuid, range(300)))


def test_a_replay_goes_from_history_into_what_comes_in_without_a_seam(pipeline):
    """Read while events flow and a sink commits; begun again from a cursor in the middle of what came in live."""
    committed(pipeline, 500)
    pipeline.produce(500, 700)
    query = ReplayQuery((DataType.TRADES,), follow=True)
    stop, sent = threading.Event(), []

    def flow():
        low = 700
        while not stop.is_set():
            pipeline.produce(low, low + 100, per_batch=100)
            low += 100
            time.sleep(0.1)
        sent.append(low)

    thread = threading.Thread(target=flow, daemon=True)
    seen: list[str] = []
    with hybrid_questions_of(pipeline) as questions:
        first = Player(questions.replay_merged(query), Pace())
        thread.start()
        pipeline.sink(interval=0.3)
        before = pipeline.snapshots()

        def state():
            """What has come and what has not, for a failure's message."""
            total = sent[0] if sent else 0
            absent = [number for number in range(total) if as_uuid(number) not in set(seen)]
            told = (
                f"{len(seen)} seen, {len(set(seen))} of them distinct, of {total}; absent {absent[:5]} … {absent[-5:]}"
            )
            return f"{told}; recorded {pipeline.recorded()}, ends {pipeline.ends()}"

        def take(player, until):
            deadline = time.monotonic() + 180
            while not until():
                assert time.monotonic() < deadline, state()
                batch = player.take(0.5, 64)
                if batch is not None:
                    seen.extend(batch.rows["message_id"].to_pylist())

        take(first, lambda: len(seen) > 1_500 and pipeline.snapshots() > before + 2)
        assert seen[:500] == [as_uuid(n) for n in range(500)], "history is in the order of events"
        token = first.cursor.encode()
        first.close()
    with hybrid_questions_of(pipeline) as questions:  # another process, as far as anyone can tell
        second = Player(questions.replay_from(Cursor.decode(token)), Pace())
        more = len(seen) + 1_000
        take(second, lambda: len(seen) > more)
        stop.set()
        thread.join()
        (total,) = sent
        take(second, lambda: len(seen) >= total)
        second.close()
    assert Counter(seen) == Counter(map(as_uuid, range(total)))


def test_what_comes_in_has_the_columns_of_all_kinds_as_history_has(pipeline):
    ensure_tables(pipeline.catalog, [builtin_table(DataType.QUOTES)])
    committed(pipeline, 10)
    stop, deadline = threading.Event(), time.monotonic() + 120
    with hybrid_questions_of(pipeline) as questions:
        batches = questions.replay_merged(ReplayQuery(follow=True)).batches(stop)
        history = next(batches)
        pipeline.produce(10, 20)
        live = next(each for each in batches if each.rows.num_rows or time.monotonic() > deadline)
        stop.set()
        batches.close()
    assert live.is_live
    assert live.rows.num_rows > 0
    assert live.rows.schema == history.rows.schema
    assert live.rows["bid_price"].null_count == live.rows.num_rows
