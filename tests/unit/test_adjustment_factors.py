"""Factors from what happened to shares, against products written down with fractions."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from k2_testing.companies import company, dividend, merger, split

from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.times import micros
from k2.query.adjust.factors import Close, relevant, steps
from k2.query.adjust.histories import history
from k2.query.rows.adjusted import Step

ASX = exchange("ASX")
ONE = 10**18
NOTHING = dict.fromkeys(("symbol", "ex_date", "ratio", "net_amount", "gross_amount", "currency", "listing_date"))


def known(symbol, *records, dividends=True):
    return history(symbol, ASX, [NOTHING | record for record in records], dividends=dividends)


def midnight(text):
    return micros(ASX.trading_day(date.fromisoformat(text))[0])


def made(symbol, stretches, closes=(), first="1990-01-01", until="2030-01-01"):
    used = relevant(stretches, midnight(first), midnight(until))
    by_day = {day: Close(Decimal(price), "AUD", midnight(day) - 1) for day, price in dict(closes).items()}
    changes = [change for each in used for change in each.changes if change.dividends]
    return steps(symbol, used, {change: by_day[change.day.isoformat()] for change in changes})


def step(day, price, quantity=1):
    units = [round(Fraction(each) * ONE) for each in (price, quantity)]
    return Step(None if day is None else midnight(day), *units)


def test_a_split_divides_prices_and_multiplies_quantities_before_its_ex_date():
    assert made("BHP", known("BHP", company("1", "BHP", "2000-01-03"), split("1", "2010-05-03", "4"))) == (
        step(None, Fraction(1, 4), 4),
        step("2010-05-03", 1),
    )


def test_factors_multiply_backwards_a_special_dividend_counts_with_the_ordinary_one_of_its_date():
    stretches = known(
        "BHP",
        company("1", "BHP", "2000-01-03"),
        split("1", "2010-05-03", "0.1"),
        dividend("1", "2011-03-01", "0.50"),
        dividend("1", "2011-03-01", "2.00"),
        merger("1", "2012-07-02", "0.75"),
    )
    paid = 1 - Fraction(5, 2) / 20
    assert made("BHP", stretches, [("2011-03-01", "20")]) == (
        step(None, 10 * paid / Fraction(3, 4), Fraction(3, 40)),
        step("2010-05-03", paid / Fraction(3, 4), Fraction(3, 4)),
        step("2011-03-01", Fraction(4, 3), Fraction(3, 4)),
        step("2012-07-02", 1),
    )


def test_splits_alone_leave_dividends_out():
    records = (company("1", "BHP", "2000-01-03"), dividend("1", "2011-03-01", "1"), split("1", "2012-03-01", "2"))
    found = made("BHP", known("BHP", *records, dividends=False))
    assert found == (step(None, Fraction(1, 2), 2), step("2012-03-01", 1))


def test_what_has_not_happened_yet_and_what_was_before_the_first_row_change_nothing():
    stretches = known("BHP", split("1", "2010-05-03", "2", symbol="BHP"), split("1", "2020-05-04", "3", symbol="BHP"))
    assert made("BHP", stretches, until="2020-05-03") == (step(None, Fraction(1, 2), 2), step("2010-05-03", 1))
    assert made("BHP", stretches, first="2010-05-03") == (step(None, Fraction(1, 3), 3), step("2020-05-04", 1))
    assert made("BHP", stretches, first="2020-05-04") == (step(None, 1),)


def test_a_dividend_of_the_date_of_a_split_is_of_the_old_shares():
    stretches = known("X", split("1", "2010-05-03", "2", symbol="X"), dividend("1", "2010-05-03", "1", symbol="X"))
    assert made("X", stretches, [("2010-05-03", "10")])[0] == step(None, Fraction(9, 10) / 2, 2)


def test_a_close_of_before_a_split_is_taken_in_new_shares():
    stretches = known("X", split("1", "2010-04-30", "2", symbol="X"), dividend("1", "2010-05-03", "1", symbol="X"))
    (_, paying) = stretches[0].changes
    close = Close(Decimal(10), "AUD", midnight("2010-04-30") - 1)
    assert steps("X", stretches, {paying: close})[0] == step(None, Fraction(4, 5) / 2, 2)


def test_a_symbol_takes_the_changes_of_the_company_that_it_was_of():
    records = (
        company("1", "OLD", "2003-11-06", "2010-06-30"),
        company("1", "NEW", "2010-07-01"),
        company("2", "OLD", "2012-02-01"),
        split("1", "2005-01-03", "2"),
        split("1", "2011-05-02", "3"),
        split("2", "2011-09-01", "5"),
        split("2", "2013-03-04", "7"),
    )
    # Shares of company 1 were split by 3 under their new symbol: that changes their prices under the old one.
    assert made("OLD", known("OLD", *records)) == (
        step(None, Fraction(1, 6), 6),
        step("2005-01-03", Fraction(1, 3), 3),
        step("2011-05-02", 1),
        step("2012-02-01", Fraction(1, 7), 7),
        step("2013-03-04", 1),
    )
    assert made("NEW", known("NEW", *records))[-2:] == (step("2005-01-03", Fraction(1, 3), 3), step("2011-05-02", 1))


def test_an_amount_of_zero_takes_a_dividend_back_and_of_an_unknown_symbol_nothing_is_known():
    assert made("X", known("X", dividend("1", "2010-05-03", "0", symbol="X"))) == (step(None, 1),)
    assert known("Y", company("1", "X", "2000-01-03"), split("1", "2010-05-03", "2")) is None
    assert known("X", company("1", "X", "2000-01-03", exchange="NYSE")) is None


@pytest.mark.parametrize(
    ("record", "close", "said"),
    [
        (dividend("1", "2014-03-03", "0.59", "USD", symbol="X"), "38", r"another currency than its trades: found '0.59 USD', expected an amount in AUD"),
        (dividend("1", "2014-03-03", "38", symbol="X"), "38", "is not below the close before it: found '38 with a close of 38'"),
        (split("1", "2014-03-03", "0.00000001", symbol="X"), None, None),
        (split("1", "2014-03-03", "10000000000000", symbol="X"), None, "no price can be adjusted by"),
    ],
)  # fmt: skip
def test_what_gives_no_factor_is_refused(record, close, said):
    stretches = known("X", record)
    if said is None:
        assert made("X", stretches)[0] == step(None, 10**8, Fraction(1, 10**8))
        return
    with pytest.raises(UserError, match=said):
        made("X", stretches, [] if close is None else [("2014-03-03", close)])


@pytest.mark.parametrize("record", [split("1", "2014-03-03", None), dividend("1", "2014-03-03", None)])
def test_a_record_without_its_number_is_told_of(record):
    with pytest.raises(UserError, match="of X on 2014-03-03 has no"):
        known("X", record | {"symbol": "X"})
