"""Many clients at once, and one that asks for everything: `python -m bench.load [--seconds 300]`.

64 clients ask a mixture of questions without a pause, so the service is asked more than it can answer all the time. Every
reply must be an answer, a refusal (429, 503) or the error that the question deserves; the service's memory must not grow.
Then four clients that pause between their questions are measured alone, and beside one that streams the whole table over
and over.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psutil

from bench import parts
from bench.market import FIRST_DAY, SYMBOLS, build
from bench.queries import KEY, service

HEADERS = {"X-API-Key": KEY}
EXPECTED = {200, 429, 503}
PAUSE_SECONDS = 0.05


class Client(threading.Thread):
    """Asks until it is told to stop; keeps the milliseconds of answers and counts all replies by status."""

    def __init__(self, port, stop, questions, *, seed, pause=0.0):
        super().__init__(daemon=True)
        self.took, self.statuses, self.wrong = [], Counter(), []
        self._port, self._stop_asking, self._questions, self._pause = port, stop, questions, pause
        self._chance = random.Random(seed)

    def run(self):
        connection = None
        while not self._stop_asking.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            method, path, body, expected = self._questions(self._chance)
            try:
                self._ask(connection, method, path, body, expected)
            except (OSError, http.client.HTTPException) as error:
                self.statuses["broken connection"] += 1
                self.wrong.append(f"{path}: {type(error).__name__}: {error}")
                connection.close()
                connection = None
            if self._pause:
                self._stop_asking.wait(self._pause * self._chance.uniform(0.5, 1.5))
        if connection is not None:
            connection.close()

    def _ask(self, connection, method, path, body, expected):
        started = time.perf_counter()
        connection.request(method, path, body, HEADERS | ({"Content-Type": "application/json"} if body else {}))
        reply = connection.getresponse()
        first = reply.read(1 << 20)
        while reply.read(1 << 20):
            pass
        self.statuses[reply.status] += 1
        if reply.status == 200:
            self.took.append((time.perf_counter() - started) * 1000)
        elif reply.status not in (EXPECTED if expected == 200 else EXPECTED | {expected}):
            self.wrong.append(f"{path}: {reply.status} {first[:200]!r}")
        elif reply.status == 503:
            # What Retry-After asks for, in small: the clients are to keep the service busy.
            self._stop_asking.wait(self._chance.uniform(0, 0.2))


def mixture(days):
    """Questions of a desk: most are small, some are large, some are mistakes."""

    def ask(chance):
        symbol, day = chance.choice(SYMBOLS), FIRST_DAY + timedelta(days=chance.randrange(days))
        start = datetime(day.year, day.month, day.day, 11, tzinfo=UTC)
        window = f"start={quote(start.isoformat())}&end={quote((start + timedelta(hours=2)).isoformat())}"
        kind = chance.random()
        if kind < 0.40:
            return "GET", f"/v1/summary/{symbol}/{day}", None, 200
        if kind < 0.70:
            return "GET", f"/v1/trades?symbol={symbol}&limit=1000&{window}", None, 200
        if kind < 0.80:
            return "GET", f"/v1/trades?symbol={symbol}&limit=20000&format=arrow&{window}", None, 200
        if kind < 0.85:
            body = {"symbols": chance.sample(SYMBOLS, 3), "limit": 5000, "fields": ["timestamp", "symbol", "price"]}
            return "POST", "/v1/trades/query", json.dumps(body | {"start": start.isoformat(), "format": "csv"}), 200
        if kind < 0.90:
            return "GET", "/v1/stats", None, 200
        if kind < 0.95:
            return "GET", "/v1/symbols", None, 200
        if kind < 0.97:
            return "GET", f"/v1/summary/NONE/{day}", None, 404
        return "GET", f"/v1/trades?symbol={symbol}&limit=0", None, 422

    return ask


def small(days):
    """A summary of a random symbol and day."""

    def ask(chance):
        return (
            "GET",
            f"/v1/summary/{chance.choice(SYMBOLS)}/{FIRST_DAY + timedelta(days=chance.randrange(days))}",
            None,
            200,
        )

    return ask


def giant(_):
    """Every row there is, sorted, as an Arrow stream."""
    return "POST", "/v1/trades/query", json.dumps({"symbols": [], "limit": 1_000_000_000, "format": "arrow"}), 200


def ask_for_everything(port):
    """Until the process is ended."""
    Client(port, threading.Event(), giant, seed=9).run()


@contextmanager
def asking(clients, stop):
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join(150)


def percentile(values, share):
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else None


def under_load(port, process, days, clients, seconds):
    """Mixed questions of many clients; resident memory is taken each second."""
    stop = threading.Event()
    asked = [Client(port, stop, mixture(days), seed=number) for number in range(clients)]
    server, resident, health = psutil.Process(process.pid), [], []
    with asking(asked, stop):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and process.poll() is None:
            health.append(probe(port))
            resident.append(server.memory_info().rss / 2**20)
            time.sleep(1)
    took = [each for client in asked for each in client.took]
    statuses = sum((client.statuses for client in asked), Counter())
    quarter = max(1, len(resident) // 4)
    return {
        "clients": clients,
        "seconds": seconds,
        "replies": {str(status): count for status, count in sorted(statuses.items(), key=str)},
        "answers_a_second": round(len(took) / seconds, 1),
        "p50_ms": percentile(took, 0.5),
        "p99_ms": percentile(took, 0.99),
        "health_worst_ms": round(max(health), 1),
        "wrong": [wrong for client in asked for wrong in client.wrong][:10],
        "rss_mib": {
            "after a quarter": round(
                sum(resident[quarter : 2 * quarter]) / max(1, len(resident[quarter : 2 * quarter]))
            ),
            "last quarter": round(sum(resident[-quarter:]) / quarter),
            "peak": round(max(resident)),
        },
    }


def probe(port):
    """Milliseconds of /health on a connection of its own, as a kubelet asks it."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/health")
    if connection.getresponse().status != 200:
        raise SystemExit("/health did not stay well")
    connection.close()
    return (time.perf_counter() - started) * 1000


def beside_a_giant(port, days, seconds):
    """Milliseconds of small questions, alone and while one client streams the whole table."""
    found = {}
    for way, giants in (("alone", 0), ("beside a giant", 1)):
        stop = threading.Event()
        others = [Client(port, stop, small(days), seed=number, pause=PAUSE_SECONDS) for number in range(4)]
        # In a process of its own: to take in its answers must not keep the others' clients waiting.
        large = [multiprocessing.Process(target=ask_for_everything, args=(port,), daemon=True) for _ in range(giants)]
        for process in large:
            process.start()
        with asking(others, stop):
            time.sleep(seconds)
        for process in large:
            process.terminate()
            process.join()
        took = [each for client in others for each in client.took]
        found[way] = {"p50_ms": percentile(took, 0.5), "p99_ms": percentile(took, 0.99), "answers": len(took)}
        found[way]["wrong"] = [wrong for client in others for wrong in client.wrong][:10]
    found["times"] = round(found["beside a giant"]["p50_ms"] / found["alone"]["p50_ms"], 2)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the load; a third of it for either lane")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k2-bench-load-") as name:
        folder = Path(name)
        properties = parts.catalog_properties(folder)
        build(properties, options.rows, options.days, real=False)
        with service(folder, properties) as (port, process):
            lanes = beside_a_giant(port, options.days, options.seconds / 3)
            found = under_load(port, process, options.days, options.clients, options.seconds)
    found |= {"rows": options.rows, "lanes": lanes}
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
