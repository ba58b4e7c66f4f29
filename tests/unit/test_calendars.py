"""Trading dates and sessions: what exchanges announced, what lies beyond a calendar, and calendars of one's own."""

import importlib.metadata
import importlib.util
import json
import warnings
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.model import exchanges
from k2.model.calendar_data import shipped_calendar, shipped_names, source
from k2.model.calendars import OutsideCalendarError, day_parts
from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.exchanges import Session, exchange, known
from k2.model.settings import Settings
from k2.model.times import micros, to_datetime
from k2.model.topics import DataType

REGULAR = Session.REGULAR


@pytest.fixture(autouse=True)
def as_shipped():
    exchanges.use(ExchangesDocument())
    yield
    exchanges.use(None)


def use(text):
    exchanges.use(ExchangesDocument.model_validate(yaml.safe_load(text)))


def session(code, day, symbol=""):
    """The regular session by the exchange's clocks, with the day of the month where it is not the date's."""
    market = exchange(code).of(symbol)
    wanted = date.fromisoformat(day)
    local = [[to_datetime(us).astimezone(market.zone) for us in part] for part in market.stretches(wanted, REGULAR)]
    return [
        "-".join(f"{each:%H:%M}" if each.date() == wanted else f"{each:%d. %H:%M}" for each in part) for part in local
    ]


def trading_date(code, text, symbol=""):
    market = exchange(code).of(symbol)
    return market.calendar.date_of(micros(datetime.fromisoformat(text))).isoformat()


@pytest.mark.parametrize(
    ("code", "day", "expected"),
    [
        ("NYSE", "2024-11-29", ["09:30-13:00"]),
        ("NYSE", "2024-11-28", []),
        ("NASDAQ", "2025-01-09", []),  # a day of mourning
        ("LSE", "2024-12-24", ["08:00-12:30"]),
        ("ASX", "2024-12-24", ["10:00-14:10"]),
        ("ASX", "2024-12-23", ["10:00-16:00"]),
        ("TSE", "2024-03-04", ["09:00-11:30", "12:30-15:00"]),
        ("TSE", "2024-11-01", ["09:00-11:30", "12:30-15:00"]),
        ("TSE", "2024-11-05", ["09:00-11:30", "12:30-15:30"]),
        ("HKEX", "2024-12-24", ["09:30-12:00"]),
        ("TADAWUL", "2024-03-10", ["10:00-15:00"]),  # a Sunday
        ("CME", "2024-03-11", ["10. 17:00-17:00"]),
        ("CME", "2024-07-04", ["03. 17:00-12:00"]),
        ("CME", "2024-03-10", []),
        ("BINANCE", "2024-12-25", ["00:00-26. 00:00"]),
        ("COINBASE", "1950-01-01", ["00:00-02. 00:00"]),
        ("SIM", "2024-12-25", ["10:00-16:00"]),
    ],
)
def test_sessions_are_those_that_the_exchanges_announced(code, day, expected):
    assert session(code, day) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2024-03-08T22:59:59.999999+00:00", "2024-03-08"),  # 16:59 on Friday in Chicago, in winter
        ("2024-03-08T23:00:00+00:00", "2024-03-09"),
        ("2024-03-10T22:00:00+00:00", "2024-03-11"),  # 17:00 on Sunday, the day that clocks went forward
        ("2024-03-11T21:59:59+00:00", "2024-03-11"),
        ("2024-03-11T22:00:00+00:00", "2024-03-12"),
    ],
)
def test_a_date_of_the_cme_begins_the_evening_before(moment, expected):
    assert trading_date("CME", moment) == expected


@given(st.sampled_from(["ASX", "NYSE", "LSE", "TSE", "CME", "ICE", "BINANCE"]), st.integers(-6 * 10**15, 6 * 10**15))
def test_every_instant_has_one_trading_date(code, us):
    calendar = exchange(code).calendar
    day = calendar.date_of(us)
    assert calendar.begins_us(day) <= us < calendar.begins_us(day + timedelta(days=1))


def test_the_sessions_of_every_calendar_that_ships_lie_within_their_dates():
    for name in shipped_names():
        calendar = shipped_calendar(name)
        days = [*calendar.special, *(calendar.first + timedelta(days=n) for n in range(7)), calendar.last]
        days += [era.since + timedelta(days=n) for era in calendar.eras for n in range(7)]
        assert all(calendar.knows(day) for day in days)
        for day in days:
            begins, ends = calendar.begins_us(day), calendar.begins_us(day + timedelta(days=1))
            bounds = [begins, *(each for part in calendar.session(day) for each in part), ends]
            assert bounds == sorted(bounds), (name, day)
        assert calendar.version.startswith(source()["version"] + "-")
        assert not any(calendar.session(day) for day in calendar.closed)
    assert {each.calendar_name for each in known().values()} - {None} == set(shipped_names())


def test_what_a_calendar_does_not_know_it_says():
    with pytest.raises(OutsideCalendarError) as told:
        session("TSE", "1996-12-27")
    assert str(told.value).startswith(
        "The calendar XTKS does not know the session of that date: found '1996-12-27', expected a date from 1997-01-01 to "
    )
    calendar = exchange("TSE").calendar
    # All prints of the date are known all the same, and what is usual on its weekday.
    assert calendar.begins_us(date(1996, 12, 27)) == micros(datetime(1996, 12, 26, 15, tzinfo=ZoneInfo("UTC")))
    assert len(calendar.usual_session(date(1996, 12, 27))) == 2
    assert not calendar.usual_session(date(1996, 12, 28))


def test_whether_a_market_is_open_follows_pauses_and_holidays():
    def is_open(code, text):
        return exchange(code).calendar.is_open(micros(datetime.fromisoformat(text)))

    assert is_open("TSE", "2024-03-04T11:29:59+09:00")
    assert not is_open("TSE", "2024-03-04T11:30:00+09:00")
    assert is_open("TSE", "2024-03-04T12:30:00+09:00")
    assert not is_open("NYSE", "2024-12-25T12:00:00-05:00")
    assert is_open("NYSE", "2031-12-24T12:00:00-05:00"), "beyond the calendar its weekday counts"
    assert is_open("CME", "2024-03-10T18:00:00-05:00")
    assert not is_open("CME", "2024-03-09T12:00:00-06:00")


def test_what_ships_is_what_the_library_of_the_lock_says():
    """One calendar, with lunch and hours that changed; `make calendars` writes all."""
    pytest.importorskip("exchange_calendars")
    spec = importlib.util.spec_from_file_location(
        "compile_calendars", Path(__file__).parents[2] / "calendars/compile.py"
    )
    compiler = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings(action="ignore"):
        spec.loader.exec_module(compiler)
        assert source()["version"] == importlib.metadata.version("exchange-calendars"), "run `make calendars`"
        compiled = compiler.compiled("XTKS")
    shipped = [json.loads(line) for line in compiler.OUTPUT.read_text().splitlines()[1:]]
    assert json.loads(json.dumps(compiled)) == [line for line in shipped if line["calendar"] == "XTKS"]


# --- calendars of one's own ----------------------------------------------------------------------------------------------

GRAINS = """
exchanges:
  CME: {symbolCalendars: {"Z[CSW]*": grains, "GE*": quiet}}
  ASX: {calendar: asx-2031}
calendars:
  grains:
    hours:
      - {open: "19:00", close: "13:20", pauses: ["07:45-08:30"]}
      - {from: 2025-06-01, open: 20:00, close: "13:20"}
      - {from: 2025-06-01, days: [sat], open: "08:00", close: "09:00"}
    closed: [2024-12-25]
    special:
      2024-12-24: {open: "19:00", close: "12:05", pauses: ["07:45-08:30"]}
  quiet: {basedOn: CMES, closed: [2024-03-11]}
  asx-2031:
    basedOn: XASX
    until: 2031-12-31
    closed: [2031-12-25]
    special: {2024-12-25: {open: "10:00", close: "11:00"}}
"""


@pytest.mark.parametrize(
    ("symbol", "day", "expected"),
    [
        ("ZCH5", "2024-12-23", ["22. 19:00-07:45", "08:30-13:20"]),
        ("ZCH5", "2024-12-24", ["23. 19:00-07:45", "08:30-12:05"]),
        ("ZCH5", "2024-12-25", []),
        ("ZCH5", "2025-06-02", ["01. 20:00-13:20"]),
        ("ZCH5", "2025-06-07", ["08:00-09:00"]),
        ("ESH5", "2024-12-23", ["22. 17:00-17:00"]),
        ("GEH5", "2024-03-11", []),
        ("GEH5", "2024-07-04", ["03. 17:00-12:00"]),
    ],
)
def test_symbols_may_go_by_a_calendar_of_their_own(symbol, day, expected):
    use(GRAINS)
    assert session("CME", day, symbol) == expected


def test_a_date_begins_when_trading_of_its_calendar_does():
    use(GRAINS)
    assert trading_date("CME", "2024-12-22T18:59:59-06:00", "ZCH5") == "2024-12-22"
    assert trading_date("CME", "2024-12-22T19:00:00-06:00", "ZCH5") == "2024-12-23"
    assert trading_date("CME", "2024-12-22T17:00:00-06:00", "ESH5") == "2024-12-23"
    assert trading_date("CME", "2025-06-02T19:30:00-05:00", "ZCH5") == "2025-06-02"


def test_a_calendar_on_top_of_another_says_what_is_different_and_knows_more():
    shipped = exchange("ASX").calendar
    use(GRAINS)
    assert session("ASX", "2024-12-24") == ["10:00-14:10"]
    assert session("ASX", "2024-12-25") == ["10:00-11:00"]
    assert session("ASX", "2031-12-25") == []
    assert session("ASX", "2031-12-24") == ["10:00-16:00"]
    own = exchange("ASX").calendar
    assert (own.first, own.last, own.name) == (shipped.first, date(2031, 12, 31), "asx-2031")
    use(GRAINS.replace("2031-12-25", "2031-12-26"))
    assert exchange("ASX").calendar.version not in {own.version, shipped.version}


def test_calendars_of_the_settings_reach_other_processes_as_they_are():
    said = ExchangesDocument.model_validate(yaml.safe_load(GRAINS))
    assert Settings(exchanges=json.loads(json.dumps(said.as_json()))).exchanges == said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('pauses: ["07:45-08:30"]', 'pauses: ["07:45-06:30"]'), "each time is later than the one before"),
        (("calendar: asx-2031", "calendar: asx-2032"), "The calendar of ASX is not known: found 'asx-2032'"),
        (("basedOn: CMES", "basedOn: CMEX"), "is based on does not ship with K2: found 'CMEX'"),
        (("closed: [2024-12-25]", "closed: [25 December]"), "calendars.grains.closed.0"),
        (("quiet: {basedOn: CMES, closed", "quiet: {closed"), "hours, or basedOn"),
        (("basedOn: CMES, closed", "basedOn: CMES, opened"), "calendars.quiet.opened"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_calendar_is_named(tmp_path, change, words):
    (tmp_path / "exchanges.yaml").write_text(GRAINS.replace(*change))

    def read():
        exchanges.use(Settings(data_dir=tmp_path).exchanges_said())
        return known()

    with pytest.raises(UserError) as told:
        read()
    assert words in str(told.value)


def test_a_close_at_midnight_is_the_end_of_its_date():
    assert day_parts("17:00", "00:00") == ((17 * 60, 24 * 60),)
    assert day_parts("00:00", "24:00") == ((0, 24 * 60),)
    assert day_parts("17:00", "16:00") == ((-7 * 60, 16 * 60),)


def test_the_ids_of_messages_do_not_depend_on_a_calendar(tmp_path):
    path = tmp_path / "trades.csv"
    row = "ZCH5,2024-12-22T{}Z,450.25,1\n"
    path.write_text("symbol,timestamp,price,quantity\n" + "".join(row.format(f"{n:02}:30:00") for n in range(24)) * 2)

    def ids():
        venue = exchange("CME")
        form = file_format("generic", Files(DataType.TRADES, venue))
        files = CsvFiles([path], form, Assembler(DataType.TRADES, venue, "USD", "futures"), clock=lambda: 0)
        return [
            each
            for chunk in files.chunks()
            for _, batch in chunk.events
            for each in batch.column("message_id").to_pylist()
        ]

    shipped = ids()
    assert len(set(shipped)) == 48
    use("exchanges: {CME: {calendar: odd}}\ncalendars: {odd: {hours: [{open: '03:00', close: '02:00'}]}}")
    assert session("CME", "2024-12-23") == ["22. 03:00-02:00"]
    assert ids() == shipped
