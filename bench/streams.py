"""Millions of rows as one Arrow stream to a local client: `python -m bench.streams [--rows N]`.

Ten million trades of fifty symbols in the total order, from a table as the sink leaves it, asked of the query service as a pod
runs it and read with pyarrow on the same cores: three columns, then all. Beside it DuckDB in process, with nobody to send to: the
same files, columns and order, day by day. Both must give the same rows in the same order. The service's memory is its resident peak
when half of the first answer that is measured was there, and after the last.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa

from bench import parts
from bench.market import FILES_A_DAY, build, paths_of
from bench.queries import KEY, service
from k2.query.rows.sql import LINEAGE, ORDER

FEW = ("timestamp", "price", "quantity")
BATCH_ROWS = 65_536


class Body:
    """An answer's bytes as a file that pyarrow reads; keeps when the first came."""

    closed = False

    def __init__(self, reply, started):
        self._held = reply.read(1)
        self.first_ms = (time.perf_counter() - started) * 1000
        self._reply = reply

    def read(self, size=-1):
        held, self._held = self._held, b""
        return held + self._reply.read(size - len(held)) if held else self._reply.read(size)

    def readable(self):
        return True


def streamed(port, pid, rows, fields, take):
    """One answer, each batch of it taken; the service's peak memory in MiB when half of the rows were there, and at the end."""
    body = {"symbols": [], "limit": 1_000_000_000, "format": "arrow", **({"fields": list(fields)} if fields else {})}
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    connection.request("POST", "/v1/trades/query", json.dumps(body), headers)
    reply = connection.getresponse()
    if reply.status != 200:
        raise SystemExit(f"{reply.status} {reply.read()[:500]!r}")
    content = Body(reply, started)
    count, half = 0, None
    for batch in pa.ipc.open_stream(pa.PythonFile(content, "r")):
        count += batch.num_rows
        take(batch)
        if half is None and count >= rows // 2:
            half = parts.peak_kib(pid) / 1024
    seconds = time.perf_counter() - started
    connection.close()
    found = {"rows": count, "seconds": seconds, "first_ms": content.first_ms}
    return found | {"half": half, "peak": parts.peak_kib(pid) / 1024}


def by_hand(files, fields, take):
    """DuckDB alone: each day's files sorted and taken in batches."""
    duck = duckdb.connect(config={"threads": 2})
    duck.execute("SET GLOBAL TimeZone = 'UTC'; SET parquet_metadata_cache = true")
    columns = ", ".join(fields) if fields else f"* EXCLUDE ({', '.join(LINEAGE)})"
    sql = f"SELECT {columns} FROM read_parquet($files) ORDER BY {', '.join(ORDER)}"
    count = 0
    started = time.perf_counter()
    by_day = {}
    for file in files:
        by_day.setdefault(Path(file).parent, []).append(file)
    for some in by_day.values():
        for batch in duck.execute(sql, {"files": some}).to_arrow_reader(BATCH_ROWS):
            count += batch.num_rows
            take(batch)
    return {"rows": count, "seconds": time.perf_counter() - started}


def quantities(way):
    """Every quantity in the order it came, by one reading that also warms what is measured after it."""
    found = []
    way(lambda batch: found.append(batch["quantity"]))
    return pa.chunked_array(found)


def compare(columns):
    if not columns[0].equals(columns[1]):
        raise SystemExit("different rows, or in a different order")


def measure(*, rows, days, rounds):
    """Rows a second and milliseconds to the first byte, by columns: medians of the rounds, in which the two ways take turns."""
    rows -= rows % (days * FILES_A_DAY)
    figures = []
    with tempfile.TemporaryDirectory(prefix="k2-bench-streams-") as name:
        folder = Path(name)
        properties = parts.catalog_properties(folder)
        table, _ = build(properties, rows, days, real=False)
        with service(folder, properties) as (port, process):
            for fields in (FEW, ()):
                ways = (
                    lambda take: streamed(port, process.pid, rows, fields, take),  # noqa: B023 - asked at once
                    lambda take: by_hand(paths_of(table), fields, take),  # noqa: B023
                )
                compare([quantities(way) for way in ways])
                runs, hands = zip(*([way(len) for way in ways] for _ in range(rounds)), strict=True)
                if {each["rows"] for each in (*runs, *hands)} != {rows}:
                    raise SystemExit(f"not {rows} rows: {runs} {hands}")
                figures.append(
                    {
                        "columns": ", ".join(fields) or "all columns",
                        "rows_s": rows / statistics.median(run["seconds"] for run in runs),
                        "hand_rows_s": rows / statistics.median(run["seconds"] for run in hands),
                        "first_ms": statistics.median(run["first_ms"] for run in runs),
                        "half_mib": runs[0]["half"],
                        "peak_mib": runs[-1]["peak"],
                    }
                )
    return {"rows": rows, "days": days, "figures": figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    found = measure(rows=options.rows, days=options.days, rounds=options.rounds)
    for line in found["figures"]:
        print(
            f"{line['columns']}: {line['rows_s'] / 1e6:.2f} M rows/s (DuckDB alone {line['hand_rows_s'] / 1e6:.2f}), "
            f"first byte {line['first_ms']:.0f} ms, service {line['peak_mib']:.0f} MiB at its peak, {line['half_mib']:.0f} at half"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
