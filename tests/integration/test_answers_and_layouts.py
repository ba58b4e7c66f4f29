"""An answer depends on the rows alone: not on the tables, commits, files and partitions they lie in, nor on what lies beside them."""

from collections import defaultdict
from dataclasses import asdict, is_dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import count, cycle

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties
from k2_testing.ticks import OPEN, append_ticks

from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.tables import ensure_tables
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.exchanges import Session
from k2.model.tables import PartitionBy, builtin_table
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Empty, Interval
from k2.query.asked.cursor import ReplayQuery
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions

DAY = date(2014, 3, 10)
# One symbol an exchange, and one that is traded on both; the others are nobody's question.
VENUES = [("BHP", "ASX"), ("IBM", "NYSE"), ("DUAL", "ASX"), ("DUAL", "NYSE")]
BESIDE = [("AAA", "ASX"), ("CBA", "ASX"), ("DUAX", "NYSE"), ("ZZZ", "NYSE")]
PARTITIONS = [
    (PartitionBy("timestamp", "day", "timestamp_day"),),
    (PartitionBy("symbol", "identity", "symbol"),),
    (PartitionBy("exchange", "identity", "exchange"), PartitionBy("timestamp", "month", "timestamp_month")),
    (PartitionBy("symbol", "bucket[2]", "symbol_bucket"),),
    (),
]
HOURS = st.sampled_from([-200, -49, -26, -11, -1, 0, 1, 4, 6, 15, 30, 100])
TICK = st.tuples(HOURS, st.integers(0, 120), st.integers(1, 5), st.none() | st.integers(0, 3))
LAYOUT = st.tuples(st.sampled_from(PARTITIONS), st.randoms(use_true_random=False), st.integers(1, 4))


def ticks(drawn, venues, first, data_type):
    """Rows with everything that decides an order: the same in whichever file they lie."""
    made = []
    for number, ((symbol, exchange), (hours, seconds, price, sequence)) in enumerate(zip(venues, drawn, strict=True)):
        row = {
            "timestamp": OPEN + timedelta(hours=hours, seconds=seconds),
            "symbol": symbol,
            "exchange": exchange,
            "source_sequence": sequence,
            "message_id": (first + number).to_bytes(16, "big"),
            "kafka_partition": number % 2,
            "kafka_offset": first + number,
        }
        value = Decimal(price)
        if data_type is DataType.TRADES:
            row |= {"trade_id": f"T{first + number}", "price": value, "quantity": value}
        else:
            sides = {"bid_price": value, "ask_price": value + 1, "bid_quantity": value, "ask_quantity": value}
            row |= {"quote_id": f"Q{first + number}", **sides}
        made.append(row)
    return made


@st.composite
def markets(draw, venues, first, most):
    size = draw(st.integers(0 if venues is BESIDE else 1, most))
    chosen = draw(st.lists(st.sampled_from(venues), min_size=size, max_size=size))
    return {
        kind: ticks(draw(st.lists(TICK, min_size=size, max_size=size)), chosen, first, kind)
        for kind in (DataType.TRADES, DataType.QUOTES)
    }


def questions_asked():
    """Each with the name that a difference is told by."""
    symbols = ("BHP", "IBM", "DUAL")
    window = Window(micros(OPEN - timedelta(hours=2)), micros(OPEN + timedelta(hours=5)))
    for symbol in symbols:
        for exchange in (None, "ASX"):
            for kind in (DataType.TRADES, DataType.QUOTES):
                asked = EventsQuery(kind, (symbol,), exchange, window)
                yield f"{kind} {symbol} {exchange}", lambda q, asked=asked: q.events(asked).rows
                yield f"all {kind} {symbol}", lambda q, a=asked: q.events(replace(a, window=Window(), limit=3)).rows
            summary = SummaryQuery(symbol, DAY, exchange)
            yield f"summary {symbol} {exchange}", lambda q, a=summary: replace(q.summary(a), provenance=None)
            joined = AsofQuery((symbol,), exchange, window, lookback_us=86_400_000_000)
            yield f"asof {symbol} {exchange}", lambda q, a=joined: q.asof(a).rows
            dates = Dates(DAY, DAY)
            yield (
                f"date {symbol} {exchange}",
                lambda q, s=symbol, e=exchange, d=dates: (
                    q.events(
                        EventsQuery(
                            DataType.TRADES,
                            (s,),
                            e,
                            q.window_of({DataType.TRADES: EventsQuery(DataType.TRADES).at}, (s,), e, d),
                        )
                    ).rows
                ),
            )
            for empty in Empty:
                for interval, session in ((Interval.HOUR, Session.REGULAR), (Interval.DAY, Session.ALL)):
                    bars = BarsQuery((symbol,), interval, exchange, dates, session, empty)
                    yield f"bars {symbol} {exchange} {empty} {interval}", lambda q, a=bars: q.bars(a).rows
    several = BarsQuery(("BHP", "IBM"), Interval.HOUR, period=Window(micros(OPEN) - 10**11), empty=Empty.NULL, limit=40)
    yield "bars of several", lambda q: (q.bars(several).rows, q.bars(several).more)
    yield "events of several", lambda q: q.events(EventsQuery(DataType.TRADES, ("BHP", "IBM"))).rows
    yield "events of all three", lambda q: q.events(EventsQuery(DataType.TRADES, symbols, None, window)).rows
    for kind in (DataType.TRADES, DataType.QUOTES):
        yield f"symbols {kind}", lambda q, k=kind: [info for info in q.symbols(k).symbols if info.symbol in symbols]
    yield "range", lambda q: q.date_range(DataType.TRADES, "BHP")
    yield "replay", lambda q: q.replay_merged(ReplayQuery(symbols=symbols)).page(1000)[0].rows.to_pylist()


ASKED = dict(questions_asked())


def answers(questions):
    def answer(ask):
        try:
            return ask(questions)
        except UserError as error:
            return type(error).__name__

    return {name: answer(ask) for name, ask in ASKED.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A catalog, and a function that lays rows out in tables of their own and gives the questions about them."""
    folder = tmp_path_factory.mktemp("layouts")
    catalog = open_named("k2", catalog_properties(folder))
    catalog.create_namespace_if_not_exists("laid")
    engine, numbers = Engine(Limits()), count()

    def lay(rows, *layouts, decimals=(Decimals.STANDARD,)):
        number, tables = next(numbers), {}
        for kind, held in rows.items():
            parts = [[] for _ in layouts]
            for row in held:
                layouts[0][1].choice(parts).append(row)
            tables[kind] = tuple(f"laid.{kind.value}_{number}_{place}" for place in range(len(layouts)))
            for part, layout, width, identifier in zip(parts, layouts, cycle(decimals), tables[kind], strict=False):
                fill(part, kind, layout, builtin_table(kind, identifier, width))
        return Questions(Planner(TableReader(lambda: open_named("k2", catalog_properties(folder))), tables), engine)

    def fill(rows, kind, layout, spec):
        partition_by, chance, commits = layout
        ensure_tables(catalog, [replace(spec, partition_by=partition_by)])
        parts = defaultdict(list)
        for row in rows:
            parts[chance.randrange(commits)].append(row)
        for part in parts.values():
            append_ticks(catalog, part, kind, spec.identifier)

    yield lay
    engine.close()


few = settings(
    max_examples=sized(4, 60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@few
@given(rows=markets(VENUES, 0, 20), beside=markets(BESIDE, 1000, 10), one=LAYOUT, other=LAYOUT)
def test_the_same_rows_in_any_files_and_beside_any_others_give_the_same_answers(store, rows, beside, one, other):
    alone = answers(store(rows, one))
    among = answers(store({kind: [*rows[kind], *beside[kind]] for kind in rows}, other))
    for name, answer in alone.items():
        assert among[name] == answer, name


@few
@given(
    rows=markets(VENUES, 0, 20),
    beside=markets(BESIDE, 1000, 10),
    one=LAYOUT,
    layouts=st.lists(LAYOUT, min_size=2, max_size=3),
)
def test_the_same_rows_in_one_table_and_split_over_several_give_the_same_answers(store, rows, beside, one, layouts):
    alone = answers(store(rows, one))
    split = answers(store({kind: [*rows[kind], *beside[kind]] for kind in rows}, *layouts))
    for name, answer in alone.items():
        assert split[name] == answer, name


@few
@given(rows=markets(VENUES, 0, 20), one=LAYOUT, layouts=st.tuples(LAYOUT, LAYOUT))
def test_standard_and_wide_decimals_mixed_give_equal_values(store, rows, one, layouts):
    alone = answers(store(rows, one))
    mixed = answers(store(rows, *layouts, decimals=(Decimals.STANDARD, Decimals.WIDE)))
    for name, answer in alone.items():
        assert values(mixed[name]) == values(answer), name


def values(answer):
    """Plain values; of more places, which a quotient has where there is a wide table, those of a standard one."""
    if isinstance(answer, pa.Table):
        return values(answer.to_pylist())
    if is_dataclass(answer):
        return values(asdict(answer))
    if isinstance(answer, dict):
        return {name: values(value) for name, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [values(value) for value in answer]
    return round(answer, 8) if isinstance(answer, Decimal) else answer
