"""Milliseconds of a day summary, a day of 1-minute bars, 1,000 trades, and (of the real week) 1,000 trades with their quotes,
at the API, beside DuckDB by hand: `python -m bench.queries`. The bars of the API have a TWAP, those by hand have none.

The table is in the layout that the sink leaves (its own writer; four files a day, each sorted), with the real week beside it when
it is there; and once more compacted, without the real week. DuckDB by hand reads the right files of the same table, in process,
metadata cached, the same threads. Both are asked in turns for the same random symbol and day, and their answers are compared. On a busy machine
the lines of CPU (means) tell more than those by the wall.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import duckdb
import psutil

from bench import parts
from bench.market import FIRST_DAY, SYMBOLS, build, compacted
from k2.lake.catalog import open_named
from k2.lake.scan import plan_files
from k2.model.exchanges import exchange as exchange_of

KEY = "bench"
QUESTIONS = ("summary", "trades", "bars")
BY_HAND_SUMMARY = """
SELECT arg_min(price, ("timestamp", kafka_offset)) AS open, max(price) AS high, min(price) AS low,
       arg_max(price, ("timestamp", kafka_offset)) AS close, sum(quantity) AS volume,
       sum(price::DECIMAL(28, 8) * quantity) AS notional, count(*) AS trade_count
FROM read_parquet($files) WHERE symbol = $symbol AND "timestamp" >= $start AND "timestamp" < $end"""
BY_HAND_ORDERED = """
SELECT first(price) AS open, max(price) AS high, min(price) AS low, last(price) AS close, sum(quantity) AS volume,
       sum(price::DECIMAL(28, 8) * quantity) AS notional, count(*) AS trade_count
FROM read_parquet($files) WHERE symbol = $symbol AND "timestamp" >= $start AND "timestamp" < $end"""
BY_HAND_TRADES = """
SELECT * FROM read_parquet($files) WHERE symbol = $symbol AND "timestamp" >= $start AND "timestamp" < $end
ORDER BY "timestamp", kafka_offset LIMIT 1000"""
BY_HAND_BARS = """
SELECT epoch_us("timestamp") // 60000000 AS minute, arg_min(price, ("timestamp", kafka_offset)) AS open,
       max(price) AS high, min(price) AS low, arg_max(price, ("timestamp", kafka_offset)) AS close,
       sum(quantity) AS volume, sum(price::DECIMAL(28, 8) * quantity) AS notional, count(*) AS trade_count
FROM read_parquet($files) WHERE symbol = $symbol AND "timestamp" >= $start AND "timestamp" < $end
GROUP BY ALL ORDER BY ALL"""
BY_HAND_ASOF = """
WITH t AS (
    SELECT * FROM read_parquet($files) WHERE symbol = $symbol AND "timestamp" >= $start AND "timestamp" < $end
    ORDER BY "timestamp", kafka_offset LIMIT 1000
), q AS (
    SELECT "timestamp" AS quoted, arg_max({'bid': bid_price, 'ask': ask_price}, kafka_offset) AS quote
    FROM read_parquet($quotes) WHERE symbol = $symbol AND "timestamp" >= $opened AND "timestamp" < $end GROUP BY ALL
)
SELECT t.*, quote.bid AS bid_price, quote.ask AS ask_price FROM t ASOF LEFT JOIN q ON t."timestamp" > q.quoted
ORDER BY t."timestamp", t.kafka_offset"""


@contextmanager
def service(folder, properties):
    """The query service as `k2 run query` starts it; gives its port and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "keys.json").write_text(json.dumps([{"name": KEY, "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]))
    (folder / "query.json").write_text(json.dumps({"api_keys_file": str(folder / "keys.json")}))
    env = os.environ | {
        "K2_CONFIG_FILE": str(folder / "query.json"),
        "K2_CATALOG_PROPERTIES": json.dumps(properties),
        "K2_HTTP_PORT": str(port),
        "K2_DATA_DIR": str(folder),
        "K2_LOG_FORMAT": "json",
    }
    with (folder / "query.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "k2", "run", "query"], env=env, stderr=log)
        try:
            wait_ready(port, process)
            yield port, process
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_ready(port, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the query service did not start: see query.log")


def get(connection, path):
    connection.request("GET", path, headers={"X-API-Key": KEY})
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200:
        raise SystemExit(f"{path}: {reply.status} {body[:500]!r}")
    return body


class Hand:
    """DuckDB by hand: the right files, the best settings."""

    def __init__(self, table, quotes):
        self._table, self._quotes = table, quotes
        self._duck = duckdb.connect(config={"threads": 2})
        self._duck.execute("SET GLOBAL TimeZone = 'UTC'; SET parquet_metadata_cache = true")
        self._lists = {}

    def run(self, sql, symbol, start, end):
        params = {"symbol": symbol, "start": start, "end": end, "files": self.files(symbol, start, end)}
        return self._duck.execute(sql, params).to_arrow_table()

    def asof(self, symbol, opened, start, end):
        files = {"files": self.files(symbol, start, end), "quotes": self.files(symbol, opened, end, self._quotes)}
        params = {"symbol": symbol, "opened": opened, "start": start, "end": end} | files
        return self._duck.execute(BY_HAND_ASOF, params).to_arrow_table()

    def files(self, symbol, start, end, table=None):
        table = table or self._table
        key = (table.name(), symbol, start, end)
        if key not in self._lists:
            micros = [int(moment.timestamp()) * 1_000_000 for moment in (start, end)]
            snapshot = table.current_snapshot().snapshot_id
            found = plan_files(table, snapshot, symbols=[symbol], start_us=micros[0], end_us=micros[1])
            self._lists[key] = [file.path.removeprefix("file://") for file in found]
        return self._lists[key]


def ask_both(folder, rows, days, rounds):
    """Milliseconds of the questions of the table as the sink leaves it and compacted, and the service's memory in MiB."""
    sunk, tight = (parts.catalog_properties(folder / name) for name in ("sunk", "compacted"))
    (table, with_real), milliseconds = timed(lambda: build(sunk, rows, days))
    said = f"{rows:,} rows in {days} days{' and the real week' if with_real else ''}"
    print(f"{said}: built in {milliseconds / 1000:.0f} s")
    questions = [*QUESTIONS, *([f"{kind} BHP" for kind in (*QUESTIONS, "asof")] if with_real else [])]
    with service(folder / "sunk", sunk) as (port, process):
        hand = Hand(table, open_named("k2", sunk).load_table("market_data.quotes"))
        took = measure(port, process, hand, days, questions, rounds)
        resident = psutil.Process(process.pid).memory_info().rss / 2**20
    table, milliseconds = timed(lambda: compacted(table, tight, days))
    print(f"compacted in {milliseconds / 1000:.0f} s")
    with service(folder / "compacted", tight) as (port, process):
        found = measure(port, process, Hand(table, None), days, QUESTIONS, rounds)
    return took | {f"{question}, compacted": ways for question, ways in found.items()}, resident


def timed(function):
    started = time.perf_counter()
    value = function()
    return value, (time.perf_counter() - started) * 1000


def on_cpu(function):
    """The value, milliseconds by the wall, milliseconds of CPU in this process."""
    started = time.process_time()
    value, wall = timed(function)
    return value, wall, (time.process_time() - started) * 1000


def afternoon(venue, day):
    """The two hours that trades are asked for."""
    start = exchange_of(venue).trading_day(day)[0] + timedelta(hours=11)
    return start, start + timedelta(hours=2)


def path_of(question, symbol, venue, day):
    start, end = afternoon(venue, day)
    window = f"symbol={symbol}&limit=1000&start={quote(start.isoformat())}&end={quote(end.isoformat())}"
    return {
        "summary": f"/v1/summary/{symbol}/{day.isoformat()}?",
        "trades": f"/v1/trades?{window}",
        "bars": f"/v1/bars/{symbol}?interval=1m&date={day.isoformat()}",
        "asof": f"/v1/asof?{window}",
    }[question]


def by_hand(question, hand, symbol, venue, day):
    whole, window = exchange_of(venue).trading_day(day), afternoon(venue, day)
    return {
        "summary": lambda: hand.run(BY_HAND_SUMMARY, symbol, *whole),
        "trades": lambda: hand.run(BY_HAND_TRADES, symbol, *window),
        "bars": lambda: hand.run(BY_HAND_BARS, symbol, *whole),
        "asof": lambda: hand.asof(symbol, whole[0], *window),
    }[question]


def compare(question, body, rows):
    said = json.loads(body)
    if question == "summary":
        compare_summary(said, rows.to_pylist()[0])
    elif question == "bars":
        for bar, row in zip(said["data"], rows.to_pylist(), strict=True):
            compare_summary(bar, row)
    elif question == "trades":
        if [row["message_id"] for row in said["data"]] != rows["message_id"].to_pylist():
            raise SystemExit("different trades")
    else:
        for name in ("bid_price", "ask_price"):
            given = [None if row[name] is None else Decimal(row[name]) for row in said["data"]]
            if given != rows[name].to_pylist():
                raise SystemExit(f"different {name}")


def measure(port, process, hand, days, questions, rounds):
    """Milliseconds by question and way; the CPU that the service and this process took go into `took["…"]["… cpu"]`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took = {}
    server = psutil.Process(process.pid)
    chance = random.Random(7)

    def some(question):
        if question.endswith("BHP"):
            return "BHP", "ASX", date(2014, 3, 10 + chance.randrange(5))
        return chance.choice(SYMBOLS), "SIM", FIRST_DAY + timedelta(days=chance.randrange(days))

    def ask(path):
        before = sum(server.cpu_times()[:2])
        body, milliseconds = timed(lambda: get(connection, path))
        return body, milliseconds, (sum(server.cpu_times()[:2]) - before) * 1000

    for number in range(rounds + 10):
        for question in questions:
            kind, what, ways = question.partition(" ")[0], some(question), {}
            # Who asks second finds the files' bytes in the processor's cache: they take turns.
            for way in ("api", "by hand") if number % 2 else ("by hand", "api"):
                if way == "api":
                    body, ways["api"], ways["cpu of the service"] = ask(path_of(kind, *what))
                else:
                    rows, ways["by hand"], ways["cpu by hand"] = on_cpu(by_hand(kind, hand, *what))
            compare(kind, body, rows)
            if kind == "summary":
                start, end = exchange_of(what[1]).trading_day(what[2])
                _, ways["by hand, first/last"] = timed(
                    lambda what=what, start=start, end=end: hand.run(BY_HAND_ORDERED, what[0], start, end)
                )
            else:
                _, ways["api, Arrow"], _ = ask(path_of(kind, *some(question)) + "&format=arrow")
            _, ways["round trip (/health)"], _ = ask("/health")
            if number >= 10:  # warm
                for way, milliseconds in ways.items():
                    took.setdefault(question, {}).setdefault(way, []).append(milliseconds)
    return took


def compare_summary(api, hand):
    for name in ("open", "high", "low", "close", "volume"):
        if Decimal(api[name]) != hand[name]:
            raise SystemExit(f"different {name}: {api[name]} and {hand[name]}")
    if api["trade_count"] != hand["trade_count"]:
        raise SystemExit("different counts")


def report(took):
    lines = []
    for question, ways in took.items():
        for way, values in ways.items():
            ordered = sorted(values)
            # The kernel counts a process's CPU in ticks: only the mean of many means something.
            middle = statistics.fmean if way.startswith("cpu") else statistics.median
            base = middle(ways["cpu by hand" if way.startswith("cpu") else "by hand"])
            lines.append(
                {
                    "question": question,
                    "way": way,
                    "p50_ms": round(middle(ordered), 1),
                    "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
                    "times_by_hand": round(middle(ordered) / base, 2),
                }
            )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-bench-queries-") as name:
        took, resident = ask_both(Path(name), options.rows, options.days, options.rounds)
    lines = report(took)
    print(f"{'question':18} {'way':22} {'p50 ms':>8} {'p99 ms':>8} {'x by hand':>10}")
    for line in lines:
        print(
            f"{line['question']:18} {line['way']:22} {line['p50_ms']:8} {line['p99_ms']:8} {line['times_by_hand']:10}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"query service {resident:.0f} MiB resident; this process, which built the table, {peak:.0f} MiB at its peak")
    found = {"rows": options.rows, "days": options.days, "service_rss_mib": round(resident), "figures": lines}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
