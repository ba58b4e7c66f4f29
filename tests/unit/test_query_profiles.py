"""Profiles of exchanges: how they are written, which one a question has, and what an error says of one that there is not."""

import pytest

from k2.model import exchanges
from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.exchanges import Session, exchange
from k2.model.prints import PrintFilter, check_profile, described, on_exchange
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.profiles import profiles_described, with_profile

TRADES = (DataType.TRADES,)
NYSE = {
    "profiles": {"last_sale": {"excludeConditions": [4, "7"]}, "odd": {"conditions": ["I"]}},
    "defaultProfile": "odd",
}
OWN = (PrintFilter(side="BUY"),)
ON_MARKET = PrintFilter((), ("1", "3", "9"), exchange="ASX", profile="on_market")


@pytest.fixture(autouse=True)
def described_exchanges():
    use(NYSE=NYSE)
    yield
    exchanges.use(None)


def use(**entries):
    exchanges.use(ExchangesDocument.checked({"exchanges": entries}, "exchanges are wrong at"))


def test_asx_ships_with_the_prints_of_its_market_and_they_are_its_regular_session():
    asx = exchange("ASX")
    assert (asx.default_profile, asx.profile("on_market")) == ("on_market", ON_MARKET)
    assert exchange("LSE").profiles == ()


def test_a_profile_is_the_default_in_regular_sessions_alone():
    assert with_profile(OWN, None, Session.ALL, "ASX", TRADES) == OWN
    assert with_profile(OWN, None, Session.REGULAR, "ASX", TRADES) == (*OWN, ON_MARKET)
    assert with_profile(OWN, None, Session.REGULAR, "LSE", TRADES) == OWN
    assert with_profile(OWN, "none", Session.REGULAR, "ASX", TRADES) == OWN
    odd = PrintFilter(("I",), exchange="NYSE", profile="odd")
    assert with_profile((), None, Session.REGULAR, None, TRADES) == (ON_MARKET, odd)  # of whichever it will be
    assert with_profile((), None, Session.REGULAR, None, (DataType.QUOTES,)) == ()
    (asked,) = with_profile((), "last_sale", Session.ALL, None, (DataType.QUOTES, DataType.TRADES))
    assert asked == PrintFilter((), ("4", "7"), exchange="NYSE", profile="last_sale", is_asked=True)


@pytest.mark.parametrize(
    ("profile", "code", "kinds", "error"),
    [
        (
            "on_market",
            "NYSE",
            TRADES,
            "NYSE has no profile of that name: found 'on_market', expected last_sale or odd, or none",
        ),
        ("odd", "LSE", TRADES, "LSE has no profile of that name: found 'odd', expected none: it has no profiles"),
        ("odd", "NOWHERE", TRADES, "NOWHERE has no profile of that name"),
        ("even", None, TRADES, r"expected on_market \(of ASX\), last_sale \(of NYSE\), odd \(of NYSE\), or none"),
        ("odd", "NYSE", (DataType.QUOTES,), "quotes have no profiles: found 'odd', expected trades"),
    ],
)
def test_one_that_there_is_not_is_refused_and_those_that_there_are_named(profile, code, kinds, error):
    with pytest.raises(UserError, match=error):
        with_profile((), profile, Session.ALL, code, kinds)


def test_an_exchange_that_is_found_later_must_have_the_one_that_was_asked_for_but_no_default():
    asked = with_profile((), "odd", Session.ALL, None, TRADES)
    check_profile(asked, "NYSE", ["odd"])
    with pytest.raises(UserError, match="ASX has no profile of that name: found 'odd', expected on_market, or none"):
        check_profile(asked, "ASX", ["on_market"])
    check_profile(with_profile((), None, Session.REGULAR, None, TRADES), "LSE", [])
    assert on_exchange((*OWN, *asked), "ASX") == OWN
    assert described((*OWN, *asked)) == "the filter and profile odd"


def test_a_cursor_brings_the_profile_along_as_it_was_when_it_was_asked():
    query = ReplayQuery(prints=with_profile(OWN, "odd", Session.ALL, None, TRADES))
    token = Cursor(query, dict.fromkeys(query.data_types, ()), {}).encode()
    before = profiles_described()
    use()
    assert Cursor.decode(token).query.prints == query.prints
    assert profiles_described() != before


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"profiles": {"all": {}}}, "profiles.all: found {}, expected conditions or excludeConditions"),
        ({"profiles": {"none": {"conditions": ["1"]}}}, "profiles: .*expected another name than none"),
        ({"profiles": {"x": {"conditions": ["1"], "excludeConditions": [1]}}}, "name the same code"),
        ({"profiles": {"x": {"conditions": ["a,b"]}}}, "Not a condition code in conditions"),
        ({"profiles": {"x": {"side": "BUY"}}}, "profiles.x.side"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_with_its_place(entry, error):
    with pytest.raises(UserError, match=error):
        use(ASX=entry)


def test_a_default_must_be_one_of_the_exchanges_own():
    use(ASX={"defaultProfile": "lit"})
    with pytest.raises(
        UserError, match="The default profile of the exchange ASX is not described: found 'lit', expected one of on_m"
    ):
        exchange("ASX")
