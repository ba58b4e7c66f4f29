"""Exchanges are data: those that ship, those that a person adds, and what an error says of one that nobody knows."""

import json
from datetime import UTC, date, datetime, time, timedelta

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.model import exchanges
from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangeEntry, ExchangesDocument
from k2.model.exchanges import exchange, known, with_options
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.settings import Settings
from k2.model.topics import AssetClass, TopicName

GARDEN = {"timeZone": "Europe/Berlin", "currency": "EUR", "assetClass": "futures"}


@pytest.fixture(autouse=True)
def as_shipped():
    """Whatever a test says of exchanges is forgotten after it."""
    exchanges.use(ExchangesDocument())
    yield
    exchanges.use(None)


def use(**entries):
    exchanges.use(ExchangesDocument.model_validate({"exchanges": entries}))


def test_an_exchange_is_found_in_any_case():
    assert exchange(" asx ").code == "ASX"


def test_every_exchange_that_ships_is_whole_and_can_be_part_of_a_topic_s_name():
    assert len(known()) > 50
    for code, each in known().items():
        assert TopicName.of(each.asset_class, "trades", code).exchange == code.lower()
        assert each.zone.key == each.time_zone
        assert each.name
        assert each.regular is None or each.regular[0] < each.regular[1]
        # Those of New York within the CME go by its calendar, whose clocks are Chicago's: the same instants.
        assert each.calendar.zone == each.zone or code in {"NYMEX", "COMEX"}


def test_an_exchange_of_the_settings_is_known_as_those_that_ship_are():
    use(GARDEN=GARDEN | {"hours": "08:00-09:30"})
    found = exchange("garden")
    assert (found.name, found.time_zone, found.currency) == ("GARDEN", "Europe/Berlin", "EUR")
    assert (found.asset_class, found.regular) == (AssetClass.FUTURES, (time(8), time(9, 30)))
    assert exchange("ASX").currency == "AUD"


def test_the_settings_change_an_exchange_field_by_field():
    use(ASX={"name": "Sydney"})
    assert (exchange("ASX").name, exchange("ASX").currency, exchange("ASX").regular) == (
        "Sydney",
        "AUD",
        (time(10), time(16)),
    )


@pytest.mark.parametrize(
    ("written", "near"),
    [("NYS", "NYSE"), ("tokyo stock exchange", "TSE"), ("BINANCEFUTURES", "BINANCE-FUTURES"), ("LSEE", "LSE")],
)
def test_an_unknown_exchange_is_refused_with_the_nearest_and_how_to_add_it(written, near):
    with pytest.raises(UserError) as caught:
        exchange(written)
    assert near in caught.value.expected.split(" or ")[0].split(", ")
    assert "`exchanges` in the platform's settings" in caught.value.remedy


@settings(max_examples=25)
@given(st.text(max_size=20))
def test_any_text_is_an_exchange_or_a_user_s_error(text):
    if text.strip().upper() in known():
        assert exchange(text).code == text.strip().upper()
    else:
        with pytest.raises(UserError, match="Unknown exchange"):
            exchange(text)


def test_an_exchange_that_only_the_settings_know_must_be_described():
    use(GARDEN={"currency": "EUR"})
    with pytest.raises(UserError, match="GARDEN is not described: found 'no timeZone and no assetClass'"):
        exchange("GARDEN")


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"timeZone": "Mars/Olympus"}, "GARDEN.timeZone: found 'Mars/Olympus', expected a time zone's name"),
        ({"assetClass": "tulips"}, "GARDEN.assetClass: found 'tulips'"),
        ({"hours": "9-17"}, "GARDEN.hours: found '9-17'"),
        ({"opens": "09:00"}, "GARDEN.opens"),
    ],
)
def test_what_is_wrong_in_a_file_of_exchanges_is_named_with_its_place(tmp_path, entry, where):
    path = tmp_path / "exchanges.yaml"
    path.write_text(yaml.safe_dump({"exchanges": {"GARDEN": GARDEN | entry}}))
    with pytest.raises(UserError, match=r"exchanges\.yaml is wrong at exchanges") as caught:
        Settings(data_dir=tmp_path).exchanges_said()
    assert where in str(caught.value)


def test_the_file_comes_before_the_environment_and_that_before_the_platform(tmp_path, monkeypatch):
    def said(currency):
        return {"exchanges": {"GARDEN": GARDEN | {"currency": currency}}}

    platform = Platform(
        kafka=KafkaPlatform(bootstrap_servers="127.0.0.1:1"),
        registry=RegistryPlatform(url="http://127.0.0.1:1"),
        catalog=CatalogPlatform(properties={}),
        exchanges={"GARDEN": ExchangeEntry.model_validate(GARDEN), "POND": ExchangeEntry.model_validate(GARDEN)},
    )
    platform.write(tmp_path / "platform.yaml")
    assert Platform.read(tmp_path / "platform.yaml") == platform
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    exchanges.use(None)
    assert (exchange("GARDEN").currency, exchange("POND").currency) == ("EUR", "EUR")
    monkeypatch.setenv("K2_EXCHANGES", json.dumps(said("CHF")))
    exchanges.use(None)
    assert exchange("GARDEN").currency == "CHF"
    (tmp_path / "exchanges.yaml").write_text(yaml.safe_dump(said("GBP")))
    exchanges.use(None)
    assert exchange("GARDEN").currency == "GBP"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(said("SEK")))
    monkeypatch.setenv("K2_EXCHANGES_FILE", str(tmp_path / "other.yaml"))
    exchanges.use(None)
    assert exchange("GARDEN").currency == "SEK"


def test_what_was_said_is_written_as_it_was_said_and_no_more():
    said = ExchangesDocument.model_validate({"exchanges": {"ASX": {"name": "Sydney"}}})
    assert said.as_json() == {"exchanges": {"ASX": {"name": "Sydney"}}}
    assert ExchangesDocument().as_json() == {}


def test_a_load_may_bring_its_exchange_along():
    found = with_options("garden", "Europe/Berlin", "EUR", "futures")
    assert (found.code, found.zone.key, found.currency, found.asset_class) == (
        "GARDEN",
        "Europe/Berlin",
        "EUR",
        AssetClass.FUTURES,
    )
    assert with_options("ASX", None, None, None) == exchange("ASX")
    assert with_options("ASX", "Australia/Perth", None, None).time_zone == "Australia/Perth"
    with pytest.raises(UserError, match="Give --currency, --asset-class for this once, or add it"):
        with_options("garden", "Europe/Berlin", None, None)
    with pytest.raises(UserError, match="timeZone: found 'Berlin'"):
        with_options("garden", "Berlin", "EUR", "futures")


def test_a_trading_day_of_sydney_is_parts_of_two_utc_days_and_follows_the_clocks():
    asx = exchange("ASX")
    start, end = asx.trading_day(date(2014, 3, 10))
    assert start == datetime(2014, 3, 9, 13, tzinfo=UTC)
    assert end == datetime(2014, 3, 10, 13, tzinfo=UTC)
    days = (date(2014, 4, 6), date(2014, 10, 5), date(2014, 6, 2))
    lengths = [end - start for start, end in map(asx.trading_day, days)]
    assert lengths == [timedelta(hours=25), timedelta(hours=23), timedelta(hours=24)]
