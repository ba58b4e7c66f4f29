"""A symbol that there is nothing of: the one that was perhaps meant is named, of those that may be seen at that snapshot."""

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import append_ticks, trade

import k2
from k2.model.errors import UserError
from k2.model.topics import DataType


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("lake")
    catalog = make_lake(made, DataType.TRADES, DataType.QUOTES)
    append_ticks(catalog, [trade(0, "1", symbol="BHP"), trade(1, "1", symbol="btc")])
    append_ticks(catalog, [trade(2, "1", symbol="CBA"), trade(3, "1", symbol="IBM", exchange="NYSE")])
    return made


@pytest.fixture(scope="module")
def db(folder):
    with k2.connect(catalog=catalog_properties(folder)) as opened:
        yield opened


def test_every_question_about_a_symbol_that_is_not_there_names_the_nearest(db):
    has_nothing = "market_data.trades has nothing of bhp. Did you mean BHP?"
    assert db.trades("bhp").note == has_nothing, "also where the bounds of a file would allow it"
    assert db.trades("xba", date="2014-03-10").note.endswith("Did you mean CBA?")
    assert db.bars("xba", date="2014-03-10").note.endswith("Did you mean CBA?")
    assert db.asof("xba", date="2014-03-10").note.endswith("Did you mean CBA?")
    with pytest.raises(UserError, match=r"has nothing of xba\. Did you mean CBA\?$"):
        db.summary("xba", "2014-03-10")
    assert db.trades(["bhp", "cba"]).note.endswith("nothing of bhp, cba. Did you mean BHP, CBA?")


def test_what_is_near_nothing_is_told_where_the_symbols_are_listed(db):
    assert db.trades("QWERTY").note == (
        "market_data.trades has nothing of QWERTY. The list of symbols says what there is."
    )


def test_a_symbol_that_came_later_or_elsewhere_was_not_meant(db):
    first = db.snapshots().arrow()["snapshot_id"].to_pylist()[-1]
    assert "Did you mean" not in db.trades("cba", snapshot=first).note
    assert db.trades("cba").note.endswith("Did you mean CBA?")
    assert "Did you mean" not in db.trades("ibm", exchange="ASX").note
    assert db.trades("ibm", exchange="NYSE").note.endswith("on NYSE. Did you mean IBM?")


def test_a_symbol_that_is_there_and_was_not_traded_then_was_meant(db):
    assert db.trades("BHP", date="2014-03-12").note.startswith("No trades match")
