"""Stored bars are what the trades say, at every snapshot, whatever came, went, or was put in order; each minute's past stays readable."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from k2_testing.deleting import data_files, delete_positions
from k2_testing.extent import sized
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.ticks import append_ticks, at, trade
from typer.testing import CliRunner

import k2
from k2.cli import app
from k2.lake.appends.writer import write_files
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.upkeep.compact import Compactor
from k2.lake.upkeep.replacing import replace_files
from k2.model.errors import UserError, WorldError
from k2.model.events import Decimals
from k2.model.exchanges import Session
from k2.model.topics import DataType
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.profiles import with_profile
from k2.query.asked.requests import At
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2.query.stored import refresh
from k2.query.stored.refresh import StoredBars

BARS = "market_data.bars_1m"
SYMBOLS = ("BHP", "CBA", "RIO")
ANSWERED = (
    "symbol",
    "exchange",
    "date",
    "start",
    "end",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
)


class Desk:
    """A lake with trades, and what asks it."""

    def __init__(self, folder, decimals=Decimals.STANDARD):
        self.folder = folder
        self.lake = make_lake(folder, decimals=decimals)
        self.engine = Engine(Limits(timeout_seconds=120))
        planner = Planner(TableReader(lambda: open_named("k2", catalog_properties(folder))), {DataType.TRADES: TRADES})
        self.questions = Questions(planner, self.engine)
        self.stored = StoredBars(planner, self.engine, TRADES, BARS)

    def another(self):
        return StoredBars(self.questions.planner, self.engine, TRADES, BARS)

    def append(self, *trades):
        return append_ticks(self.lake, trades)

    def rows(self, session=None, snapshot=None):
        """The stored bars, by start, exchange and symbol."""
        found = self.lake.load_table(BARS).scan(snapshot_id=snapshot).to_arrow()
        found = found.sort_by([(name, "ascending") for name in ("start", "exchange", "symbol", "session")])
        return found if session is None else found.filter(pa.compute.equal(found["session"], session.value))

    def answered(self, session, snapshot=None):
        """The bars as they are computed from trades."""
        prints = with_profile((), None, session, None, (DataType.TRADES,))
        query = BarsQuery(
            SYMBOLS, Interval.MINUTE, "ASX", session=session, limit=1_000_000, prints=prints, at=At(snapshot)
        )
        return self.questions.bars(query).rows

    def assert_equal(self):
        for session in Session:
            computed = self.answered(session).select(list(ANSWERED))
            kept = self.rows(session).select(list(ANSWERED))
            assert kept.cast(computed.schema).to_pylist() == computed.to_pylist()

    def compact(self):
        Compactor(self.lake, TRADES, 1 << 29, self.folder).run()


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.engine.close()


def bars_by_start(rows):
    return {each["start"].isoformat()[11:16]: each for each in rows.to_pylist() if each["session"] == "all"}


def test_a_minute_has_its_figures_exactly_and_a_longer_bar_can_be_folded_from_it(desk):
    desk.append(
        trade(1, "10.1", "3"), trade(2, "9.7", "1"), trade(59, "10.3", "7"), trade(61, "11", "0"), trade(130, "12")
    )
    done = desk.stored.refresh()
    assert (done.bars_new, done.bars_revised, done.bars_gone) == (6, 0, 0)
    bars = bars_by_start(desk.rows())
    first = bars["23:00"]
    assert [first[name] for name in ("open", "high", "low", "close")] == [
        Decimal(p) for p in ("10.1", "10.3", "9.7", "10.3")
    ]
    assert (first["volume"], first["notional"], first["notional_rest"]) == (11, Decimal("112.1"), 0)
    assert first["price_time"] == Decimal("10.1") * 1_000_000 + Decimal("9.7") * 57_000_000
    assert (first["first_time"], first["last_time"]) == (at("2014-03-09T23:00:01"), at("2014-03-09T23:00:59"))
    assert (first["complete"], first["revision"], first["date"].isoformat()) == (True, 1, "2014-03-10")
    assert (bars["23:01"]["vwap"], bars["23:01"]["volume"]) == (None, 0)
    assert bars["23:02"]["complete"] is False
    desk.assert_equal()


@pytest.mark.parametrize("decimals", list(Decimals))
def test_notionals_are_exact_in_two_columns(tmp_path, decimals):
    desk = Desk(tmp_path, decimals)
    finest = Decimal(1).scaleb(-decimals.scale)
    ticks = [trade(n, str(Decimal(7 + n) + finest), str(Decimal(3) + n * finest)) for n in range(50)]
    desk.append(*ticks)
    desk.stored.refresh()
    exact = sum(each["price"] * each["quantity"] for each in ticks)
    (bar,) = desk.rows(Session.ALL).to_pylist()
    assert bar["notional"] + bar["notional_rest"] == exact
    assert 0 < bar["notional_rest"] < finest
    desk.assert_equal()
    desk.engine.close()


def test_a_late_trade_revises_its_bar_alone_and_the_former_one_stays_readable(desk):
    desk.append(*(trade(60 * n, "10") for n in range(5)), *(trade(90_000 + 60 * n, "20") for n in range(3)))
    before = desk.stored.refresh()
    desk.append(trade(61, "15"))
    done = desk.stored.refresh()
    assert (done.days, done.bars_new, done.bars_revised) == (
        2,
        0,
        2,
    )  # of both sessions; the last minute is not complete
    revisions = bars_by_start(desk.rows())
    assert {start: bar["revision"] for start, bar in revisions.items() if bar["revision"] != 1} == {"23:01": 2}
    assert (revisions["23:01"]["high"], revisions["23:01"]["trade_count"]) == (15, 2)
    assert bars_by_start(desk.rows(snapshot=before.committed))["23:01"]["high"] == 10
    desk.assert_equal()


def test_nothing_is_computed_or_committed_where_nothing_changed_and_none_where_trades_were_compacted(desk):
    for n in range(20):
        desk.append(trade(60 * n), trade(86_400 + 60 * n))
    desk.append(trade(2 * 86_400))
    first = desk.stored.refresh()
    again = desk.stored.refresh()
    assert (again.committed, again.differ) == (None, 0)
    assert again.days == 1  # the day of the bar that is not complete
    desk.compact()
    moved = desk.stored.refresh()
    assert (moved.days, moved.differ) == (1, 0)
    assert moved.snapshot_id != first.snapshot_id
    assert len(data_files(desk.lake.load_table(BARS))) == len({row["start"].date() for row in desk.rows().to_pylist()})
    desk.assert_equal()


@pytest.mark.parametrize("seed", range(sized(2, 12)))
def test_at_every_snapshot_the_bars_are_those_of_the_trades(tmp_path, seed):
    desk, chance = Desk(tmp_path), random.Random(seed)
    revisions = Counter()
    for step in range(sized(7, 14)):
        what = chance.choice(["new", "late", "deleted", "compacted"]) if step else "new"
        if what in ("new", "late"):
            since = 0 if what == "late" else 20_000 * step
            desk.append(*(some_trade(chance, since) for _ in range(chance.choice([1, 40, 300]))))
        elif what == "deleted":
            table = desk.lake.load_table(TRADES)
            file = chance.choice(data_files(table))
            gone = sorted(chance.sample(range(file.record_count), min(3, file.record_count)))
            delete_positions(table, [(file.file_path, number) for number in gone], file)
        else:
            desk.compact()
        done = desk.stored.refresh()
        desk.assert_equal()
        revisions.update(desk.rows()["revision"].to_pylist())
        assert desk.stored.refresh(check=True).differ == 0
        assert done.snapshot_id == desk.lake.load_table(TRADES).current_snapshot().snapshot_id
    assert revisions[1]
    desk.engine.close()


def some_trade(chance, since):
    return trade(
        since + chance.random() * 30_000,
        str(Decimal(chance.randrange(900, 1_100)) / 100),
        str(chance.choice([0, 1, 100])),
        symbol=chance.choice(SYMBOLS),
        trade_conditions=chance.choice([[], ["1"], ["3"], ["9"]]),
    )


def test_a_run_that_overlooks_what_changed_is_found_out(desk, monkeypatch):
    """The control of the tests above: where files are not compared, bars stay as they were."""
    desk.append(trade(0), trade(86_400))
    desk.stored.refresh()
    monkeypatch.setattr(refresh, "_only_replaced", lambda *_: True)
    desk.append(trade(1))
    assert desk.stored.refresh().differ == 0
    assert desk.stored.refresh(check=True).bars_revised == 2
    with pytest.raises(AssertionError):
        desk.assert_equal()


def test_a_file_of_several_days_keeps_the_days_that_did_not_change(desk):
    desk.append(*(trade(86_400 * day + 60 * n) for day in range(3) for n in range(3)))
    desk.stored.refresh()
    desk.append(trade(86_400 * 3))
    desk.stored.refresh()
    table, whole = desk.lake.load_table(BARS), desk.rows()
    made = write_files(
        table, whole, np.arange(whole.num_rows)
    )  # a file for a month, as an engine that compacts leaves it
    replace_files(table, data_files(table), [each.data_file for each in made], "1", "optimize")
    desk.append(trade(86_400 + 61, "5"))
    done = desk.stored.refresh()
    assert (done.days, done.bars_new, done.bars_revised, done.bars_gone) == (2, 0, 2, 0)
    assert desk.rows().num_rows == whole.num_rows
    desk.assert_equal()


def test_a_run_that_is_ended_before_its_commit_leaves_what_was_there_and_no_file(desk):
    desk.append(trade(0), trade(86_400))
    desk.stored.refresh()
    held = desk.rows()
    desk.append(trade(1), trade(86_401))

    def end(done, days):
        if done == days:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        desk.stored.refresh(told=end)
    assert desk.rows() == held
    table = desk.lake.load_table(BARS)
    there = {path.name for path in (desk.folder / "warehouse").rglob("*bars_1m/data/**/*.parquet")}
    assert there == {Path(file.file_path).name for file in data_files(table)}
    desk.stored.refresh()
    desk.assert_equal()


def test_of_two_runs_at_once_one_gives_up_and_every_bar_is_there_once(desk):
    desk.append(trade(0), trade(60))
    with pytest.raises(WorldError, match="run it again"):
        desk.stored.refresh(told=lambda done, days: desk.another().refresh() if done == days else None)
    assert set(
        Counter(zip(*(desk.rows()[k].to_pylist() for k in ("symbol", "session", "start")), strict=True)).values()
    ) == {1}
    desk.assert_equal()
    assert desk.stored.refresh().differ == 0


def test_where_the_covered_snapshot_is_gone_or_somebody_wrote_bars_every_day_is_computed(desk):
    desk.append(trade(0), trade(86_400), trade(2 * 86_400))
    first = desk.stored.refresh()
    table = desk.lake.load_table(BARS)
    file = data_files(table)[0]
    delete_positions(table, [(file.file_path, 0)], file)
    assert desk.stored.refresh(check=True).differ == 1
    mended = desk.stored.refresh()
    assert (mended.days, mended.bars_new) == (3, 1)
    assert "nothing is known" in mended.why
    desk.assert_equal()
    desk.append(trade(61))
    table = desk.lake.load_table(TRADES)
    pins = [name for name in table.metadata.refs if name.startswith("k2-pin-")]
    assert len(pins) == 1  # that of the run before was let go
    with table.manage_snapshots() as manage:
        manage.remove_tag(pins[0])
    desk.lake.load_table(TRADES).maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    done = desk.stored.refresh()
    assert "not retained any more" in done.why
    assert done.days == 3
    desk.assert_equal()


def test_trades_that_are_none_and_a_table_that_is_none_are_told(desk):
    assert desk.stored.refresh().why == "there are no trades yet"
    desk.append(trade(0))
    with pytest.raises(UserError, match=r"There is no table market_data\.bars_1m yet"):
        desk.stored.refresh(check=True)
    with pytest.raises(UserError, match="written into the table of trades"):
        StoredBars(desk.questions.planner, desk.engine, TRADES, TRADES)
    desk.stored.refresh()
    with pytest.raises(UserError, match="is no table of trades"):
        StoredBars(desk.questions.planner, desk.engine, BARS, "market_data.bars_2").refresh()


def test_the_command_makes_keeps_and_checks_them_and_sql_reads_them(desk, monkeypatch):
    desk.append(trade(0, "10"), trade(60, "11"), trade(120, "12"))
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(desk.folder)))
    monkeypatch.setenv("K2_DATA_DIR", str(desk.folder))
    made = invoke("--table", BARS)
    assert made.stdout.startswith("market_data.bars_1m: 1 day computed from snapshot "), made.output
    assert "6 new, 0 revised, 0 gone; snapshot " in made.stdout
    assert (
        "1 day would be computed (0 files of trades came, went or lost rows)"
        in invoke("--table", BARS, "--dry-run").stdout
    )
    assert "1 day compared with" in invoke("--table", BARS, "--check").stdout
    desk.append(trade(30, "13"))
    wrong = invoke("--table", BARS, "--check", "-o", "json")
    assert (wrong.exit_code, json.loads(wrong.stdout)["bars_revised"]) == (1, 2)
    assert "2 revised" in invoke("--table", BARS).stdout
    with k2.connect(catalog=catalog_properties(desk.folder)) as db:
        found = db.sql(
            "SELECT max(high)::INT AS high, sum(trade_count)::INT AS n FROM bars_1m WHERE session = 'all'"
        ).arrow()
        assert found.to_pylist() == [{"high": 13, "n": 4}]
        query = "SELECT sum(notional + notional_rest) / sum(volume) AS vwap FROM bars_1m WHERE session = 'regular' GROUP BY symbol"
        assert db.sql(query).arrow().to_pylist() == [{"vwap": 11.5}]


def invoke(*words):
    return CliRunner().invoke(app, ["upkeep", "bars", *words])


def test_the_pin_of_what_is_covered_lapses(desk):
    desk.append(trade(0))
    desk.stored.refresh()
    (pin,) = desk.questions.pins()
    assert (
        timedelta(days=29) < datetime.fromtimestamp(pin.until_us / 1e6, UTC) - datetime.now(UTC) <= timedelta(days=30)
    )
