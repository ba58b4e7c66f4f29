"""Replay of trades and quotes as one stream, against real tables; in the last part on real Kafka."""

import base64
import json
import random
import time
import zlib
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st
from k2_testing.asking import questions_of
from k2_testing.extent import sized
from k2_testing.lake import make_lake
from k2_testing.ticks import append_ticks, at

from k2.model.errors import UserError, WorldError
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.pace import Pace
from k2.query.asked.requests import At, Window
from k2.query.events.player import Player
from k2.query.events.replay import Replay
from k2.query.rows.errors import SnapshotGoneError
from k2.query.rows.visibility import Sight

START = at("2014-03-09T23:00:00")
KINDS = {"trade": DataType.TRADES, "quote": DataType.QUOTES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("replay")


@pytest.fixture(scope="module")
def ticks(folder):
    """A few thousand of both kinds in several commits that overlap in time, with many ties; as (kind, tick)."""
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    chance = random.Random(11)
    made = []
    for kind, data_type in KINDS.items():
        offset = 0
        for commit in range(4):
            batch = []
            for _ in range(500):
                tick = {
                    "timestamp": START + timedelta(seconds=chance.randrange(120) + 30 * commit),
                    "symbol": chance.choice(["BHP", "CBA", "CSL"]),
                    "exchange": chance.choice(["ASX", "XTKS"]),
                    "source_sequence": chance.choice([None, 1, 2, 3]),
                    "kafka_topic_id": f"topic-{chance.randrange(2)}",
                    "kafka_partition": chance.randrange(2),
                    "kafka_offset": offset,
                }
                offset += 1
                batch.append(tick)
                made.append((kind, tick))
            append_ticks(lake, batch, data_type)
    return made


@pytest.fixture
def questions(ticks, folder):
    with questions_of(folder, 60) as found:
        yield found


def order(pair):
    kind, tick = pair
    sequence = tick["source_sequence"]
    return (
        tick["timestamp"],
        tick["exchange"],
        tick["symbol"],
        kind == "trade",
        sequence is None,
        sequence or 0,
        tick["kafka_topic_id"],
        tick["kafka_partition"],
        tick["kafka_offset"],
    )


def expected(ticks, keep=lambda kind, tick: True):
    chosen = sorted((pair for pair in ticks if keep(*pair)), key=order)
    return [(kind, tick["kafka_offset"]) for kind, tick in chosen]


def given(batches):
    rows = []
    for batch in batches:
        columns = batch.rows.to_pydict()
        rows += zip(columns["type"], columns["kafka_offset"], strict=True)
    return rows


def replay(questions, cursor=None, **options):
    """A replay whose rows tell their offsets and whose windows are small."""
    query = options.pop("query", None) or ReplayQuery(**options)
    start = questions.replay_merged(query).start if cursor is None else cursor
    return Replay(questions._planner, questions._engine, start, batch_rows=64, window_rows=700, lineage=True)


def test_quotes_and_trades_come_in_one_order_of_events(questions, ticks):
    assert given(replay(questions).batches()) == expected(ticks)


def test_one_kind_some_symbols_an_exchange_and_a_window_are_a_part_of_it(questions, ticks):
    only = replay(questions, data_types=(DataType.TRADES,))
    assert given(only.batches()) == expected(ticks, lambda kind, _: kind == "trade")
    start, end = START + timedelta(seconds=20), START + timedelta(seconds=100)
    part = replay(questions, symbols=("BHP", "CSL"), exchange="ASX", window=Window(micros(start), micros(end)))
    wanted = expected(
        ticks,
        lambda _, tick: tick["symbol"] != "CBA" and tick["exchange"] == "ASX" and start <= tick["timestamp"] < end,
    )
    assert wanted
    assert given(part.batches()) == wanted


def test_it_goes_on_from_the_cursor_of_any_row(questions, ticks):
    whole = expected(ticks)
    batches = list(replay(questions).batches())
    chance = random.Random(5)
    for _ in range(12):
        number = chance.randrange(len(batches))
        row = chance.randrange(batches[number].rows.num_rows)
        token = batches[number].slice(0, row + 1).cursor.encode()
        done = sum(batch.rows.num_rows for batch in batches[:number]) + row + 1
        assert given(replay(questions, Cursor.decode(token)).batches()) == whole[done:]


def test_a_cursor_stays_with_its_snapshots(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [{"timestamp": START + timedelta(seconds=n)} for n in range(10)])
    with questions_of(tmp_path, 60) as questions:
        first = next(replay(questions).batches())
        append_ticks(lake, [{"timestamp": START + timedelta(seconds=n)} for n in range(10)])
        rest = given(replay(questions, first.slice(0, 4).cursor).batches())
        assert rest == [("trade", n) for n in range(4, 10)]


def test_a_cursor_whose_snapshot_is_gone_says_so(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    gone = append_ticks(lake, [{"timestamp": START}])
    append_ticks(lake, [{"timestamp": START}])
    with questions_of(tmp_path, 60) as questions:
        start = replay(questions, at={DataType.TRADES: At(snapshot=gone)}).start
        lake.load_table("market_data.trades").maintenance.expire_snapshots().by_ids([gone]).commit()
        with pytest.raises(SnapshotGoneError):
            given(replay(questions, start).batches())


@pytest.mark.parametrize(
    "wrong", ["", "x", "AAAA", "e30", "=" * 10, "é", "eJyrVkrLz1eyUkpKLFKqBQAdegQ0", "A" * 100_000]
)
def test_what_is_no_cursor_is_refused(wrong):
    with pytest.raises(UserError, match="Not a cursor"):
        Cursor.decode(wrong)


def places_in(content, path=()):
    """Each place in a JSON value, as the way to it."""
    yield path
    held = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in held:
        yield from places_in(value, (*path, name))


def exchanged(content, path, value):
    """The JSON value with another one at a place."""
    if not path:
        return value
    made = dict(content) if isinstance(content, dict) else list(content)
    made[path[0]] = exchanged(content[path[0]], path[1:], value)
    return made


ODD = (
    None,
    True,
    -1,
    2**31,
    2**63,
    10**30,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "timestamp",
    "\ud800",
    "a'\"b",
    [],
    [[]],
    {},
)


@settings(max_examples=sized(40, 2_000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(st.data())
def test_a_cursor_that_somebody_made_up_is_refused_or_answered_and_never_breaks_anything(questions, data):
    token = next(replay(questions).batches()).slice(0, 5).cursor.encode()
    content = json.loads(zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
    content |= {"live": {"trades": [["topic-0", 0, 3]]}, "ends": {}}
    for _ in range(data.draw(st.integers(1, 3))):
        content = exchanged(
            content, data.draw(st.sampled_from(list(places_in(content)))), data.draw(st.sampled_from(ODD))
        )
    made = base64.urlsafe_b64encode(zlib.compress(json.dumps(content).encode())).decode().rstrip("=")
    said = ""
    try:
        questions.replay_from(Cursor.decode(made)).page(5)
    except UserError:
        pass
    except WorldError as error:
        said = str(error)
    assert "could not read" not in said, "the statement that was made of it is none"


def test_a_cursor_without_end_is_refused():
    deep = base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode()
    with pytest.raises(UserError, match="Not a cursor"):
        Cursor.decode(deep)


def test_row_rules_hold_in_a_replay_and_after_its_cursor(questions, ticks):
    sight = Sight(symbols=frozenset({"CBA"}), exchanges=frozenset({"ASX"}))
    seen = questions.seen_by(sight)
    wanted = expected(ticks, lambda _, tick: tick["symbol"] == "CBA" and tick["exchange"] == "ASX")
    assert given(replay(seen).batches()) == wanted
    # A cursor that somebody with more rights got gives no more than one's own.
    foreign = next(replay(questions).batches()).slice(0, 1).cursor
    assert set(given(replay(seen, foreign).batches())) <= set(wanted)


def test_pages_are_the_replay_in_pieces(questions, ticks):
    start, rows = replay(questions).start, []
    done = False
    while not done:
        page, done = replay(questions, start).page(333)
        assert page.rows.num_rows == 333 or done
        rows += given([page])
        start = Cursor.decode(page.cursor.encode())
    assert rows == expected(ticks)
    empty, done = replay(questions, start).page(333)
    assert done
    assert not empty.rows.num_rows


def drain(player, most_rows=1_000_000):
    batches = []
    while (batch := player.take(30.0, most_rows)) is not None:
        batches.append((time.monotonic(), batch))
    assert player.ended
    return batches


def test_a_paced_replay_keeps_time(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [{"timestamp": START + timedelta(milliseconds=100 * n)} for n in range(50)])
    with questions_of(tmp_path, 60) as questions:
        player = Player(replay(questions), Pace(factor=5))
        batches = drain(player)
        began = batches[0][0]
        assert sum(batch.rows.num_rows for _, batch in batches) == 50
        for moment, batch in batches:
            for each in batch.rows.column("timestamp").to_pylist():
                assert moment - began >= (each - START).total_seconds() / 5 - 0.01, "too early"

        # And to the microsecond, by a clock that stands still when it is not told to go on.
        now = [0.0]
        player = Player(replay(questions), Pace(factor=5), clock=lambda: now[0])
        assert player.take(30.0, 1_000).rows.num_rows == 1
        for number in range(1, 50):
            now[0] = number * 0.02 - 2e-6
            assert player.take(0.0, 1_000) is None
            now[0] = number * 0.02 + 2e-6
            assert player.take(0.0, 1_000).rows.num_rows == 1
        assert player.take(30.0, 1_000) is None
        assert player.ended


def test_so_many_rows_a_second(questions, ticks):
    player = Player(replay(questions), Pace(rate=4_000))
    began = time.monotonic()
    rows = sum(batch.rows.num_rows for _, batch in drain(player))
    assert rows == len(ticks)
    assert time.monotonic() - began > 0.9
    now = [0.0]
    player, rows = Player(replay(questions), Pace(rate=4_000), clock=lambda: now[0]), 0
    for number in range(100):
        now[0] = number / 100
        while rows < 40 * number + 1:
            rows += player.take(30.0, 1_000_000).rows.num_rows
        assert rows == 40 * number + 1


def test_pause_resume_seek_and_another_pace(questions, ticks):
    player = Player(replay(questions), Pace(factor=0.001))
    first = player.take(30.0, 10)
    assert first is not None
    player.pause()
    player.change_pace(Pace())
    assert player.take(0.2, 10) is None
    assert not player.ended
    player.resume()
    second = player.take(30.0, 10)
    assert given([first, second]) == expected(ticks)[: first.rows.num_rows + 10]
    there = START + timedelta(seconds=60)
    player.seek(micros(there))
    rest = [batch for _, batch in drain(player)]
    assert given(rest) == expected(ticks, lambda _, tick: tick["timestamp"] >= there)


def test_a_player_goes_on_where_another_was_when_it_died(questions, ticks):
    player = Player(replay(questions), Pace())
    first = [player.take(30.0, 100) for _ in range(7)]
    token = player.cursor.encode()
    player.close()
    rest = [batch for _, batch in drain(Player(replay(questions, Cursor.decode(token)), Pace()))]
    assert given(first) + given(rest) == expected(ticks)


def test_rows_have_the_columns_of_both_kinds(questions):
    batch = next(replay(questions).batches())
    schema = batch.rows.schema
    assert schema.field("price").type == pa.decimal128(18, 8)
    assert schema.field("bid_price").type == pa.decimal128(18, 8)
    quotes = [row for row in batch.rows.to_pylist() if row["type"] == "quote"]
    assert all(row["price"] is None for row in quotes)
    trades = [row for row in batch.rows.to_pylist() if row["type"] == "trade"]
    assert all(row["price"] == Decimal(1) and row["bid_price"] is None for row in trades)
