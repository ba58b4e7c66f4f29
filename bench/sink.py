"""Rows per second from a topic into Iceberg, by the wall: `python -m bench.sink [--rows N] [--rounds N]`.

K2's sink runs as the process that a pod runs (exact offsets, daily partition, sort order, zstd, deduplication on), into a
fresh table with a fresh group each time, and what it wrote is audited. The time is from the first poll that could bring
messages (its log line `sink.assigned`) to the end of the last commit (`sink.committed`); the time of the whole process is
given too. Beside it, on the same topic, broker and disk, in turns: the row-by-row way (fastavro, `from_pylist`, append),
and the limit: reading alone, in Python and by Java's own consumer test.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pyarrow as pa

from bench import parts
from k2.bus.admin import beginning_offsets, end_offsets
from k2.bus.registry import Schemas
from k2.lake.catalog import open_named
from k2.lake.proof.audit import audit_table
from k2.lake.scan import plan_files

TOPIC = parts.topic_name("bench")
AGAIN = parts.topic_name("again")
JAVA_TEST = "org.apache.kafka.tools.ConsumerPerformance"
COMMAND_SECONDS = 600


def sink_run(place: parts.Ground, topic: str, folder: Path, name: str = "sink", **config) -> dict[str, float]:
    """One run of K2's sink to the end of the topic, audited."""
    if not (folder / "catalog.db").exists():
        parts.make_lake(folder)
    sink = parts.start_sink(place, folder, topic, name, "--until-end", **config)
    try:
        sink.wait(COMMAND_SECONDS)
    finally:
        sink.stop()
    lines = parts.log_lines(sink.log)
    first = next(line["at"] for line in lines if line["event"] == "sink.assigned")
    commits = [line for line in lines if line["event"] == "sink.committed"]
    seconds = commits[-1]["at"] - first
    rows, duplicates = (sum(line[key] for line in commits) for key in ("rows", "duplicates"))
    began = time.monotonic()
    table = open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE)
    audit = audit_table(table, _ends(place, topic))
    held = sum(each.rows for each in audit.partitions if each.topic == topic)
    if not audit.ok or held != rows or any(each.behind for each in audit.partitions):
        raise SystemExit(f"the audit of {folder} found: {audit}")
    return {
        "rows": rows,
        "duplicates": duplicates,
        "commits": len(commits),
        "files": sum(line["files"] for line in commits),
        "seconds": seconds,
        "rows_per_second": (rows + duplicates) / seconds,
        "process_seconds": (sink.ended or 0) - sink.started,
        "process_rows_per_second": (rows + duplicates) / ((sink.ended or 0) - sink.started),
        "peak_rss_mib": sink.peak_kib / 1024,
        "cpu_us_per_row": sink.cpu_seconds / (rows + duplicates) * 1e6,
        "file_mib": statistics.median(file.bytes for file in plan_files(table, _current(table))) / 2**20,
        "target_file_mib": int(table.properties["write.target-file-size-bytes"]) / 2**20,
        "audit_seconds": time.monotonic() - began,
    }


def _current(table) -> int | None:
    snapshot = table.current_snapshot()
    return None if snapshot is None else snapshot.snapshot_id


def _ends(place: parts.Ground, topic: str) -> dict[str, dict[int, int]]:
    return {topic: end_offsets(place.kafka, topic)}


def row_by_row(place: parts.Ground, topic: str, rows: int, folder: Path) -> dict[str, float]:
    """The usual way: poll a message, read it with fastavro, collect dicts, `from_pylist`, `append`."""
    import fastavro
    from confluent_kafka import Consumer

    table = parts.make_lake(folder).load_table(parts.TABLE)
    arrow = table.schema().as_arrow()
    consumer = Consumer(
        place.kafka | {"group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([topic])
    schemas = Schemas(place.registry)
    known: dict[int, dict] = {}
    held: list[dict] = []
    first = consumer.poll(60)
    began, message = time.perf_counter(), first
    while True:
        if message is not None and not message.error():
            value = message.value()
            schema_id = int.from_bytes(value[1:5], "big")
            if schema_id not in known:
                known[schema_id] = fastavro.parse_schema(json.loads(schemas.schema(schema_id) or ""))
            row = fastavro.schemaless_reader(io.BytesIO(value[5:]), known[schema_id], None)
            row["message_id"] = row["message_id"].bytes
            row |= {"kafka_topic_id": topic, "kafka_partition": message.partition(), "kafka_offset": message.offset()}
            held.append(row)
        if len(held) == rows:
            break
        message = consumer.poll(10)
    table.append(pa.Table.from_pylist(held, schema=arrow))
    consumer.commit()
    seconds = time.perf_counter() - began
    consumer.close()
    assert table.scan().count() == rows
    return {"rows_per_second": rows / seconds, "seconds": seconds}


def read_only(place: parts.Ground, topic: str) -> dict[str, float]:
    """K2's consumer and nothing after it, polls as large as the sink's."""
    import gc

    from k2.bus.consumer import TopicReader
    from k2.sink.loop import POLL_MESSAGES

    wanted = sum(end - begin for begin, end in _bounds(place, topic))
    earliest = beginning_offsets(place.kafka, topic)
    reader = TopicReader(
        place.kafka,
        topic,
        uuid.uuid4().hex,
        on_assigned=lambda partitions: {partition: earliest[partition] for partition in partitions},
        on_revoked=lambda _: None,
        on_lost=lambda _: None,
    )
    gc.collect()
    gc.freeze()
    seen, began = 0, 0.0
    while seen < wanted:
        polled = reader.poll_block(POLL_MESSAGES, 0.1)
        if polled is not None:
            began = began or time.perf_counter()
            seen += len(polled.payloads)
    seconds = time.perf_counter() - began
    reader.close()
    return {"rows_per_second": seen / seconds, "seconds": seconds}


def _bounds(place: parts.Ground, topic: str) -> list[tuple[int, int]]:
    begins, ends = beginning_offsets(place.kafka, topic), end_offsets(place.kafka, topic)
    return [(begins[partition], end) for partition, end in ends.items()]


def java_read(place: parts.Ground, topic: str) -> dict[str, float] | None:
    """Java's own consumer test, without the time of its join; None when its jars cannot be had."""
    from k2_local.services import artifacts

    try:
        path = [*sorted(artifacts.kafka_jars().glob("*.jar")), *_tools()]
    except (RuntimeError, OSError) as error:
        parts.say(f"Java's consumer test is left out: {error}")
        return None
    wanted = sum(end - begin for begin, end in _bounds(place, topic))
    command = [str(artifacts.java()), "-Xmx512m", "-cp", ":".join(map(str, path)), JAVA_TEST]
    command += ["--bootstrap-server", place.bootstrap_servers, "--topic", topic, "--messages", str(wanted)]
    command += ["--group", uuid.uuid4().hex, "--timeout", "60000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    rows = [line.split(",") for line in done.stdout.splitlines() if "," in line]
    try:
        named = dict(zip((name.strip() for name in rows[0]), rows[-1], strict=True))
        return {"rows_per_second": float(named["fetch.nMsg.sec"]), "seconds": float(named["fetch.time.ms"]) / 1000}
    except (IndexError, KeyError, ValueError):
        parts.say(f"Java's consumer test is left out: {done.stdout[-500:]}{done.stderr[-500:]}")
        return None


def _tools() -> list[Path]:
    from k2_local.services.artifacts import KAFKA_VERSION

    wanted = ("kafka-tools-", "jackson-dataformat-csv")
    return [jar for jar in parts.jars(f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}") if jar.name.startswith(wanted)]


def apart(way: str, place: parts.Ground, topic: str, **options) -> dict[str, float]:
    """One of the ways above in a process of its own."""
    command = [sys.executable, "-m", "bench.sink", "--way", way, "--ground", str(place.write()), "--topic", topic]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=COMMAND_SECONDS, check=True, cwd=parts.REPOSITORY
    )
    return json.loads(done.stdout.splitlines()[-1])


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure(place: parts.Ground, *, rows: int, rounds: int, naive_rows: int) -> dict:
    """Everything about the sink. The topic is made, and left as it is for those that are measured beside it."""
    home = Path(place.folder) / "sinks"
    parts.fill_topic(place, TOPIC, 0, rows)
    runs: dict[str, list[dict[str, float]]] = {"sink": [], "row by row": [], "read only": [], "java": []}
    again: list[dict[str, float]] = []
    repeated = min(rows, 2_000_000)
    parts.fill_topic(place, AGAIN, 0, repeated)
    for number in range(rounds):
        folder = home / f"round-{number}"
        runs["sink"].append(sink_run(place, TOPIC, folder))
        parts.say(f"sink: {_line(runs['sink'][-1])}")
        again.append(sink_run(place, AGAIN, folder, "again"))
        parts.say(f"the same once more: {_line(again[-1])}")
        if again[-1]["duplicates"] != repeated:
            raise SystemExit(f"{again[-1]['duplicates']:,} of {repeated:,} repeated rows were found to be duplicates")
        shutil.rmtree(folder)
        folder = home / f"naive-{number}"
        runs["row by row"].append(apart("row-by-row", place, TOPIC, rows=naive_rows, folder=folder))
        shutil.rmtree(folder)
        runs["read only"].append(apart("read-only", place, TOPIC))
        if (java := java_read(place, TOPIC)) is not None:
            runs["java"].append(java)
        for way in ("row by row", "read only", "java"):
            if runs[way]:
                parts.say(f"{way}: {runs[way][-1]['rows_per_second']:,.0f} rows/s")
    found = {"rows": rows, "repeated": repeated, "naive_rows": naive_rows, "runs": runs | {"again": again}}
    found |= {name: middle(each) for name, each in (runs | {"again": again}).items() if each}
    return found


def measure_long(place: parts.Ground, rows: int, long_rows: int) -> dict[str, float]:
    """Extend the bench topic and run the sink over all of it once: does its memory stay where it was?"""
    parts.fill_topic(place, TOPIC, rows, long_rows)
    folder = Path(place.folder) / "sinks" / "long"
    found = sink_run(place, TOPIC, folder)
    parts.say(f"sink, long: {_line(found)}")
    shutil.rmtree(folder)
    return found


def long_figures(found: dict[str, float]) -> list[parts.Figure]:
    name = f"{found['rows'] / 1e6:g} M rows"
    return [
        parts.figure("sink", name, found["rows_per_second"], "rows/s"),
        parts.figure("sink", f"{name}, peak memory", found["peak_rss_mib"], "MiB", at_most=1024),
    ]


def _line(run: dict[str, float]) -> str:
    return (
        f"{run['rows_per_second']:,.0f} rows/s ({run['process_rows_per_second']:,.0f} with start and stop of the process), "
        f"{run['cpu_us_per_row']:.2f} µs CPU/row, {run['peak_rss_mib']:.0f} MiB peak, {run['commits']:.0f} commits, "
        f"{run['files']:.0f} files, audited"
    )


def figures(found: dict) -> list[parts.Figure]:
    sink, naive = found["sink"], found["row by row"]
    rate = sink["rows_per_second"]
    rows = [
        parts.figure(
            "sink",
            f"{found['rows'] / 1e6:g} M rows, Kafka → Iceberg",
            rate,
            "rows/s",
            baseline=naive["rows_per_second"],
            of=f"row by row, {found['naive_rows'] // 1000} K rows",
            at_least=500_000,
            times=8,
        ),
        parts.figure("sink", "with start and end of the process", sink["process_rows_per_second"], "rows/s"),
        parts.figure(
            "sink",
            "reading alone, the same consumer",
            found["read only"]["rows_per_second"],
            "rows/s",
            baseline=rate,
            of="the sink",
        ),
    ]
    if "java" in found:
        java = found["java"]["rows_per_second"]
        rows.append(parts.figure("sink", "Java's consumer test", java, "rows/s", baseline=rate, of="the sink"))
    rows.append(
        parts.figure(
            "sink",
            f"{found['repeated'] / 1e6:g} M rows, all duplicates",
            found["again"]["rows_per_second"],
            "rows/s",
            baseline=rate,
            of="the sink, new rows",
        )
    )
    target = sink["target_file_mib"]
    rows.append(parts.figure("sink", "median data file", sink["file_mib"], "MiB", baseline=target, of="target size"))
    rows.append(parts.figure("sink", "processor time", sink["cpu_us_per_row"], "µs/row"))
    rows.append(parts.figure("sink", "peak memory", sink["peak_rss_mib"], "MiB", at_most=1024))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--naive-rows", type=int, default=300_000)
    parser.add_argument("--long-rows", type=int, default=0, help="extend the topic to so many and run once more")
    parser.add_argument("--ground", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=["row-by-row", "read-only"], help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    given = parser.parse_args()
    if given.way == "row-by-row":
        print(json.dumps(row_by_row(parts.Ground.read(given.ground), given.topic, given.rows, given.folder)))
        return
    if given.way == "read-only":
        print(json.dumps(read_only(parts.Ground.read(given.ground), given.topic)))
        return
    with parts.ground(given.ground, keep=given.keep) as place:
        found = measure(
            place,
            rows=given.rows,
            rounds=given.rounds,
            naive_rows=min(given.rows, given.naive_rows),
        )
        if given.long_rows > given.rows:
            found["long"] = measure_long(place, given.rows, given.long_rows)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
