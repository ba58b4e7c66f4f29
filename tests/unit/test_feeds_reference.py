"""ASX reference data: four kinds told by header, and files that say that there is nothing."""

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.topics import DataType

COMPANIES = "company_id,symbol,company_name,ISIN,start_date,end_date\n1,ABC,A B C LTD,AU000000ABC1,11/06/2003,\n"
DIVIDENDS = (
    "company id,declared date,ex_date,record_date,pay_date,net amount,gross amount,currency type\n"
    "1,09/25/2013,03/03/2014,03/07/2014,03/26/2014,0.59,0.842857,USD\n"
)
RATIOS = "company id,effective date,ratio\r\n1,03/03/2014,2\r\n"
NOTHING = "company id,effective date,ratio\r\n--- NO RECORDS TO REPORT ---\r\n"


def _load(tmp_path, kind=None, **files):
    paths = []
    for name, text in files.items():
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text(text, newline="")
    venue = exchange("ASX")
    form = file_format("asx", Files(DataType.REFERENCE_DATA, venue, paths=paths, kind=kind))
    source = CsvFiles(paths, form, Assembler(DataType.REFERENCE_DATA, venue, "AUD", "equities"), clock=lambda: 0)
    chunks = list(source.chunks())
    batches = [batch for chunk in chunks for _, batch in chunk.events]
    for batch in batches:
        batch.validate(full=True)
    return [row for batch in batches for row in pa.Table.from_batches([batch]).to_pylist()], [
        bad.reason for chunk in chunks for bad in chunk.rejected
    ]


def test_the_company_file_gives_the_symbols_of_the_others(tmp_path):
    (dividend, company), rejected = _load(tmp_path, dividends=DIVIDENDS, companies=COMPANIES)
    assert rejected == []
    assert (company["kind"], company["symbol"], company["isin"]) == ("company", "ABC", "AU000000ABC1")
    assert (company["listing_date"], company["delisting_date"]) == (date(2003, 11, 6), None)
    assert (dividend["kind"], dividend["symbol"], dividend["currency"]) == ("dividend", "ABC", "USD")
    assert (dividend["net_amount"], dividend["gross_amount"]) == (Decimal("0.59"), Decimal("0.842857"))
    assert dividend["ex_date"] == date(2014, 3, 3)


def test_the_symbol_is_no_part_of_the_id(tmp_path):
    (dividend, _), _ = _load(tmp_path, dividends=DIVIDENDS, companies=COMPANIES)
    (alone,), _ = _load(tmp_path, dividends=DIVIDENDS)
    assert alone["symbol"] is None
    assert alone["message_id"] == dividend["message_id"]


def test_no_records_to_report_is_no_row(tmp_path):
    assert _load(tmp_path, stock_splits=NOTHING) == ([], [])


@pytest.mark.parametrize(("name", "kind"), [("stock_splits", "split"), ("mergers", "merger")])
def test_splits_and_mergers_are_told_by_name_or_by_kind(tmp_path, name, kind):
    (by_name,), _ = _load(tmp_path, **{name: RATIOS})
    (by_kind,), _ = _load(tmp_path, kind=kind, other=RATIOS)
    assert by_name["kind"] == kind
    assert by_name["ratio"] == 2
    assert by_kind["message_id"] == by_name["message_id"]
    with pytest.raises(UserError, match="may hold splits or mergers"):
        _load(tmp_path, other=RATIOS)


def test_bad_reference_rows_have_their_reasons(tmp_path):
    text = "company id,effective date,ratio\n,03/03/2014,2\n1,03/33/2014,2\n1,03/03/2014,0\n1,,1\n1,03/03/2014,2\n"
    events, rejected = _load(tmp_path, mergers=text)
    assert len(events) == 1
    assert rejected == [
        "company id is missing",
        "effective date is a date that does not exist: found '03/33/2014'",
        "ratio is zero: found '0'",
        "effective date is missing",
    ]


def test_an_unknown_header_is_refused(tmp_path):
    with pytest.raises(UserError, match="has a header that no ASX reference file has: found 'a,b'"):
        _load(tmp_path, x="a,b\n1,2\n")
