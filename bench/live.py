"""Live answers and replay: `python -m bench.live [--seconds N] [--rows N]`.

Event to answer: 50,000 trades a second flow into a topic, a sink commits them every few seconds, and a client asks the
service over HTTP for one symbol's last ten seconds, again and again. `ingestion_timestamp` is the moment before the send; an event
is answered when the first answer that holds it is read. So the time from one question to the next is in the figure.

Replay: quotes and trades of one table each, as the sink leaves them, merged in the order of events: through the generator in
process, and through the WebSocket of the service as Arrow frames; then paced, by how late the rows come.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from websockets.sync.client import connect

from bench import latency, parts
from bench.queries import KEY, wait_ready
from k2.lake.appends.batch import OrderedBatch
from k2.lake.appends.writer import write_files
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_tables
from k2.model.events import arrow_schema
from k2.model.settings import Settings
from k2.model.tables import builtin_table
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.asked.cursor import ReplayQuery
from k2.query.asked.pace import Pace
from k2.query.events.player import Player
from k2.query.opening import open_questions

RATE = 50_000
COMMIT_SECONDS = 5.0
WARM_SECONDS = 5
WINDOW_SECONDS = 10
PACED_ROWS = 20_000


@contextmanager
def service(folder: Path, properties: dict, **environment: str):
    """The query service as a pod runs it."""
    import hashlib
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "keys.json").write_text(json.dumps([{"name": KEY, "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]))
    (folder / "query.json").write_text(json.dumps({"api_keys_file": str(folder / "keys.json")}))
    env = {key: value for key, value in os.environ.items() if not key.startswith("K2_")} | {
        "K2_CONFIG_FILE": str(folder / "query.json"),
        "K2_CATALOG_PROPERTIES": json.dumps(properties),
        "K2_HTTP_PORT": str(port),
        "K2_DATA_DIR": str(folder),
        "K2_LOG_FORMAT": "json",
        **environment,
    }
    measured = parts.Measured.start([sys.executable, "-m", "k2", "run", "query"], folder / "query.log", env, folder)
    try:
        wait_ready(port, measured.process)
        yield port, measured
    finally:
        measured.stop()


def event_to_answer(place: parts.Ground, *, seconds: float) -> dict:
    """Latency of every event of one symbol, and how long the questions took."""
    folder = Path(place.folder) / "live"
    shutil.rmtree(folder, ignore_errors=True)
    parts.make_lake(folder)
    ensure_tables(open_named("k2", parts.catalog_properties(folder)), [builtin_table(DataType.QUOTES)])
    topic = parts.topic_name(f"live-{time.time_ns()}")
    parts.make_topic(place, topic)
    sink = parts.start_sink(place, folder, topic, commit_interval_seconds=COMMIT_SECONDS)
    kafka = {"K2_KAFKA_BOOTSTRAP_SERVERS": place.bootstrap_servers, "K2_REGISTRY_URL": place.registry_url}
    try:
        with service(folder, parts.catalog_properties(folder), **kafka) as (port, measured):
            latency.steady(place, topic, 1_000, 2)  # the table learns of its topic with the first commit
            _until(lambda: _snapshots(folder) > 0)
            parts.say("live: the first commit is there")
            command, total = [sys.executable, "-m", "bench.live"], seconds + WARM_SECONDS
            sender = subprocess.Popen(
                [*command, "--send", topic, "--ground", str(place.write()), "--seconds", str(total)],
                cwd=parts.REPOSITORY,
            )
            found = _ask(port, seconds, lambda: sender.poll() is None)
            sender.wait(60)
            found |= {"service_peak_mib": measured.peak_kib / 1024, "snapshots": _snapshots(folder)}
    finally:
        sink.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _ask(port: int, seconds: float, flows) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    symbol = str(parts.SYMBOLS[0])
    seen: dict[str, float] = {}
    latencies: list[float] = []
    took: list[float] = []
    tail_rows: list[int] = []
    incomplete: list[str] = []
    stale: list[float] = []
    first = time.time() + WARM_SECONDS
    while not flows():
        time.sleep(0.01)
    while time.time() < first + seconds and flows():
        since = (datetime.now(UTC) - timedelta(seconds=WINDOW_SECONDS)).isoformat().replace("+00:00", "Z")
        path = (
            f"/v1/trades?symbol={symbol}&start={since}&limit=20000&format=arrow&fields=message_id,ingestion_timestamp"
        )
        began = time.perf_counter()
        connection.request("GET", path, headers={"X-API-Key": KEY})
        reply = connection.getresponse()
        content = reply.read()
        now = time.time()
        if reply.status != 200:
            raise SystemExit(f"{reply.status}: {content[:500]!r}")
        if reply.headers.get("K2-Incomplete") and now > first:
            incomplete.append(reply.headers["K2-Incomplete"])
        rows = pa.ipc.open_stream(content).read_all()
        sent = rows["ingestion_timestamp"].cast(pa.int64()).to_numpy() / 1e6
        for each, at in zip(rows["message_id"].to_pylist(), sent.tolist(), strict=True):
            if each not in seen:
                seen[each] = now
                if at > first:
                    latencies.append(now - at)
        if now > first:
            took.append(time.perf_counter() - began)
            tail_rows.append(int(reply.headers.get("K2-Tail-Rows", 0)))
            stale.append(float(reply.headers.get("K2-Stale-Seconds", "nan")))
    connection.close()
    if len(latencies) < 100:
        raise SystemExit(
            f"only {len(latencies)} events were answered by {len(took)} questions; {len(seen)} in all; {set(incomplete)}"
        )
    return {
        "events": len(latencies),
        "p50": float(np.quantile(latencies, 0.5)),
        "p99": float(np.quantile(latencies, 0.99)),
        "max": max(latencies),
        "questions": len(took),
        "question_p50_ms": statistics.median(took) * 1000,
        "question_p99_ms": float(np.quantile(took, 0.99)) * 1000,
        "incomplete": len(incomplete),
        "incomplete_because": sorted(set(incomplete))[:3],
        "stale_p50": statistics.median(stale),
        "stale_p99": float(np.quantile(stale, 0.99)),
        "tail_rows_p50": statistics.median(tail_rows),
    }


def replays(folder: Path, *, rows: int) -> dict:
    """Rows a second through the generator and through the WebSocket, and how late paced rows are."""
    properties = parts.catalog_properties(folder)
    settings = Settings(catalog_properties=properties, data_dir=folder)
    found: dict = {"rows": _fill(folder, rows)}
    questions, engine = open_questions(QueryConfig(), settings)
    try:
        best = {}
        for _ in range(3):
            began, first, count = time.perf_counter(), 0.0, 0
            for batch in questions.replay_merged(ReplayQuery()).batches():
                first = first or time.perf_counter() - began
                count += batch.rows.num_rows
            rate = count / (time.perf_counter() - began)
            if rate > best.get("generator", 0):
                best = {"generator": rate, "generator_first_s": first}
        if count != found["rows"]:
            raise SystemExit(f"{found['rows']:,} rows, {count:,} replayed")
        found |= best | _paced(questions)
    finally:
        engine.close()
    with service(folder, properties) as (port, measured):
        found["websocket"] = max(_stream(port, found["rows"]) for _ in range(3))
        found["service_peak_mib"] = measured.peak_kib / 1024
    return found


def _paced(questions) -> dict:
    """Lateness of rows that are due one by one."""
    player = Player(questions.replay_merged(ReplayQuery()), Pace(rate=PACED_ROWS / 10))
    late: list[float] = []
    given, began = 0, 0.0
    while given < PACED_ROWS:
        batch = player.take(30.0, 1_000_000)
        now = time.monotonic()
        assert batch is not None
        began = began or now
        due = began + (given + np.arange(batch.rows.num_rows)) / (PACED_ROWS / 10)
        late += (now - due).tolist()
        given += batch.rows.num_rows
    player.close()
    return {"paced_p50_ms": float(np.quantile(late, 0.5)) * 1000, "paced_p99_ms": float(np.quantile(late, 0.99)) * 1000}


def _stream(port: int, rows: int) -> float:
    url = f"ws://127.0.0.1:{port}/v1/stream"
    with connect(url, additional_headers={"X-API-Key": KEY}, max_size=None, compression=None) as talk:
        talk.send(json.dumps({"type": "start", "format": "arrow", "batch_rows": 16_384}))
        began, count = time.perf_counter(), 0
        while True:
            message = talk.recv()
            if isinstance(message, bytes):
                count += pa.ipc.open_stream(message).read_all().num_rows
            elif json.loads(message)["type"] in ("end", "error"):
                break
        if count != rows:
            raise SystemExit(f"{rows:,} rows, {count:,} came: {message}")
        return count / (time.perf_counter() - began)


def _fill(folder: Path, rows: int) -> int:
    """Trades and quotes of two days in four files a day each."""
    catalog = open_named("k2", parts.catalog_properties(folder))
    ensure_tables(catalog, [builtin_table(kind) for kind in (DataType.TRADES, DataType.QUOTES)])
    per_file, total = rows // 16, 0
    for data_type in (DataType.TRADES, DataType.QUOTES):
        table = catalog.load_table(f"market_data.{data_type.value}")
        for day in range(2):
            for part in range(4):
                number = (day * 4 + part) * per_file
                batch = _made(data_type, number, per_file, day * 86_400_000_000 - number * parts.STEP_US)
                order = OrderedBatch(batch, data_type).order
                with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
                    for file in write_files(table, batch, order):
                        append.append_data_file(file.data_file)
                total += per_file
    return total


def _made(data_type: DataType, first: int, count: int, shift_us: int) -> pa.Table:
    """Events with times spread over six hours of a day, in symbols as the sink's benchmark has them."""
    events = pa.Table.from_batches([parts.events(first, count)])
    spread = 6 * 3_600_000_000 // count
    times = parts.START_US + shift_us + first * parts.STEP_US + np.arange(count) * spread
    stamp = pa.array(times).cast(pa.timestamp("us", tz="UTC"))
    columns = {name: events[name] for name in events.column_names} | {"timestamp": stamp}
    if data_type is DataType.QUOTES:
        columns |= {"quote_id": columns["trade_id"], "bid_price": columns["price"], "ask_price": columns["price"]}
        columns |= {"bid_quantity": columns["quantity"], "ask_quantity": columns["quantity"]}
    schema = arrow_schema(data_type)
    made = pa.Table.from_arrays([_cast(columns[field.name], field.type) for field in schema], schema=schema)
    made = made.append_column("kafka_topic_id", pa.array([data_type.value] * count))
    made = made.append_column("kafka_partition", pa.array(np.zeros(count, np.int32)))
    return made.append_column("kafka_offset", pa.array(np.arange(first, first + count)))


def _cast(column, kind):
    return column.cast(kind) if column.type != kind else column


def _snapshots(folder: Path) -> int:
    return len(open_named("k2", parts.catalog_properties(folder)).load_table(parts.TABLE).metadata.snapshots)


def _until(check) -> None:
    deadline = time.monotonic() + 60
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit("the sink committed nothing")
        time.sleep(0.1)


def measure(place: parts.Ground, *, seconds: float, rows: int) -> dict:
    """All of it."""
    found = {"live": event_to_answer(place, seconds=seconds)}
    parts.say(f"live: {found['live']}")
    folder = Path(place.folder) / "replay"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found["replay"] = replays(folder, rows=rows)
    shutil.rmtree(folder)
    parts.say(f"replay: {found['replay']}")
    return found


def figures(found: dict) -> list[parts.Figure]:
    live, replay = found["live"], found["replay"]
    note = f"{live['events']:,} events, a question every {live['question_p50_ms']:.0f} ms, {live['incomplete']} said to be incomplete"
    return [
        parts.figure("live", f"event → answer, {RATE:,} a second, p50", live["p50"], "s", note=note),
        parts.figure("live", "event → answer, p99", live["p99"], "s", at_most=1.0),
        parts.figure("live", "query service's peak memory", live["service_peak_mib"], "MiB"),
        parts.figure(
            "live", "replay, quotes and trades merged, generator", replay["generator"], "rows/s", at_least=1_000_000
        ),
        parts.figure("live", "replay, WebSocket, Arrow frames", replay["websocket"], "rows/s", at_least=200_000),
        parts.figure("live", "paced replay, lateness, p99", replay["paced_p99_ms"], "ms", at_most=10),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rows", type=int, default=6_000_000)
    parser.add_argument("--send", metavar="TOPIC", help="only send trades to the topic (what the benchmark starts)")
    parser.add_argument("--ground", type=Path, help="the running broker and registry, for --send")
    given = parser.parse_args()
    if given.send:
        place = parts.Ground.read(given.ground)
        latency.steady(place, given.send, RATE, given.seconds, first=1_000_000)
        return
    with parts.ground() as place:
        found = measure(place, seconds=given.seconds, rows=given.rows)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
