"""Rows per second and core of reading files, from bytes to events with their ids: `python -m bench.parsing [--rows N]`.

The same trades as CSV, as the same packed, and as Parquet, in the form of Binance's archive. Each is read in a process of its own, whose
processor time counts (a machine that is busy with others does not change it) and whose peak memory is told. Nothing is sent.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from bench import parts
from k2.feeds.formats.columns import decimal_array

KINDS = ("csv", "csv.gz", "parquet")
AT_LEAST = {"csv": 500_000, "parquet": 1_000_000}
BLOCK = 500_000
FORMAT = "binance-trades"


def write_trades(folder: Path, rows: int) -> None:
    """Trades as `trades.csv`, `trades.csv.gz` and `trades.parquet`: a random walk by hundredths, a few rows a millisecond."""
    rng = np.random.default_rng(1)
    writer = None
    with (folder / "trades.csv").open("wb") as text:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            ids = np.arange(start, start + count)
            prices = decimal_array((6_800_000 + np.cumsum(rng.integers(-2, 3, count))) * 1_000_000)
            sizes = decimal_array(rng.integers(1, 100_000, count) * 1_000)
            table = pa.table(
                {
                    "id": ids,
                    "price": prices,
                    "qty": sizes,
                    "time": 1_735_689_600_000_000 + ids * 250,
                    "is_buyer_maker": rng.integers(0, 2, count).astype(bool),
                }
            )
            csv.write_csv(table, text, csv.WriteOptions(include_header=start == 0, quoting_style="none"))
            writer = writer or pq.ParquetWriter(folder / "trades.parquet", table.schema)
            writer.write_table(table)
    if writer is not None:
        writer.close()
    with (folder / "trades.csv").open("rb") as plain, gzip.open(folder / "trades.csv.gz", "wb", 1) as packed:
        while data := plain.read(1 << 20):
            packed.write(data)


def read(path: Path) -> dict[str, float]:
    """Read one file in this process."""
    from k2.feeds.formats.layouts import Assembler, Files
    from k2.feeds.formats.registry import file_format
    from k2.feeds.load.csv_source import CsvFiles
    from k2.model.exchanges import exchange
    from k2.model.topics import DataType

    venue = exchange("BINANCE")
    form = file_format(FORMAT, Files(DataType.TRADES, venue, "BTCUSDT"))
    source = CsvFiles([path], form, Assembler(DataType.TRADES, venue, "USDT", "crypto"))
    # Columns of the model, without the ids that are hashed of them: what a format has a say in.
    began, rows = time.process_time(), 0
    for parsed in source.parsed():
        rows += len(parsed.lines)
        if parsed.rejected:
            raise SystemExit(f"rows of {path} were rejected: {parsed.rejected[0].reason}")
    columns = time.process_time() - began
    began = time.process_time()
    events = sum(chunk.rows for chunk in source.chunks())
    whole = time.process_time() - began
    return {
        "rows": rows,
        "columns_per_second": rows / columns,
        "events_per_second": events / whole,
        "peak_rss_mib": peak_mib(),
    }


def peak_mib() -> float:
    """The most memory of this process, by the kernel: unlike rusage's it does not begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(*, rows: int) -> dict[str, dict[str, float]]:
    """All kinds, each in a process of its own."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="k2-parsing-") as folder:
        write_trades(Path(folder), rows)
        for kind in KINDS:
            path = Path(folder) / f"trades.{kind}"
            ran = subprocess.run(
                [sys.executable, "-m", "bench.parsing", "--read", str(path)], capture_output=True, text=True, check=True
            )
            found[kind] = json.loads(ran.stdout) | {"file_mib": path.stat().st_size / 2**20}
            if found[kind]["rows"] != rows:
                raise SystemExit(f"{rows:,} rows were written as {kind}, {found[kind]['rows']:,.0f} were read")
            each = found[kind]
            parts.say(
                f"{kind}: {each['columns_per_second']:,.0f} rows/s to columns, {each['events_per_second']:,.0f} to events, "
                f"a core; {each['peak_rss_mib']:.0f} MiB peak"
            )
    return found


def figures(found: dict[str, dict[str, float]]) -> list[parts.Figure]:
    rates: list[parts.Figure] = []
    for kind, each in found.items():
        of = f"{each['file_mib']:.0f} MiB of {kind}"
        text = found["csv"]
        for name, key, at_least in (
            ("columns", "columns_per_second", AT_LEAST.get(kind)),
            ("events with ids", "events_per_second", None),
        ):
            rates.append(
                parts.figure(
                    "parsing",
                    f"{of} → {name}, a core",
                    each[key],
                    "rows/s",
                    baseline=text[key],
                    of="CSV",
                    at_least=at_least,
                )
            )
    peak = max(each["peak_rss_mib"] for each in found.values())
    csv_peak = found["csv"]["peak_rss_mib"]
    return [*rates, parts.figure("parsing", "peak memory", peak, "MiB", baseline=csv_peak, of="CSV", at_most=300)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    print(json.dumps(read(given.read) if given.read else measure(rows=given.rows), indent=2))


if __name__ == "__main__":
    main()
