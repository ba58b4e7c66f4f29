"""What a person at a terminal gets from `k2-query`: columns that fit, symbols that were meant, words for a Tab."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.cli_query import completing
from k2.cli_query.aggregates import _some
from k2.cli_query.options import DEFAULT_ROWS, EventTable, Output
from k2.cli_query.printing import fitting, refuse_bytes
from k2.cli_query.replays import _named
from k2.forms.wire import ending_of, metadata_of
from k2.model.errors import UserError
from k2.query.plan.nearest import distance, nearest

SYMBOLS = ["BHP", "BHQ", "CBA", "BTC/USDT", "Ørsted", "AAPL"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bhp", "BHP"),
        ("BHPP", "BHP"),
        ("BHR", "BHP"),
        ("CAB", None),
        ("APPL", "AAPL"),
        ("BTCUSDT", "BTC/USDT"),
        ("btc-usd", "BTC/USDT"),
        ("ørsted", "Ørsted"),
        ("BHP", "BHQ"),
        ("ZZZZZZ", None),
        ("", None),
    ],
)
def test_the_symbol_that_was_meant_differs_in_case_or_by_a_letter_or_two(typed, meant):
    assert nearest(typed, [name for name in SYMBOLS if name != typed]) == meant


LETTERS = st.text("ABC", max_size=6)


@given(LETTERS, LETTERS)
def test_a_distance_counts_what_is_put_in_left_out_and_changed(one, other):
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    for most in (1, 2):
        assert distance(one, other, most) == min(slow(one, other), most + 1)


@pytest.mark.parametrize(("room", "columns"), [(None, 4), (100, 4), (29, 4), (28, 3), (21, 3), (20, 2), (5, 1), (1, 1)])
def test_a_narrow_terminal_gets_the_first_columns_whole(room, columns):
    assert fitting([5, 5, 7, 6], room) == columns


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("output", [Output.PARQUET, Output.ARROW])
def test_bytes_that_are_no_text_do_not_go_to_a_terminal(output, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    refuse_bytes(output)
    monkeypatch.setattr("sys.stdout", Terminal())
    with pytest.raises(UserError, match=f"{output.value} is no text.*Add --out rows.{output.value}"):
        refuse_bytes(output)
    refuse_bytes(Output.NDJSON)


@pytest.mark.parametrize(
    ("words", "table", "meant"),
    [
        ([], None, ([], None)),
        (["BHP", "CBA"], None, (["BHP", "CBA"], None)),
        (["quotes"], None, ([], EventTable.QUOTES)),
        (["trades", "BHP"], None, (["BHP"], EventTable.TRADES)),
        (["BHP", "quotes"], None, (["BHP", "quotes"], None)),
        (["quotes"], EventTable.TRADES, (["quotes"], EventTable.TRADES)),
    ],
)
def test_a_replay_takes_symbols_as_words(words, table, meant):
    assert _named(words, table) == meant


def test_a_table_of_bars_of_all_times_is_a_screen_or_two():
    nothing = (None, None, None)
    assert _some(Output.TABLE, False, nothing) == DEFAULT_ROWS
    assert _some(Output.TABLE, False, (None, None, "2014-03-10")) is None
    assert _some(Output.TABLE, True, nothing) is None
    assert _some(Output.CSV, False, nothing) is None


def test_numbers_beside_rows_are_numbers_and_ids_are_texts():
    said = {
        "count": 5,
        "tail_rows": 12,
        "stale_seconds": 0.5,
        "more": False,
        "snapshot_id": "6427219016970560606",
        "from_snapshot_id": "1",
        "next_page": "12345",
        "cursor": "777",
        "note": None,
        "sources": [{"files": 1}],
    }
    as_bytes = {name.encode(): text.encode() for name, text in metadata_of(said).items()}
    assert ending_of(as_bytes) == said


def test_fields_are_completed_also_behind_a_comma():
    assert completing.fields("bid_p") == ["bid_price"]
    assert completing.fields("timestamp,pri") == ["timestamp,price"]
    assert completing.fields("nothing") == []


def test_where_nobody_answers_a_tab_gives_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("K2_API_URL", "http://127.0.0.1:9")
    assert completing.symbols("B") == []
