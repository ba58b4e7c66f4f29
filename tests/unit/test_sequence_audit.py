"""The account of a table's own numbers, against one that looks at one row after the other."""

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, catalog_properties, make_lake
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.proof import sequence_audit
from k2.lake.proof.sequence_audit import SequenceAccount, SequenceDay, audit_sequences
from k2.model.exchanges import exchange
from k2.model.sequences import SequenceScope
from k2.model.topics import DataType

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000_000
LOWEST, HIGHEST = -(2**63), 2**63 - 1


def naive(events, scope):
    """(days, rows with a number, rows without) of events (exchange, symbol, number, hour)."""
    groups, without = defaultdict(list), 0
    for code, symbol, number, hour in events:
        if number is None:
            without += 1
            continue
        day = (EPOCH + timedelta(microseconds=START_US + hour * HOUR)).astimezone(exchange(code).zone).date()
        groups[code, symbol if scope.by_symbol else None, day if scope.by_day else None].append(number)
    days = [
        SequenceDay(
            *group,
            min(numbers),
            max(numbers),
            len(set(numbers)),
            max(numbers) - min(numbers) + 1 - len(set(numbers)),
            len(numbers) - len(set(numbers)),
        )
        for group, numbers in groups.items()
    ]
    ordered = sorted(days, key=lambda each: (each.day or date.min, each.exchange, each.symbol or ""))
    return ordered, sum(map(len, groups.values())), without


def file(events):
    columns = {
        "symbol": pa.array([symbol for _, symbol, _, _ in events], pa.string()).dictionary_encode(),
        "exchange": pa.array([code for code, _, _, _ in events], pa.string()).dictionary_encode(),
        "timestamp": pa.array([START_US + hour * HOUR for *_, hour in events], pa.timestamp("us", tz="UTC")),
        "source_sequence": pa.array([number for _, _, number, _ in events], pa.int64()),
    }
    return pa.record_batch(columns)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ASX", "NYSE"]),
        st.sampled_from(["A", "B", "C"]),
        st.none() | st.integers(0, 9) | st.sampled_from([LOWEST, LOWEST + 1, HIGHEST]),
        st.integers(0, 80),
    ),
    max_size=60,
)


@given(EVENTS, st.sampled_from(SequenceScope), st.lists(st.integers(0, 60), max_size=4))
def test_however_rows_lie_in_files_each_day_has_the_numbers_of_its_rows(events, scope, cuts):
    in_time = sorted(events, key=lambda each: each[3])
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    account = SequenceAccount(scope)
    for start, stop in pairwise(edges):
        rows = in_time[start:stop]
        if rows:
            account.finish_before(START_US + rows[0][3] * HOUR)
            account.add(file(rows))
    found = account.result()
    days, numbered, without = naive(events, scope)
    assert (list(found.days), found.rows, found.unnumbered) == (days, numbered, without)
    assert found.missing == sum(each.missing for each in days)
    assert found.duplicated == sum(each.duplicated for each in days)


@pytest.mark.parametrize(("scope", "missing"), [("symbol", 0), ("symbol-continuous", 2), ("exchange-continuous", 2)])
def test_numbers_without_end_are_followed_over_midnight(scope, missing):
    account = SequenceAccount(SequenceScope(scope))
    for day, numbers in enumerate([(1, 2, 3), (6, 7)]):
        account.finish_before(START_US + 24 * day * HOUR)
        account.add(file([("ASX", "BHP", number, 24 * day) for number in numbers]))
    found = account.result()
    assert (found.missing, found.duplicated) == (missing, 0)
    assert found.groups == (2 if scope == "symbol" else 1)
    assert [each.day is None for each in found.days] == [scope != "symbol"] * found.groups


def test_of_many_days_those_with_the_most_missing_are_listed(monkeypatch):
    monkeypatch.setattr(sequence_audit, "MOST_LISTED", 2)
    account = SequenceAccount(SequenceScope.SYMBOL)
    account.add(file([("ASX", f"S{n}", number, 0) for n in range(5) for number in (1, 10 * n + 2)]))
    found = account.result()
    assert (found.groups, found.missing) == (5, 10 + 20 + 30 + 40)
    assert [(each.symbol, each.missing) for each in found.days] == [("S3", 30), ("S4", 40)]


def test_intervals_are_merged_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(sequence_audit, "MOST_PENDING", 3)
    account = SequenceAccount(SequenceScope.SYMBOL)
    for low in (9, 0, 3, 6, 3):
        account.add(file([("ASX", "A", low + n, 0) for n in (2, 0, 1)]))
        assert account._held <= 3
    (day,) = account.result().days
    assert (day.first, day.last, day.distinct, day.missing, day.duplicated) == (0, 11, 12, 0, 3)


@pytest.fixture
def catalog(tmp_path):
    """BHP lacks 3 and 4 on its first day; CBA has 7 twice on the second; one row has no number."""
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    day = 24 * HOUR
    rows = [("BHP", n, n) for n in (1, 2, 5, 6)] + [("CBA", n, day + n) for n in (7, 8, 7)] + [("CBA", None, day)]
    for start in (0, 4):
        part = rows[start : start + 4]
        events = trades(
            [message_id(start, at) for at in range(4)],
            symbols=[symbol for symbol, _, _ in part],
            times=[START_US + time for _, _, time in part],
            sequence=[number for _, number, _ in part],
        )
        offsets = range(start, start + 4)
        committer.commit(Batch(with_lineage(events, [0] * 4, offsets), {0: (start, start + 4)}, {}))
    return catalog


def test_a_tables_files_are_read_by_trading_day(catalog):
    seen = []
    found = audit_sequences(
        catalog.load_table(TRADES), SequenceScope.SYMBOL, lambda done, total: seen.append((done, total))
    )
    first, second = datetime(2014, 3, 10, tzinfo=UTC).date(), datetime(2014, 3, 11, tzinfo=UTC).date()
    assert list(found.days) == [
        SequenceDay("ASX", "BHP", first, 1, 6, 4, 2, 0),
        SequenceDay("ASX", "CBA", second, 7, 8, 2, 0, 1),
    ]
    assert (found.rows, found.unnumbered, found.groups) == (7, 1, 2)
    assert seen[-1] == (len(seen), len(seen))


def test_a_table_without_rows_has_no_numbers(tmp_path):
    found = audit_sequences(make_lake(tmp_path).load_table(TRADES), SequenceScope.EXCHANGE)
    assert (found.rows, found.unnumbered, found.days) == (0, 0, ())


def audited(catalog, tmp_path, monkeypatch, *options):
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    return CliRunner().invoke(app, ["audit", TRADES, "--offline", *options])


def test_the_command_shows_what_the_source_left_out_and_calls_the_table_well(catalog, tmp_path, monkeypatch):
    said = audited(catalog, tmp_path, monkeypatch, "--sequences", "symbol")
    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert (
        "market_data.trades: 7 numbers of the source's own, by symbol and trading day: 2 missing, 1 there more"
        in said.stdout
    )
    assert next(line.split() for line in lines if line.startswith("ASX BHP")) == [
        "ASX",
        "BHP",
        "2014-03-10",
        "1",
        "6",
        "4",
        "2",
        "0",
    ]
    assert "every offset once, nothing missing" in said.stdout
    assert "sequence" not in audited(catalog, tmp_path, monkeypatch).stdout


def test_the_commands_json_has_them_beside_the_audit(catalog, tmp_path, monkeypatch):
    (body,) = json.loads(audited(catalog, tmp_path, monkeypatch, "--sequences", "exchange", "--output", "json").stdout)
    assert body["ok"]
    assert (body["sequences"]["scope"], body["sequences"]["missing"], body["sequences"]["groups"]) == ("exchange", 2, 2)
    assert body["sequences"]["days"][0] == {
        "exchange": "ASX",
        "symbol": None,
        "day": "2014-03-10",
        "first": 1,
        "last": 6,
        "distinct": 4,
        "missing": 2,
        "duplicated": 0,
    }
    (plain,) = json.loads(audited(catalog, tmp_path, monkeypatch, "--output", "json").stdout)
    assert "sequences" not in plain
