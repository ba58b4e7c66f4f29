"""Messages per second from an Arrow batch to acknowledged messages, beside a loop of fastavro: `python -m bench.producer`.

Both ways have the same producer settings and run in turns against one broker, each round on a topic of its own. The broker is
started here, unless `--bootstrap-servers` names one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from confluent_kafka import Producer

from bench.codec import SCHEMA_ID, TRADES, encode_rows, trades
from k2.bus.admin import TopicSpec, delete_topics, ensure_topics
from k2.bus.producer import EventProducer

ROUNDS = 3


@contextmanager
def broker(address: str | None) -> Iterator[dict[str, str]]:
    """A broker's connection settings."""
    if address:
        yield {"bootstrap.servers": address}
        return
    from k2_local.services.kafka import LocalKafka

    with tempfile.TemporaryDirectory(prefix="k2-bench-") as folder:
        home = Path(folder)
        kafka = LocalKafka(home / "kafka", logs=home, run_dir=home / "run", heap="1g")
        kafka.start()
        try:
            yield {"bootstrap.servers": kafka.bootstrap_servers}
        finally:
            kafka.stop()


def columns(kafka: dict[str, str], topic: str, events: pa.RecordBatch) -> None:
    """Ours: blocks of 65,536 rows, as a loader sends them."""
    with EventProducer(kafka, topic=topic, data_type=TRADES, schema_id=SCHEMA_ID) as producer:
        sent = [producer.send(events.slice(at, 65_536)) for at in range(0, len(events), 65_536)]
        producer.flush(120)
    assert sum(delivery.acknowledged for delivery in sent) == len(events)


def rows(kafka: dict[str, str], topic: str, events: pa.RecordBatch) -> None:
    """The usual loop: encode a row, produce it, poll."""
    acknowledged = 0

    def report(error, _message):
        nonlocal acknowledged
        assert error is None
        acknowledged += 1

    producer = Producer(
        kafka
        | {
            "enable.idempotence": True,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "linger.ms": 10,
            "batch.size": 1_000_000,
        }
    )
    symbols = events.column("symbol").to_pylist()
    for at in range(0, len(events), 1_000):
        payloads = encode_rows(events.slice(at, 1_000))
        for key, payload in zip(symbols[at : at + 1_000], payloads, strict=True):
            producer.produce(topic, payload, key, on_delivery=report)
        producer.poll(0)
    producer.flush(120)
    assert acknowledged == len(events)


def measure(address: str | None, count: int) -> dict[str, float]:
    events = trades(count)
    few = events.slice(0, min(count, 50_000))
    rates: dict[str, list[float]] = {"columns": [], "rows": []}
    with broker(address) as kafka:
        for number in range(ROUNDS):
            for name, way, some in (("columns", columns, events), ("rows", rows, few)):
                topic = f"bench-producer-{name}-{number}-{time.time_ns()}"
                ensure_topics(kafka, [TopicSpec(topic)])
                start = time.perf_counter()
                way(kafka, topic, some)
                rates[name].append(len(some) / (time.perf_counter() - start))
                delete_topics(kafka, [topic])
    found = {name: statistics.median(each) for name, each in rates.items()}
    found["ratio"] = found["columns"] / found["rows"]
    found["peak RSS, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.bootstrap_servers, arguments.rows)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:14} {value:12,.1f}" + (" msg/s" if name in {"columns", "rows"} else ""))


if __name__ == "__main__":
    main()
