"""Whether a question of one day costs the same in a table of 1,000 days: `python -m bench.history [--days N]`.

Two tables hold the same day; the other days of the long one are small, for what is measured is the planning among many files.
Both are asked in turns, in process, each time with the snapshot and its files known (warm).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench import parts
from bench.market import FILES_A_DAY, FIRST_DAY, SYMBOLS, append, day_part
from bench.queries import timed
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.tables import ensure_tables
from k2.model.exchanges import exchange as exchange_of
from k2.model.tables import builtin_table
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions

SMALL = 2_000
DAYS_A_COMMIT = 50


def build(folder, rows, days):
    """A table whose first day has so many rows and whose other days are small; its catalog's properties."""
    properties = parts.catalog_properties(folder)
    catalog = open_named("k2", properties)
    ensure_tables(catalog, [builtin_table(DataType.TRADES)])
    table = catalog.load_table("market_data.trades")
    rng = np.random.default_rng(1)
    for part in range(FILES_A_DAY):
        append(table, *day_part(rng, FIRST_DAY, part, rows // FILES_A_DAY))
    others = range(1, days)
    for first in range(0, len(others), DAYS_A_COMMIT):
        some = [
            day_part(rng, FIRST_DAY + timedelta(days=day), 0, SMALL) for day in others[first : first + DAYS_A_COMMIT]
        ]
        orders = [order + number * SMALL for number, (_, order) in enumerate(some)]
        append(table, pa.concat_tables([part for part, _ in some]), np.concatenate(orders))
    return properties


def measure(*, rows, days, rounds):
    """Milliseconds of two questions in both tables."""
    took = {}
    with tempfile.TemporaryDirectory(prefix="k2-bench-history-") as name:
        engines, asked = [], {}
        for label, length in (("1 day", 1), (f"{days} days", days)):
            properties = build(Path(name) / label.replace(" ", "-"), rows, length)
            engines.append(Engine(Limits()))
            reader = TableReader(lambda properties=properties: open_named("k2", properties))
            asked[label] = Questions(Planner(reader, {DataType.TRADES: "market_data.trades"}), engines[-1])
        chance = random.Random(7)
        start, _ = exchange_of("SIM").trading_day(FIRST_DAY)
        window = Window(micros(start + timedelta(hours=11)), micros(start + timedelta(hours=13)))
        for number in range(rounds + 10):
            symbol = chance.choice(SYMBOLS)
            for label, questions in asked.items():
                for question, ask in (
                    ("summary", lambda: questions.summary(SummaryQuery(symbol, FIRST_DAY))),  # noqa: B023 - at once
                    ("trades", lambda: questions.events(EventsQuery(DataType.TRADES, (symbol,), None, window, 1000))),  # noqa: B023
                ):
                    milliseconds = timed(ask)[1]
                    if number >= 10:  # warm
                        took.setdefault((question, label), []).append(milliseconds)
        for engine in engines:
            engine.close()
    return {
        "rows_of_the_day": rows,
        "days": days,
        "figures": [
            {"question": question, "table": label, "p50_ms": round(statistics.median(values), 2)}
            for (question, label), values in took.items()
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_500_000, help="of the day that is asked for")
    parser.add_argument("--days", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    found = measure(rows=options.rows, days=options.days, rounds=options.rounds)
    for line in found["figures"]:
        print(f"{line['question']:10} {line['table']:12} p50 {line['p50_ms']:8} ms")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
