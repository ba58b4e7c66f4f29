"""What is known of companies: the newest record of each thing, symbols by date, renames, and what came before."""

from datetime import date
from decimal import Decimal

import pytest
from k2_testing.asking import questions_of
from k2_testing.companies import append_reference, company, dividend, merger, split
from k2_testing.lake import make_lake
from k2_testing.service import problem, serving

from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import At

RENAMED = [
    company("1", "OLD", "2003-11-06", "2010-06-30"),
    company("1", "NEW", "2010-07-01"),
    company("2", "OLD", "2012-02-01"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A company that changed its symbol, which another one has now; a dividend and a split that were corrected."""
    folder = tmp_path_factory.mktemp("companies")
    lake = make_lake(folder, *DataType)
    events = [
        dividend("1", "2009-03-02", "0.50", declared_date=date(2009, 2, 1)),
        split("1", "2011-05-02", "2"),
        dividend("2", "2013-03-04", "0.10"),
        dividend("2", "2013-03-04", "0.25"),
        merger("3", "2014-01-06", "0.4", symbol="LONE"),
    ]
    first = append_reference(lake, [*RENAMED, *events])
    mended = [dividend("1", "2009-03-02", "0.55", declared_date=date(2009, 2, 1)), split("1", "2011-05-02", "4")]
    append_reference(lake, mended, days=30)
    with questions_of(folder) as questions:
        yield folder, questions, first


@pytest.fixture(scope="module")
def ask(place):
    def found(*names, **asked):
        rows = place[1].reference(ReferenceQuery(**asked)).rows
        return [tuple(row[name] for name in names) for row in rows.to_pylist()]

    return found


def test_the_newest_record_of_each_thing_is_known(ask):
    assert ask("kind", "symbol", "ratio", "net_amount", companies=("1",)) == [
        ("company", "OLD", None, None),
        ("dividend", "OLD", None, Decimal("0.55")),
        ("company", "NEW", None, None),
        ("split", "NEW", Decimal(4), None),
    ]


def test_a_history_has_what_newer_records_took_the_place_of(ask):
    amounts = ask("net_amount", "superseded", companies=("1",), kinds=("dividend",), history=True)
    assert amounts == [(Decimal("0.5"), True), (Decimal("0.55"), False)]


def test_at_a_snapshot_it_is_what_was_known_then(ask, place):
    _, _, first = place
    at = At(snapshot=first)
    assert ask("ratio", companies=("1",), kinds=("split",), at=at) == [(Decimal(2),)]
    assert ask("ratio", "superseded", companies=("1",), kinds=("split",), at=at, history=True) == [(Decimal(2), False)]


def test_two_dividends_that_came_in_at_once_are_two(ask):
    assert ask("net_amount", companies=("2",), kinds=("dividend",)) == [(Decimal("0.1"),), (Decimal("0.25"),)]


def test_dividends_of_two_types_are_two_whenever_they_came_in(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    special, ordinary = (("type", name) for name in ("special", "ordinary"))
    append_reference(lake, [dividend("1", "2013-03-04", "0.10", vendor_data=[ordinary])])
    append_reference(lake, [dividend("1", "2013-03-04", "2", vendor_data=[special])], days=1)
    append_reference(lake, [dividend("1", "2013-03-04", "3", vendor_data=[special])], days=2)
    with questions_of(tmp_path) as questions:
        rows = questions.reference(ReferenceQuery()).rows
    assert rows["net_amount"].to_pylist() == [Decimal("0.1"), Decimal(3)]


@pytest.mark.parametrize(
    ("day", "companies"),
    [("2003-11-05", []), ("2003-11-06", ["1"]), ("2010-06-30", ["1"]), ("2011-01-01", []), ("2012-02-01", ["2"])],
)
def test_a_symbol_means_the_company_that_it_belonged_to_on_a_date(ask, day, companies):
    asked = {"symbols": ("OLD",), "kinds": ("company",), "day": date.fromisoformat(day)}
    assert ask("company_id", **asked) == [(each,) for each in companies]


@pytest.mark.parametrize(("day", "symbol"), [("2010-06-30", "OLD"), ("2010-07-01", "NEW"), ("2030-01-01", "NEW")])
def test_a_company_has_one_symbol_on_a_date(ask, day, symbol):
    assert ask("symbol", companies=("1",), kinds=("company",), day=date.fromisoformat(day)) == [(symbol,)]


def test_without_a_date_a_symbol_means_all_its_companies_under_all_their_symbols(ask):
    stretches = ask("company_id", "symbol", symbols=("OLD",), kinds=("company",))
    assert stretches == [("1", "OLD"), ("1", "NEW"), ("2", "OLD")]


def test_a_stretch_without_an_end_lasts_until_the_next_one(tmp_path):
    lake = make_lake(tmp_path, *DataType)
    append_reference(lake, [company("1", "OLD", "2003-11-06"), company("1", "NEW", "2010-07-01")])
    with questions_of(tmp_path) as questions:
        for day, symbol in (("2010-06-30", "OLD"), ("2010-07-01", "NEW")):
            rows = questions.reference(ReferenceQuery(companies=("1",), day=date.fromisoformat(day))).rows
            assert rows["symbol"].to_pylist() == [symbol]


def test_a_company_that_no_record_describes_is_known_by_its_events(ask):
    assert ask("kind", "company_id", "ratio", symbols=("LONE",)) == [("merger", "3", Decimal("0.4"))]


def test_nothing_has_its_reason(place, tmp_path):
    _, questions, _ = place
    found = questions.reference(ReferenceQuery(("NONE",)))
    assert found.note == "No record matches: market_data.reference_data knows nothing such of NONE"
    make_lake(tmp_path, *DataType)
    with questions_of(tmp_path) as empty:
        note = empty.reference(ReferenceQuery()).note
        assert note == "market_data.reference_data has no data yet: load it with `k2 load reference-data`"


def test_what_cannot_be_asked_is_said():
    with pytest.raises(UserError, match="Unknown kind of reference data: found 'bonus', expected one of company"):
        ReferenceQuery(kinds=("bonus",))


def test_over_rest_in_every_form(place):
    folder, _, first = place
    with serving(folder) as client:
        asked = {"company_id": "1", "kind": ["split", "dividend"]}
        body = client.get("/v1/reference", params=asked).json()
        assert [row["ratio"] or row["net_amount"] for row in body["data"]] == ["0.55000000", "4.00000000"]
        assert (body["count"], body["more"]) == (2, False)
        assert body["sources"][0]["table"] == "market_data.reference_data"
        lines = client.get("/v1/reference", params={**asked, "format": "csv"}).text.splitlines()
        assert len(lines) == 3
        assert "superseded" not in lines[0]
        one = client.get("/v1/reference", params={**asked, "limit": 1, "snapshot": first, "history": True}).json()
        assert (one["count"], one["more"], one["data"][0]["superseded"]) == (1, True, False)
        same = client.get("/v1/reference", params=asked)
        again = client.get("/v1/reference", params=asked, headers={"If-None-Match": same.headers["etag"]})
        assert again.status_code == 304
        problem(client.get("/v1/reference", params={"kind": "bonus"}), 422)
        stats = {each["data_type"]: each["rows"] for each in client.get("/v1/stats").json()["tables"]}
        assert stats == {"trades": 0, "quotes": 0, "reference_data": 10, "gaps": 0}
        assert problem(client.get("/v1/reference", params={"date": "10/03/2014"}), 400)["detail"].startswith("date ")
