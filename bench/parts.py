"""What the benchmarks share: a real broker and registry, the bench topic, processes with their peak memory, figures.

The bench topic holds trades of 134 bytes on average (15 fields, Confluent framing included), 50 symbols over six
partitions, in time order, lz4. Event n is the same in every run and on every topic: a repeated load is all duplicates.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.producer import EventProducer
from k2.bus.registry import ensure_subjects
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_tables
from k2.model.events import arrow_schema
from k2.model.tables import builtin_table
from k2.model.topics import DataType, TopicName, sink_group_id

TABLE = "market_data.trades"
PAYLOAD_BYTES, PAYLOAD_SLACK = 134, 2
SYMBOLS = [f"SYM{number:03d}" for number in range(50)]
START_US = 1_394_409_600_000_000
"""2014-03-10T00:00:00Z."""
STEP_US = 1_000
"""Event time between two trades, so that ten million stay within one day."""
BLOCK = 65_536
REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Figure:
    """One line of the table: a figure beside its baseline of the same run. `target` is a bound on `of` (value or ratio)."""

    benchmark: str
    figure: str
    value: float | None
    unit: str
    baseline: float | None = None
    baseline_name: str = ""
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None
    note: str = ""


def figure(
    benchmark,
    name,
    value,
    unit,
    *,
    baseline=None,
    of="",
    at_least=None,
    at_most=None,
    times=None,
    most_times=None,
    note="",
):
    """A figure with its verdict. `at_least`, `at_most` bound the value; `times`, `most_times` its ratio to the baseline."""
    ratio = value / baseline if value is not None and baseline else None
    checks = []
    wanted = []
    if at_least is not None:
        checks.append(value is not None and value >= at_least)
        wanted.append(f"≥ {at_least:,g} {unit}")
    if at_most is not None:
        checks.append(value is not None and value <= at_most)
        wanted.append(f"≤ {at_most:,g} {unit}")
    if times is not None:
        checks.append(ratio is not None and ratio >= times)
        wanted.append(f"≥ {times:g} x")
    if most_times is not None:
        checks.append(ratio is not None and ratio <= most_times)
        wanted.append(f"≤ {most_times:g} x")
    ok = all(checks) if checks else None
    return Figure(benchmark, name, value, unit, baseline, of, ratio, ", ".join(wanted), ok, note)


@dataclass(frozen=True)
class Ground:
    """Where a benchmark runs: one broker, one registry, one disk. Passed between processes as a file."""

    folder: str
    bootstrap_servers: str
    registry_url: str
    kafka_pid: int

    @property
    def kafka(self) -> dict[str, str]:
        return {"bootstrap.servers": self.bootstrap_servers}

    @property
    def registry(self) -> dict[str, str]:
        return {"url": self.registry_url}

    def write(self) -> Path:
        path = Path(self.folder) / "ground.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def read(cls, path: Path) -> Ground:
        return cls(**json.loads(path.read_text()))


@contextmanager
def ground(path: Path | None = None, *, keep: bool = False) -> Iterator[Ground]:
    """The ground that the file names, or one started here, stopped and deleted at the end."""
    if path is not None:
        yield Ground.read(path)
        return
    from k2_local.services.kafka import LocalKafka
    from k2_local.services.registry import LocalRegistry

    folder = Path(tempfile.mkdtemp(prefix="k2-bench-"))
    kafka = LocalKafka(folder / "kafka", logs=folder, run_dir=folder / "run", heap="1g")
    registry = LocalRegistry(folder / "registry", logs=folder, run_dir=folder / "run")
    try:
        kafka.launch()
        registry.launch()
        kafka.wait()
        registry.wait()
        made = Ground(str(folder), kafka.bootstrap_servers, registry.url, kafka.pid or 0)
        made.write()
        yield made
    finally:
        registry.stop()
        kafka.stop()
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def events(first: int, count: int) -> pa.RecordBatch:
    """Trades number `first` to `first + count`."""
    number = np.arange(first, first + count)
    mixed = mix(number.astype(np.uint64))
    words = np.stack([mixed, mix(mixed)], axis=1)
    when = pa.array(START_US + number * STEP_US + (mixed % np.uint64(STEP_US)).astype(np.int64))
    conditions = pa.array([["XT"], ["LF", "S1"], []], pa.list_(pa.field("item", pa.string(), nullable=False)))
    schema = arrow_schema(DataType.TRADES)
    sides = pa.array(["BUY", "SELL", "SELL_SHORT", "UNKNOWN"])
    columns = {
        "message_id": pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(words.tobytes())]),
        "trade_id": pc.binary_join_element_wise("TRADE-T", pa.array(10**15 + number).cast(pa.string()), ""),
        "symbol": pa.array(SYMBOLS).take(pa.array(_pick(mixed, 3, len(SYMBOLS)))),
        "exchange": _same("ASX", count),
        "asset_class": _same("equities", count),
        "timestamp": when,
        "price": _decimals((1_000 + _pick(mixed, 9, 499_000)) * 100_000),
        "quantity": _decimals((1 + _pick(mixed, 17, 9_999)) * 100_000_000),
        "currency": _same("AUD", count),
        "side": sides.take(pa.array(_pick(mixed, 29, 4))),
        "trade_conditions": conditions.take(pa.array(_pick(mixed, 33, 3))),
        "source_sequence": pa.array(number),
        "ingestion_timestamp": pc.add(when, pa.scalar(700)),
        "platform_sequence": pa.array(number),
        "vendor_data": pa.nulls(count, schema.field("vendor_data").type),
    }
    return pa.RecordBatch.from_arrays([columns[each.name].cast(each.type) for each in schema], schema=schema)


def mix(words):
    """Numbers to numbers that look random (splitmix64's finaliser), each different."""
    with np.errstate(over="ignore"):
        words = words + np.uint64(0x9E3779B97F4A7C15)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))


def _pick(mixed, shift, choices):
    return ((mixed >> np.uint64(shift)) % np.uint64(choices)).astype(np.int64)


def _same(text, count):
    return pa.array([text]).take(pa.array(np.zeros(count, np.int64)))


def _decimals(unscaled):
    words = np.zeros((len(unscaled), 2), np.int64)
    words[:, 0] = unscaled
    return pa.Array.from_buffers(pa.decimal128(18, 8), len(unscaled), [None, pa.py_buffer(words.tobytes())])


def topic_name(exchange: str) -> str:
    return str(TopicName.of("equities", "trades", exchange))


def make_topic(place: Ground, topic: str, partitions: int = 6) -> int:
    """Make the topic, its dead letters and its subject; gives the schema id."""
    letters = TopicName.parse(topic).dead_letters
    ensure_topics(place.kafka, [TopicSpec(topic, partitions=partitions), TopicSpec(letters, partitions=1)])
    return ensure_subjects(place.registry, {topic: DataType.TRADES})[topic]


def fill_topic(place: Ground, topic: str, first: int, stop: int) -> float:
    """Produce events [first, stop); says and gives the mean size of a payload, which must be what the figures assume."""
    schema_id = make_topic(place, topic)
    size, began = 0, time.monotonic()
    with EventProducer(place.kafka, topic=topic, data_type=DataType.TRADES, schema_id=schema_id) as producer:
        for start in range(first, stop, BLOCK):
            size += producer.send(events(start, min(BLOCK, stop - start))).size
        producer.flush(120)
    mean, seconds = size / (stop - first), time.monotonic() - began
    say(
        f"{topic}: {stop - first:,} trades of {mean:.1f} bytes on average produced in {seconds:.0f} s "
        f"({(stop - first) / seconds:,.0f}/s, generation included)"
    )
    if abs(mean - PAYLOAD_BYTES) > PAYLOAD_SLACK:
        raise SystemExit(f"the payloads have {mean:.1f} bytes on average, not {PAYLOAD_BYTES} ± {PAYLOAD_SLACK}")
    return mean


def catalog_properties(folder: Path) -> dict[str, str]:
    """Of a catalog and a warehouse in that folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def make_lake(folder: Path):
    """An own catalog in that folder with an empty trades table."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = open_named("k2", catalog_properties(folder))
    ensure_tables(catalog, [builtin_table(DataType.TRADES)])
    return catalog


def peak_kib(pid: int) -> int:
    """The most memory that a process had resident so far, in KiB; 0 for one that has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


@dataclass
class Measured:
    """A process that was started to be measured. Peak resident memory is VmHWM, looked at every 50 ms."""

    process: subprocess.Popen
    log: Path
    started: float
    peak_kib: int = 0
    ended: float | None = None
    cpu_seconds: float = 0.0
    _watch: threading.Thread | None = field(default=None, repr=False)

    @classmethod
    def start(cls, command, log: Path, env=None, cwd=None) -> Measured:
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd)
        found = cls(process, log, time.time())
        found._watch = threading.Thread(target=found._look, daemon=True)
        found._watch.start()
        return found

    def _look(self) -> None:
        while self.process.poll() is None:
            self.look()
            time.sleep(0.05)

    def look(self) -> None:
        """Read peak memory and processor time as they are now."""
        pid = self.process.pid
        try:
            self.peak_kib = max(self.peak_kib, peak_kib(pid))
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            self.cpu_seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return

    def wait(self, seconds: float) -> int:
        """Wait for its end; it is killed when it takes longer, and its log shown when it failed."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise SystemExit(f"{self.log.name}: not done within {seconds:.0f} s\n{self.tail()}") from None
        self.ended = time.time()
        if code:
            raise SystemExit(f"{self.log.name}: exit code {code}\n{self.tail()}")
        return code

    def stop(self, grace: float = 30.0) -> None:
        if self.process.poll() is None:
            self.look()
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.ended = self.ended or time.time()

    def tail(self, size: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-size:]


def start_sink(place: Ground, folder: Path, topic: str, name: str = "sink", *options: str, **config) -> Measured:
    """K2's sink as the process that a pod runs, on the table in that folder. `config` are fields of SinkConfig."""
    settings = {"topic": topic, "table": TABLE, "data_type": "trades"}
    settings |= {"group_id": f"{sink_group_id(topic, TABLE)}-{folder.name}", **config}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(settings))
    env = {key: value for key, value in os.environ.items() if not key.startswith("K2_")} | {
        "K2_CONFIG_FILE": str(path),
        "K2_KAFKA_BOOTSTRAP_SERVERS": place.bootstrap_servers,
        "K2_REGISTRY_URL": place.registry_url,
        "K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(folder)),
        "K2_DATA_DIR": str(folder),
        "K2_LOG_FORMAT": "json",
    }
    return Measured.start([sys.executable, "-m", "k2", "run", "sink", *options], folder / f"{name}.log", env, folder)


def log_lines(path: Path) -> list[dict]:
    """A workload's log as dicts, each with `at`, its time in seconds since 1970."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        try:
            entry = json.loads(line)
            entry["at"] = datetime.fromisoformat(entry["timestamp"]).timestamp()
        except (ValueError, KeyError):
            continue
        found.append(entry)
    return found


def jars(*coordinates: str, cache: str = "jgo") -> list[Path]:
    """Jars of Maven coordinates with all they need, from the cache or fetched once.

    Raises:
        OSError, RuntimeError: they cannot be had (jgo raises what it likes; it is wrapped).
    """
    import jgo

    from k2_local.services import artifacts

    try:
        root = jgo.build("+".join(coordinates), cache_dir=artifacts.cache_dir() / cache).path
    except Exception as error:
        raise RuntimeError(f"{coordinates[0]} cannot be had from Maven: {type(error).__name__}: {error}") from error
    return [jar for part in ("jars", "modules") for jar in sorted((root / part).glob("*.jar"))]


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    libraries = ("confluent-kafka", "duckdb", "fastavro", "numpy", "polars-avro", "pyarrow", "pyiceberg")
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries},
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
