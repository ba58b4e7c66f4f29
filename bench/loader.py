"""Rows per second and peak memory of a load, from a CSV file to acknowledged messages: `python -m bench.loader [--rows N]`.

`k2 run load` runs as the process that the load's Job runs, on a file in the ASX vendor's form: parsing, ids, ledger, encoding and
producing. Two files, one four times the other, show that memory does not follow the file's size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from bench import parts
from k2.bus.admin import end_offsets

BLOCK = 500_000
SESSION_MS = 6 * 3600 * 1000
DATE = "03/10/2014"


def write_ticks(path: Path, rows: int) -> int:
    """Trades in the vendor's form, times ascending, thousandths in prices so that few rows are equal; gives the file's size."""
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            millis = np.sort(rng.integers(0, SESSION_MS // -(-rows // BLOCK), count))
            millis += (start // BLOCK) * (SESSION_MS // -(-rows // BLOCK))
            time_of_day = pa.array(10 * 3_600_000 + millis, pa.int64()).cast(pa.int32()).cast(pa.time32("ms"))
            prices = pc.divide(pa.array(rng.integers(35_000, 38_000, count)).cast(pa.float64()), 1000.0)
            table = pa.table(
                {
                    "date": pa.array([DATE] * count),
                    "time": time_of_day.cast(pa.string()),
                    "price": prices.cast(pa.string()),
                    "volume": pa.array(rng.integers(1, 100_000, count)),
                    "qualifiers": pa.array(np.full(count, 3)),
                    "venue": pa.array(["X"] * count),
                    "buyer": pa.array([""] * count),
                }
            )
            csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="none"))
    return path.stat().st_size


def load(place: parts.Ground, rows: int) -> dict[str, float]:
    """One load of a file of so many rows into a topic of its own; every row must be acknowledged."""
    topic = parts.topic_name(f"load-{rows}-{time.time_ns()}")
    parts.make_topic(place, topic)
    folder = Path(place.folder) / "loads" / topic
    folder.mkdir(parents=True)
    size = write_ticks(folder / "ticks.csv", rows)
    config = {
        "feed": "bench/load",
        "exchange": "ASX",
        "asset_class": "equities",
        "currency": "AUD",
        "streams": [{"data_type": "trades", "topic": topic, "table": parts.TABLE}],
        "source": {"type": "csv", "format": "asx", "uris": ["file:ticks.csv"], "data_type": "trades", "symbol": "BHP"},
    }
    (folder / "load.json").write_text(json.dumps(config))
    env = {key: value for key, value in os.environ.items() if not key.startswith("K2_")} | {
        "K2_CONFIG_FILE": str(folder / "load.json"),
        "K2_KAFKA_BOOTSTRAP_SERVERS": place.bootstrap_servers,
        "K2_REGISTRY_URL": place.registry_url,
        "K2_DATA_DIR": str(folder / "data"),
        "K2_SOURCE_DIR": str(folder),
        "K2_LOG_FORMAT": "json",
    }
    loader = parts.Measured.start([sys.executable, "-m", "k2", "run", "load"], folder / "load.log", env, folder)
    try:
        loader.wait(600)
    finally:
        loader.stop()
    sent = sum(end_offsets(place.kafka, topic).values())
    if sent != rows:
        raise SystemExit(f"{rows:,} rows in the file, {sent:,} in the topic\n{loader.tail()}")
    seconds = (loader.ended or 0) - loader.started
    (folder / "ticks.csv").unlink()
    return {
        "rows": rows,
        "file_mib": size / 2**20,
        "rows_per_second": rows / seconds,
        "peak_rss_mib": loader.peak_kib / 1024,
        "cpu_us_per_row": loader.cpu_seconds / rows * 1e6,
    }


def measure(place: parts.Ground, *, rows: int) -> dict:
    found = {"small": load(place, rows // 4), "large": load(place, rows)}
    for each in found.values():
        parts.say(
            f"load of {each['file_mib']:.0f} MiB: {each['rows_per_second']:,.0f} rows/s, {each['peak_rss_mib']:.0f} MiB peak"
        )
    return found


def figures(found: dict) -> list[parts.Figure]:
    small, large = found["small"], found["large"]
    size = f"{large['file_mib']:.0f} MiB of CSV → acknowledged messages"
    of = f"a file of {small['file_mib']:.0f} MiB"
    return [
        parts.figure(
            "loader",
            f"{size}, the whole process",
            large["rows_per_second"],
            "rows/s",
            baseline=small["rows_per_second"],
            of=of,
        ),
        parts.figure(
            "loader",
            "peak memory",
            large["peak_rss_mib"],
            "MiB",
            baseline=small["peak_rss_mib"],
            of=of,
            at_most=300,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--ground", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    with parts.ground(given.ground, keep=given.keep) as place:
        print(json.dumps(measure(place, rows=given.rows), indent=2))


if __name__ == "__main__":
    main()
