"""Candlesticks in characters: every bar where it belongs, within the width, with axes that can be read."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.cli_query.axes import price_axis, time_labels
from k2.cli_query.candles import Candle, draw
from k2.query.asked.bar_requests import Interval

SYDNEY = ZoneInfo("Australia/Sydney")
OPEN = datetime(2014, 3, 10, 10, tzinfo=SYDNEY)


def candle(number, figures, minutes=5, day=OPEN):
    start = day + timedelta(minutes=minutes * number)
    return Candle(start, start.date(), *map(Decimal, figures.split()))


def picture(*figures, width=60, height=16, **more):
    candles = [candle(n, each) for n, each in enumerate(figures)]
    return draw(candles, "BHP ASX  5m", Interval.FIVE_MINUTES, width=width, height=height, colour=False, **more)


def test_a_chart_without_colour_tells_rising_from_falling():
    drawn = picture("10 14 9 12 100", "12 13 8 9 200", "9 9 9 9 0", "9 11 9 11 50", height=17)
    assert drawn.splitlines() == [
        "BHP ASX  5m  Mon 10 Mar 2014  Australia/Sydney",
        "O 10  H 14  L 8  C 11  +10.00 %  V 350",
        "│           ├ 14",
        "│  │        │",
        "╽  ▄        ├ 12",
        "┃  █        │",
        "┃  █     ┃  │◂11",
        "┃  █     ┃  │",
        "╿  █     ┃  ├ 10",
        "╵  ▀  ╹  ╹  │",
        "   │        ├ 8",
        "            │",
        "   █        ├ 200",
        "█  █     ▄  │",
        "┴────────┴──┘",
        "10:00    10:15",
        "Mon 10 Mar",
    ]


@given(
    st.lists(
        st.tuples(*[st.decimals(-(10**9), 10**9, places=4)] * 4, st.decimals(0, 10**12, places=2)),
        min_size=1,
        max_size=300,
    ),
    st.integers(40, 200),
    st.integers(12, 48),
    st.booleans(),
)
def test_every_chart_fits_its_width_and_height(figures, width, height, colour):
    candles = [
        Candle(OPEN + timedelta(minutes=n), OPEN.date(), first, max(prices), min(prices), last, volume)
        for n, (*prices, volume) in enumerate(figures)
        for first, last in [(prices[0], prices[3])]
    ]
    drawn = draw(candles, "X ASX  1m", Interval.MINUTE, width=width, height=height, colour=colour)
    lines = drawn.splitlines()
    assert len(lines) == height
    if not colour:
        # Title and figures are whole, whatever they take; the picture is not wider than the terminal.
        assert max(len(line) for line in lines[2:-2]) <= max(width, 20 + 22)


def test_prices_below_zero_are_drawn_below_it_and_a_change_from_there_is_no_percentage():
    drawn = picture("10 10 -40 -37.63 100", "-37.63 1.5 -38 -30 9")
    lines = drawn.splitlines()
    assert lines[1] == "O 10  H 10  L -40  C -30  -400.00 %  V 109"
    axis = [line.split("├ ")[1] for line in lines[2:-4] if "├" in line]
    assert axis[:2] == ["0", "-25"]
    assert "◂-30" in drawn
    assert picture("-10 -5 -10 -5.5 1").splitlines()[1].split("  ")[4] == "+4.5"
    assert picture("0 0 0 0 1").splitlines()[1] == "O 0  H 0  L 0  C 0  +0  V 1"


def test_highs_and_lows_are_at_the_edges_and_the_close_is_marked():
    lines = picture("36.5 38 36 37 1", "37 37.5 36.2 36.4 3").splitlines()
    assert lines[2].startswith("│")  # the high of all, in the first column
    assert any(line.endswith("◂36.4") for line in lines)
    assert "┃" in "".join(line[:1] for line in lines[2:10])
    assert "█" in "".join(line[3:4] for line in lines[2:10])


def test_more_bars_than_columns_are_joined_within_their_dates():
    candles = [
        candle(n, f"{10 + n % 3} 13 9 {10 + n % 2} 5", day=OPEN + timedelta(days=day))
        for day in range(2)
        for n in range(72)
    ]
    lines = draw(candles, "BHP", Interval.FIVE_MINUTES, width=40, height=20, colour=False).splitlines()
    assert lines[0].endswith("(5 bars a column)")
    assert lines[-3] == "┴──────────────┴──────────────┘"
    assert lines[-1] == "Mon 10 Mar     Tue 11 Mar"
    assert "V 720" in lines[1]


@pytest.mark.parametrize(
    ("low", "high", "lines", "labels"),
    [
        ("36.12", "37.72", 21, ["36.25", "36.50", "36.75", "37.00", "37.25", "37.50"]),
        ("0.00001", "0.00009", 12, ["0.00002", "0.00004", "0.00006", "0.00008"]),
        ("98000", "104000", 9, ["98,000", "100,000", "102,000", "104,000"]),
        ("5", "5", 10, ["4", "5", "6"]),
        ("1.25", "1.25", 10, ["1.24", "1.25", "1.26"]),
    ],
)
def test_prices_of_the_axis_are_round(low, high, lines, labels):
    _, _, ticks = price_axis(Decimal(low), Decimal(high), lines)
    assert [tick.label for tick in ticks] == labels


def test_times_are_the_exchanges_and_do_not_touch():
    starts = [OPEN + timedelta(minutes=5 * n) for n in range(72)]
    clock, dates = time_labels(starts, [OPEN.date()] * 72, 1, daily=False)
    assert clock.text == "10:00       11:00       12:00       13:00       14:00       15:00"
    assert [n for n, mark in enumerate(clock.marks) if mark] == [0, 12, 24, 36, 48, 60]
    assert dates.text == "Mon 10 Mar"


def test_days_have_numbers_and_months():
    days = [date(2014, 3, 28) + timedelta(days=n) for n in range(6)]
    clock, dates = time_labels([datetime(2014, 3, 28, tzinfo=UTC)] * 6, days, 4, daily=True)
    assert clock.text == "28  29  30  31  1   2"
    assert dates.text == "Mar 2014        Apr 2014"
