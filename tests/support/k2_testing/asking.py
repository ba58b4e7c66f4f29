"""Questions about a test's own lake, asked in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from k2.lake.catalog import load_table, open_named
from k2.lake.reader import TableReader
from k2.model.events import Decimals
from k2.model.table_names import TableNames
from k2.model.topics import DataType
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2.query.tail.tails import Tails
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.sinks import Pipeline
from k2_testing.ticks import append_ticks

Tick: TypeAlias = dict[str, Any]
Append: TypeAlias = Callable[[Sequence[Sequence[Tick]]], tuple[str, list[Tick]]]

TABLES = {each: f"market_data.{each.value}" for each in DataType}


@contextmanager
def questions_of(folder: Path, timeout_seconds: float = 120) -> Iterator[Questions]:
    """The questions of the lake in that folder, with an engine of their own."""
    engine = Engine(Limits(timeout_seconds=timeout_seconds))
    try:
        yield Questions(Planner(TableReader(lambda: open_named("k2", catalog_properties(folder))), TABLES), engine)
    finally:
        engine.close()


@contextmanager
def crowded_lake(folder: Path, decimals: Decimals = Decimals.STANDARD) -> Iterator[tuple[Questions, Append]]:
    """A table for many examples: each appends ticks, file after file, of a symbol of its own, which it is told with its ticks."""
    catalog, numbers = make_lake(folder, decimals=decimals), count()

    def append(appends: Sequence[Sequence[Tick]]) -> tuple[str, list[Tick]]:
        symbol = f"X{next(numbers)}"
        named = [[tick | {"symbol": symbol} for tick in ticks] for ticks in appends]
        for ticks in named:
            append_ticks(catalog, ticks)
        return symbol, [tick for ticks in named for tick in ticks]

    with questions_of(folder) as questions:
        yield questions, append


@contextmanager
def hybrid_questions_of(
    pipeline: Pipeline, trades: TableNames = TABLES[DataType.TRADES], **options: Any
) -> Iterator[Questions]:
    """Questions of a pipeline's lake and of what its topics hold beyond it; `options` are fields of `Tails`."""
    properties = catalog_properties(pipeline.folder)
    reader = TableReader(lambda: open_named("k2", properties))
    tails = Tails(
        reader,
        lambda identifier: load_table(open_named("k2", properties), identifier),
        pipeline.kafka,
        pipeline.registry,
        **{"wait_seconds": 60.0} | options,
    )
    engine = Engine(Limits(timeout_seconds=60))
    questions = Questions(Planner(reader, TABLES | {DataType.TRADES: trades}, tails=tails), engine)
    try:
        yield questions
    finally:
        questions.close()
        engine.close()
