"""From an event's send to its being in a snapshot, with a commit a second: `python -m bench.latency [--seconds N] [--history N]`.

Trades are sent at a steady 50,000 a second; `ingestion_timestamp` is the moment before the send. A thread watches the
catalog for new metadata every ten milliseconds: an event is visible when the metadata of a snapshot that holds it is the
table's. Afterwards every row is read from the data files and gets the moment of the first snapshot that holds its offset.

`--history N` first makes N small commits by the sink's own committer, with the cap on snapshots on, so that the table's
metadata is as after N seconds of such commits (7,200: two hours). `--fleet` measures eight sinks of eight topics on one table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sqlite3
import statistics
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench import parts
from k2.bus.admin import cluster_id, end_offsets
from k2.bus.producer import EventProducer
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.catalog import open_named
from k2.lake.offsets import BATCH
from k2.lake.proof.audit import audit_table
from k2.lake.scan import plan_files
from k2.lake.snapshots import trim_snapshots
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import DataType
from k2.sink.writing import TRIM_EVERY

RATE = 50_000
TICK = 0.02
INTERVAL = 1.0
CAP = 300
FLEET, FLEET_RATE = 8, 2_000
SETTLE_SECONDS = 60
SENT_AT = "ingestion_timestamp"


@dataclass
class Watch:
    """Notes when the table's metadata changed, and what the new snapshot holds."""

    folder: Path
    seen: list[tuple[float, str]] = field(default_factory=list)
    metadata: dict[str, dict] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        connection = sqlite3.connect(self.folder / "catalog.db", timeout=60)
        last = ""
        while not self.stopped.wait(0.01):
            (found,) = connection.execute("SELECT metadata_location FROM iceberg_tables").fetchone()
            if found == last:
                continue
            self.seen.append((time.time(), found))
            last = found
            try:  # such files are deleted after a hundred more
                path = Path(found.removeprefix("file://"))
                self.metadata[found] = _digest(json.loads(path.read_text()), path.stat().st_size)
            except OSError:
                continue
        connection.close()


def _digest(metadata: dict, size: int) -> dict:
    """What is needed of a table's metadata, and how large it has become."""
    current = metadata.get("current-snapshot-id")
    snapshot = next((each for each in metadata["snapshots"] if each["snapshot-id"] == current), None)
    summary = {} if snapshot is None else snapshot["summary"]
    return {
        "bytes": size,
        "snapshots": len(metadata["snapshots"]),
        "files": int(summary.get("total-data-files", 0)),
        "batch": summary.get(BATCH, ""),
        "manifest_list": "" if snapshot is None else snapshot["manifest-list"],
    }


def steady(place: parts.Ground, topic: str, rate: int, seconds: float, first: int = 0) -> int:
    """Send trades at a steady rate, each stamped with the moment before its send; gives how many."""
    schema_id = parts.make_topic(place, topic)
    per_tick = max(1, int(rate * TICK))
    made = parts.events(first, max(per_tick, 50_000) // per_tick * per_tick)
    stamp = made.schema.get_field_index(SENT_AT)
    when = made.schema.get_field_index("timestamp")
    ids = made.schema.get_field_index("message_id")
    sent = 0
    with EventProducer(
        place.kafka, topic=topic, data_type=DataType.TRADES, schema_id=schema_id, linger_ms=5
    ) as producer:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * rate) // per_tick * per_tick
            if sent >= due:
                producer.poll(0.005)
                continue
            rows = made.slice(sent % len(made), per_tick)
            now = np.full(per_tick, time.time_ns() // 1000)
            words = np.stack([np.arange(sent, sent + per_tick), np.full(per_tick, first + 1)], axis=1).astype(np.uint64)
            fresh = {
                stamp: pa.array(now).cast(made.schema.field(stamp).type),
                when: pa.array(now + np.arange(per_tick) % 1000).cast(made.schema.field(when).type),
                ids: pa.Array.from_buffers(pa.binary(16), per_tick, [None, pa.py_buffer(parts.mix(words).tobytes())]),
            }
            columns = [fresh.get(number, column) for number, column in enumerate(rows.columns)]
            producer.send(pa.RecordBatch.from_arrays(columns, schema=made.schema))
            sent += per_tick
        producer.flush(60)
    return sent


def history(place: parts.Ground, folder: Path, commits: int, seconds: float) -> dict:
    """Commits of a few rows each, back to back, by the sink's committer with its cap on snapshots."""
    origin = Origin("history", "history", cluster_id(place.kafka))
    committer = Committer(parts.make_lake(folder), parts.TABLE, origin, DataType.TRADES)
    rows_each, began, took = 8, time.monotonic(), []
    start = time.time_ns() // 1000 - commits * 1_000_000
    marks: list[dict] = []
    for number in range(commits):
        if time.monotonic() - began > seconds:
            break
        events = parts.events(number * rows_each, rows_each)
        index = events.schema.get_field_index("timestamp")
        times = pa.array(start + number * 1_000_000 + np.arange(rows_each)).cast(events.schema.field(index).type)
        rows = pa.Table.from_batches([events.set_column(index, events.schema.field(index), times)])
        offsets = np.arange(number * rows_each, (number + 1) * rows_each)
        rows = rows.append_column(PARTITION, pa.array(np.zeros(rows_each, np.int32)))
        rows = rows.append_column(OFFSET, pa.array(offsets))
        before = time.perf_counter()
        committer.commit(Batch(rows, {0: (int(offsets[0]), int(offsets[-1]) + 1)}, {}))
        if number % TRIM_EVERY == 0:
            trim_snapshots(committer.catalog.load_table(parts.TABLE), CAP, datetime.now(UTC))
        took.append(time.perf_counter() - before)
        if number and number % max(1, commits // 6) == 0:
            marks.append(_state(folder) | {"commits": number, "commit_ms": statistics.median(took[-100:]) * 1000})
            parts.say(f"history: {marks[-1]}")
    marks.append(_state(folder) | {"commits": len(took), "commit_ms": statistics.median(took[-100:]) * 1000})
    parts.say(f"history: {marks[-1]}")
    return {"commits": len(took), "seconds": time.monotonic() - began, "marks": marks}


def _state(folder: Path) -> dict:
    """How large the table's metadata is now."""
    table = open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE)
    snapshot = table.current_snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(table.io)
    home = Path(table.location().removeprefix("file://")) / "metadata"
    return {
        "metadata_kib": Path(table.metadata_location.removeprefix("file://")).stat().st_size // 1024,
        "snapshots": len(table.metadata.snapshots),
        "manifests": len(manifests),
        "largest_manifest_kib": max((each.manifest_length for each in manifests), default=0) // 1024,
        "files": sum((each.added_files_count or 0) + (each.existing_files_count or 0) for each in manifests),
        "metadata_folder_files": len(list(home.iterdir())),
        "metadata_folder_mib": sum(entry.stat().st_size for entry in home.iterdir()) >> 20,
    }


def one_sink(place: parts.Ground, *, seconds: float, rate: int, past: int, past_seconds: float) -> dict:
    """Latency of every event that one sink brings into the table with a commit a second."""
    topic = parts.topic_name(f"latency-{time.time_ns()}")
    folder = Path(place.folder) / "latency"
    shutil.rmtree(folder, ignore_errors=True)
    parts.make_lake(folder)
    parts.make_topic(place, topic)
    found: dict = {"rate": rate}
    if past:
        found["history"] = history(place, folder, past, past_seconds)
    watch = Watch(folder)
    thread = threading.Thread(target=watch.run, daemon=True)
    sink = parts.start_sink(place, folder, topic, commit_interval_seconds=INTERVAL, max_snapshots=CAP)
    try:
        _until(lambda: '"sink.assigned"' in sink.tail(100_000), sink)
        thread.start()
        cpu_before, began = sink.cpu_seconds, time.monotonic()
        sent = steady(place, topic, rate, seconds)
        ends = end_offsets(place.kafka, topic)
        found["cpu_share"] = (sink.cpu_seconds - cpu_before) / (time.monotonic() - began)
        _until(lambda: _held(folder, topic) >= sum(ends.values()), sink)
    finally:
        sink.stop()
        watch.stopped.set()
    thread.join(10)
    found |= _latencies(folder, topic, watch, sent) | {"sent": sent, "peak_rss_mib": sink.peak_kib / 1024}
    commits = [line for line in parts.log_lines(sink.log) if line["event"] == "sink.committed"]
    found["write_ms"] = [round(1000 * _quantile([line["seconds"] for line in commits], q)) for q in (0.5, 0.99)]
    found["state"] = _state(folder)
    audit = audit_table(open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE), {topic: ends})
    if not audit.ok:
        raise SystemExit(f"the audit found: {audit}")
    shutil.rmtree(folder)
    return found


def _until(check, sink: parts.Measured) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not check():
        if time.monotonic() > deadline or sink.process.poll() is not None:
            raise SystemExit(f"the sink did not get there\n{sink.tail()}")
        time.sleep(0.05)


def _held(folder: Path, topic: str) -> int:
    from k2.lake.offsets import recorded_offsets

    table = open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE)
    return sum(recorded_offsets(table).next_of(topic).values())


def _latencies(folder: Path, topic: str, watch: Watch, sent: int) -> dict:
    """Per event: when the first snapshot that holds it was the table's, less when it was sent."""
    visible: dict[int, tuple[list[int], list[float]]] = {}
    commits = 0
    for at, location in watch.seen:
        batch = watch.metadata.get(location, {}).get("batch", "")
        if not batch.startswith(f"{topic} "):
            continue
        moved = False
        for part in batch.split(" ")[1:]:
            partition, _, rest = part.partition(":")
            end = int(rest.split("=")[0].split("-")[1])
            ends, times = visible.setdefault(int(partition), ([], []))
            if not ends or end > ends[-1]:
                ends.append(end)
                times.append(at)
                moved = True
        commits += moved
    table = open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE)
    latencies, newest = [], []
    for file in plan_files(table, _current(table)):
        rows = pq.read_table(file.path.removeprefix("file://"), columns=["kafka_topic_id", PARTITION, OFFSET, SENT_AT])
        stamps = rows.column(SENT_AT).cast(pa.int64()).to_numpy() / 1e6
        partitions, offsets = rows.column(PARTITION).to_numpy(), rows.column(OFFSET).to_numpy()
        if stamps[0] < watch.seen[0][0] - 3600 * 24:
            continue  # of the history
        for partition in np.unique(partitions):
            here = partitions == partition
            ends, times = visible[int(partition)]
            place = np.searchsorted(ends, offsets[here], side="right")
            latencies.append(np.array(times)[place] - stamps[here])
            newest.append(stamps[here])
    taken, when = np.concatenate(latencies), np.concatenate(newest)
    if len(taken) != sent:
        raise SystemExit(f"{sent:,} trades were sent, {len(taken):,} found")
    last = when > when.max() - (when.max() - when.min()) / 4
    sizes = [watch.metadata[location]["bytes"] for _, location in watch.seen if location in watch.metadata]
    return {
        "commits": commits,
        "p50": float(np.quantile(taken, 0.5)),
        "p99": float(np.quantile(taken, 0.99)),
        "max": float(taken.max()),
        "p99_last_quarter": float(np.quantile(taken[last], 0.99)),
        "metadata_kib": [sizes[0] // 1024, sizes[len(sizes) // 2] // 1024, sizes[-1] // 1024],
    }


def _current(table) -> int:
    return table.current_snapshot().snapshot_id


def _quantile(values: list[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * q))]


def fleet(place: parts.Ground, *, seconds: float) -> dict:
    """Eight sinks of eight topics on one table, each wanting a commit a second."""
    folder = Path(place.folder) / "fleet"
    shutil.rmtree(folder, ignore_errors=True)
    parts.make_lake(folder)
    run = time.time_ns()
    topics = [parts.topic_name(f"fleet{number}-{run}") for number in range(FLEET)]
    for topic in topics:
        parts.make_topic(place, topic)
    sinks = [
        parts.start_sink(place, folder, topic, f"sink-{number}", commit_interval_seconds=INTERVAL, max_snapshots=CAP)
        for number, topic in enumerate(topics)
    ]
    try:
        for sink in sinks:
            _until(lambda sink=sink: '"sink.assigned"' in sink.tail(100_000), sink)
        threads = [
            threading.Thread(target=steady, args=(place, topic, FLEET_RATE, seconds, (number + 1) * 10_000_000))
            for number, topic in enumerate(topics)
        ]
        began = time.time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stopped = time.time()
        reached = {topic: _held(folder, topic) for topic in topics}
        ends = {topic: end_offsets(place.kafka, topic) for topic in topics}
        for topic, sink in zip(topics, sinks, strict=True):
            _until(lambda topic=topic: _held(folder, topic) >= sum(ends[topic].values()), sink)
        settled = time.time() - stopped
    finally:
        for sink in sinks:
            sink.process.terminate()
        for sink in sinks:
            sink.stop()
    rows = [reached[topic] for topic in topics]
    lines = [
        [line for line in parts.log_lines(sink.log) if line["event"] == "sink.committed" and line["at"] >= began]
        for sink in sinks
    ]
    gaps = [max(b["at"] - a["at"] for a, b in itertools.pairwise(each)) if len(each) > 1 else seconds for each in lines]
    audit = audit_table(open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE), ends)
    if not audit.ok:
        raise SystemExit(f"the audit found: {audit}")
    found = {
        "sinks": FLEET,
        "seconds": seconds,
        "sent_each": sum(ends[topics[0]].values()),
        "rows_min": min(rows),
        "rows_max": max(rows),
        "share_min": min(reached[topic] / sum(ends[topic].values()) for topic in topics),
        "commits_min": min(map(len, lines)),
        "commits_max": max(map(len, lines)),
        "commits_per_second": sum(map(len, lines)) / (stopped + settled - began),
        "conflicts": sum(line["attempts"] - 1 for each in lines for line in each),
        "longest_gap_seconds": max(gaps),
        "settled_seconds": settled,
        "peak_rss_mib": max(sink.peak_kib for sink in sinks) / 1024,
    }
    shutil.rmtree(folder)
    return found


def measure(place: parts.Ground, *, seconds: float, past: int, past_seconds: float, fleet_seconds: float) -> dict:
    found: dict = {}
    found["one"] = one_sink(place, seconds=seconds, rate=RATE, past=past, past_seconds=past_seconds)
    parts.say(f"one sink: {found['one']}")
    if fleet_seconds:
        found["fleet"] = fleet(place, seconds=fleet_seconds)
        parts.say(f"fleet: {found['fleet']}")
    return found


def figures(found: dict) -> list[parts.Figure]:
    one = found["one"]
    before = one.get("history", {}).get("commits", 0)
    name = f"send → snapshot at {one['rate'] // 1000} K/s, {one['commits']} commits after {before}"
    rows = [
        parts.figure("latency", f"{name}, p50", one["p50"], "s"),
        parts.figure("latency", "p99", one["p99"], "s", at_most=2.5, baseline=one["p50"], of="p50"),
        parts.figure("latency", "p99 of the last quarter", one["p99_last_quarter"], "s", at_most=2.5),
    ]
    if "fleet" in found:
        several = found["fleet"]
        rows += [
            parts.figure(
                "latency",
                f"{several['sinks']} sinks on one table: least share of what was sent",
                several["share_min"] * 100,
                "%",
                at_least=80,
                note=f"{several['commits_min']} to {several['commits_max']} commits each, {several['conflicts']} conflicts",
            ),
            parts.figure("latency", "longest time a sink went without a commit", several["longest_gap_seconds"], "s"),
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--history", type=int, default=0, help="commits made beforehand (7200: two hours' worth)")
    parser.add_argument("--history-seconds", type=float, default=3600, help="longest time for making them")
    parser.add_argument("--fleet-seconds", type=float, default=60)
    parser.add_argument("--ground", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    with parts.ground(given.ground, keep=given.keep) as place:
        found = measure(
            place,
            seconds=given.seconds,
            past=given.history,
            past_seconds=given.history_seconds,
            fleet_seconds=given.fleet_seconds,
        )
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
