"""What a source's own ids are unique within: ids that exist stay as they are, and each scope tells events apart as it says."""

from __future__ import annotations

import uuid
from datetime import time, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.id_scopes import IdRule, IdScope
from k2.model.ids import NAMESPACE
from k2.model.sources import CsvSource
from k2.model.times import to_datetime
from k2.model.topics import DataType
from k2.model.trading_days import civil_dates

TRADES = """symbol,timestamp,price,quantity,trade_id
IBM,2024-01-02T15:00:00.000001Z,1.5,2,7
IBM,2024-01-02T15:00:00.000001Z,1.5,2,
IBM,2024-01-02T15:00:00.000001Z,1.5,2,
GE,2024-01-02T15:00:00.000001Z,1.5,2,7
IBM,2024-01-03T15:00:00Z,1.5,2,7
IBM,2024-01-03T23:30:00Z,1.5,2,7
"""
QUOTES = """symbol,timestamp,bid_price,bid_quantity,ask_price,ask_quantity,quote_id
IBM,2024-01-02T15:00:00.000001Z,1.5,2,1.75,3,Q7
IBM,2024-01-02T15:00:00.000001Z,1.5,2,,,
"""

YEAR_1990, YEAR_2040 = 631_152_000_000_000, 2_208_988_800_000_000
GOLDEN_TRADES = [
    "d557f933-286c-51ee-932a-a6d6a6722ed6",
    "94ee2b7e-2f84-5416-b26b-2cd5724dcaa6",
    "0450c0e1-3730-5974-a04f-dd2036c4ec86",
    "c434cb6c-3361-5924-ba05-28ef391c2fc8",
    "d557f933-286c-51ee-932a-a6d6a6722ed6",
    "d557f933-286c-51ee-932a-a6d6a6722ed6",
]
GOLDEN_QUOTES = [
    "fb78513a-73c6-5397-be43-36a2220955c2",
    "92a0c2c5-cef9-54e1-aa2b-d9bb504f5443",
]


def source(tmp_path, text=TRADES, data_type=DataType.TRADES, rule=IdRule()):  # noqa: B008 - a frozen value
    path = tmp_path / "in.csv"
    path.write_text(text)
    venue = exchange("NYSE")
    form = file_format("generic", Files(data_type, venue))
    return CsvFiles([path], form, Assembler(data_type, venue, "USD", "equities", rule), clock=lambda: 0)


def ids(files):
    return [
        str(uuid.UUID(bytes=each))
        for chunk in files.chunks()
        for _, batch in chunk.events
        for each in batch.column("message_id").to_pylist()
    ]


def named(*fields):
    return str(uuid.uuid5(NAMESPACE, "\x1f".join(fields)))


def test_ids_of_rows_that_are_loaded_already_are_what_they_were(tmp_path):
    """Written down from what tables hold: with another id the first reload would double everything."""
    assert ids(source(tmp_path)) == GOLDEN_TRADES
    assert ids(source(tmp_path, QUOTES, DataType.QUOTES)) == GOLDEN_QUOTES
    assert GOLDEN_TRADES[0] == named("trades", "NYSE", "IBM", "7")


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        (IdRule(IdScope.CIVIL_DAY), [("IBM", "civil_day=2024-01-02", "7"), ("GE", "civil_day=2024-01-02", "7"), ("IBM", "civil_day=2024-01-03", "7"), ("IBM", "civil_day=2024-01-03", "7")]),
        (IdRule(IdScope.CIVIL_DAY, time(18)), [("IBM", "civil_day=2024-01-01", "7"), ("GE", "civil_day=2024-01-01", "7"), ("IBM", "civil_day=2024-01-02", "7"), ("IBM", "civil_day=2024-01-03", "7")]),
        (IdRule(IdScope.VENUE), [("", "7")] * 4),
        (IdRule(IdScope.VENUE_CIVIL_DAY), [("", "civil_day=2024-01-02", "7")] * 2 + [("", "civil_day=2024-01-03", "7")] * 2),
        (IdRule(space="block"), [("IBM", "id_space=block", "7"), ("GE", "id_space=block", "7"), ("IBM", "id_space=block", "7"), ("IBM", "id_space=block", "7")]),
        (IdRule(IdScope.VENUE_CIVIL_DAY, space="block"), [("", "id_space=block", "civil_day=2024-01-02", "7")] * 2 + [("", "id_space=block", "civil_day=2024-01-03", "7")] * 2),
    ],
)  # fmt: skip
def test_a_scope_is_part_of_the_name_of_a_sources_own_id_and_of_no_other(tmp_path, rule, fields):
    # 15:00 and 23:30 UTC are 10:00 and 18:30 in New York.
    found = ids(source(tmp_path, rule=rule))
    assert [found[row] for row in (0, 3, 4, 5)] == [named("trades", "NYSE", *each) for each in fields]
    assert found[1:3] == GOLDEN_TRADES[1:3]


def test_the_same_number_in_two_spaces_is_two_events_and_a_row_without_an_id_is_one(tmp_path):
    spaces = [ids(source(tmp_path, rule=IdRule(space=space))) for space in ("", "aggregate", "block")]
    assert len({found[0] for found in spaces}) == 3
    assert spaces[0] == GOLDEN_TRADES
    assert {tuple(found[1:3]) for found in spaces} == {tuple(GOLDEN_TRADES[1:3])}


def test_a_load_is_known_by_its_scope_and_those_of_before_by_none(tmp_path):
    plain = source(tmp_path).options
    assert not {"id_scope", "day_starts", "id_space"} & set(plain)
    by_day = source(tmp_path, rule=IdRule(IdScope.CIVIL_DAY, time(17, 30))).options
    assert by_day == plain | {"id_scope": "civil_day", "day_starts": "17:30"}
    assert source(tmp_path, rule=IdRule(IdScope.VENUE)).options == plain | {"id_scope": "venue"}
    assert source(tmp_path, rule=IdRule(space="block")).options == plain | {"id_space": "block"}


@pytest.mark.parametrize(
    ("scope", "day_starts", "words"),
    [
        ("day", None, "Unknown scope of ids: found 'day', expected 'one of symbol, civil_day, venue, venue_civil_day'"),
        ("civil_day", "24:00", "no time of day: found '24:00'"),
        ("civil_day", "17", "no time of day: found '17'"),
        ("venue", "17:00", "ids are not by day: found 'id scope venue'"),
    ],
)
def test_a_scope_or_a_days_start_that_means_nothing_is_refused(scope, day_starts, words):
    with pytest.raises(UserError) as error:
        IdRule.of(scope, day_starts)
    assert words.split(": found")[0] in str(error.value)


@pytest.mark.parametrize("space", ["", "Block", "1st", "a b", "block\x1f7", "a" * 33])
def test_a_space_has_a_short_name(space):
    with pytest.raises(UserError, match="The space of ids has no such name"):
        IdRule.of("symbol", None, space)
    assert IdRule.of("symbol", None, "block").space == "block"


def test_a_feed_that_says_no_space_is_told_as_it_was_before_there_were_any():
    files = {"format": "generic", "uris": ["https://x/y.csv"]}
    assert "id_space" not in CsvSource.model_validate(files).model_dump(mode="json")
    told = CsvSource.model_validate(files | {"idSpace": "aggregate"}).model_dump(mode="json")
    assert told["id_space"] == "aggregate"
    with pytest.raises(ValidationError):
        CsvSource.model_validate(files | {"idSpace": "Aggregate"})


def test_a_feed_says_the_scope_too_and_a_days_start_alone_is_a_problem():
    files = {"format": "generic", "uris": ["https://x/y.csv"]}
    by_day = CsvSource.model_validate(files | {"idScope": "civil_day", "dayStarts": "17:00"})
    assert list(by_day.problems([DataType.TRADES])) == []
    (problem,) = CsvSource.model_validate(files | {"dayStarts": "17:00"}).problems([DataType.TRADES])
    assert (problem.path, problem.what) == ("dayStarts", "without a scope by day")


@given(
    st.sampled_from(["NYSE", "ASX", "BINANCE"]).map(exchange),
    st.lists(st.integers(YEAR_1990, YEAR_2040), min_size=1, max_size=20),
    # Not between one and four, when clocks change: what a time that is skipped or repeated means is not compared here.
    st.sampled_from([time(), time(6, 30), time(17), time(18, 30), time(23, 59)]),
)
def test_a_civil_day_is_the_date_on_which_it_began_by_the_exchanges_clocks(venue, instants, begins):
    found = civil_dates(np.array(instants), venue, begins).to_pylist()
    local = [to_datetime(each).astimezone(venue.zone) for each in instants]
    assert found == [(each.date() - timedelta(days=each.time() < begins)).isoformat() for each in local]


def test_days_without_a_row_give_no_dates():
    assert civil_dates(np.empty(0, dtype=np.int64), exchange("ASX"), time()).equals(pa.array([], pa.string()))
