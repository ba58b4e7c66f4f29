"""The vendor's own reference data of March 2014: BHP's dividend is in US dollars, RIO's in Australian ones."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from k2_testing.asking import questions_of
from k2_testing.companies import append_reference, midnight_of
from k2_testing.lake import make_lake
from k2_testing.real_ticks import ROOT, append_bhp, needs_real_ticks, read
from k2_testing.ticks import append_ticks, at

from k2.model.adjusted import Adjusted
from k2.model.errors import UserError
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import EventsQuery, Window

ALL = Adjusting(Adjusted.ALL)

pytestmark = needs_real_ticks


def test_dividends_of_the_vendors_files_count_as_the_hand_counts_them(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_bhp(lake, DataType.TRADES)
    records, _ = read(DataType.REFERENCE_DATA, *sorted((ROOT / "reference-data").glob("*.csv")))
    append_reference(lake, records.to_pylist())
    rio = [("2014-03-04T04:59:59", "70"), ("2014-03-04T05:10:00", "69"), ("2014-03-04T23:00:00", "68.9")]
    append_ticks(lake, [{"timestamp": at(time), "price": Decimal(price), "symbol": "RIO"} for time, price in rio])
    with questions_of(tmp_path) as questions:
        known = questions.reference(ReferenceQuery(("RIO",), kinds=("dividend",))).rows.to_pylist()
        assert [(row["net_amount"], row["currency"]) for row in known] == [(Decimal("1.2014"), "AUD")]
        # The close of the 4th is 70, at 15:59:59 in Sydney; 69 is the auction's, and 68.9 is traded without the dividend.
        factor = Fraction(round((1 - Fraction("1.2014") / 70) * 10**18), 10**18)
        found = questions.events(EventsQuery(DataType.TRADES, ("RIO",), adjusted=ALL)).rows["price"].to_pylist()
        by_hand = [Decimal(round(Fraction(price) * factor * 10**8)).scaleb(-8) for price in (70, 69)]
        assert found == [*by_hand, Decimal("68.9")]
        # The week of the files begins after BHP's ex-date, the 3rd.
        week = EventsQuery(DataType.TRADES, ("BHP",), limit=100_000)
        assert questions.events(replace(week, adjusted=ALL)).rows == questions.events(week).rows
        append_ticks(lake, [{"timestamp": at("2014-02-28T04:00:00"), "price": Decimal(38)}])
        with pytest.raises(
            UserError, match=r"of BHP with ex-date 2014-03-03 is in another currency .* found '0.59 USD'"
        ):
            questions.events(replace(week, adjusted=ALL))
        later = replace(week, window=Window(micros(midnight_of("2014-03-03"))), adjusted=ALL)
        assert questions.events(later).rows.num_rows == 91_631
