"""Bad input of CSV files: every reason's words, and that accepted + rejected = read."""

import os
from datetime import UTC, datetime
from decimal import Context, Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k2.feeds.formats.columns import exact, trimmed
from k2.feeds.formats.csv_blocks import parse_rows
from k2.feeds.formats.files import LineBlock
from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.events import MAX_DECIMAL, Decimals, arrow_schema
from k2.model.exchanges import exchange
from k2.model.topics import DataType

TRADE = b"03/10/2014,10:00:00.123,36.5,100,0,X,7"
QUOTE = b"03/10/2014,10:00:00.123,36.5,36.51,100,200"


def _source(path, data_type=DataType.TRADES, form="asx", code="ASX", symbol="BHP", **options):
    venue = exchange(code)
    paths = path if isinstance(path, list) else [path]
    chosen = file_format(form, Files(data_type, venue, symbol=symbol, paths=paths))
    assembler = Assembler(data_type, venue, venue.currency, str(venue.asset_class))
    return CsvFiles(paths, chosen, assembler, symbol=symbol, clock=lambda: 0, **options)


def _load(tmp_path, content, *arguments, name="in.csv", **options):
    """All events, and the rejected rows as (line, reason)."""
    path = tmp_path / name
    path.write_bytes(content)
    chunks = list(_source(path, *arguments, **options).chunks())
    batches = [batch for chunk in chunks for _, batch in chunk.events]
    for batch in batches:
        batch.validate(full=True)
        assert batch.schema == arrow_schema(options.get("data_type", arguments[0] if arguments else DataType.TRADES))
    assert not chunks or chunks[-1].end.offset == len(content)
    rejected = [bad for chunk in chunks for bad in chunk.rejected]
    lines = content.splitlines() if b"\r" not in content else content.replace(b"\r\n", b"\n").split(b"\n")
    for bad in rejected:
        assert bad.raw == lines[bad.line - 1]
    return pa.Table.from_batches(batches).to_pylist() if batches else [], [(bad.line, bad.reason) for bad in rejected]


def _reason(tmp_path, line, *arguments, good=TRADE, **options):
    events, rejected = _load(tmp_path, good + b"\n" + line + b"\n" + good + b"\n", *arguments, **options)
    assert len(events) == 2
    assert len(rejected) == 1
    assert rejected[0][0] == 2
    return rejected[0][1]


def test_a_trade_of_the_vendor_becomes_an_event(tmp_path):
    (event,), rejected = _load(tmp_path, TRADE + b"\r\n")
    assert rejected == []
    assert event["timestamp"] == datetime(2014, 3, 9, 23, 0, 0, 123000, UTC)
    assert (event["price"], event["quantity"]) == (Decimal("36.5"), Decimal(100))
    assert (event["symbol"], event["exchange"], event["asset_class"], event["currency"]) == (
        "BHP", "ASX", "equities", "AUD",
    )  # fmt: skip
    assert event["side"] == "UNKNOWN"
    assert event["trade_conditions"] == ["0"]
    assert event["vendor_data"] == [("venue", "X"), ("buyer_id", "7")]
    assert event["source_sequence"] is None
    assert event["trade_id"] == event["message_id"].hex()[:16]


def test_qualifiers_are_split_at_blanks_semicolons_and_bars(tmp_path):
    (event,), _ = _load(tmp_path, b"03/10/2014,10:00:00.123,36.5,100, 3 XT;27|8 ,,")
    assert event["trade_conditions"] == ["3", "XT", "27", "8"]
    assert event["vendor_data"] is None


def test_a_quote_side_that_is_not_there_is_null(tmp_path):
    content = b"03/10/2014,05:43:45.676,37.7,0.0,300,0\n03/10/2014,05:43:46.676,0.0,37.73,0,600\n"
    (one, two), rejected = _load(tmp_path, content, DataType.QUOTES)
    assert rejected == []
    assert (one["bid_price"], one["bid_quantity"]) == (Decimal("37.7"), Decimal(300))
    assert (one["ask_price"], one["ask_quantity"]) == (None, None)
    assert (two["bid_price"], two["bid_quantity"], two["ask_price"]) == (None, None, Decimal("37.73"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "1 columns, expected 7"),
        (b"03/10/2014,10:00:00.123,36.5,100,0,X", "6 columns, expected 7"),
        (TRADE + b",more", "8 columns, expected 7"),
        (b"13/10/2014,10:00:00.123,36.5,100,0,X,7", "date is a date that does not exist: found '13/10/2014'"),
        (b"02/30/2014,10:00:00.123,36.5,100,0,X,7", "date is a date that does not exist: found '02/30/2014'"),
        (b"2014-03-10,10:00:00.123,36.5,100,0,X,7", "date is not a date: found '2014-03-10', expected MM/DD/YYYY"),
        (b",10:00:00.123,36.5,100,0,X,7", "date is missing"),
        (b"03/10/2014,25:00:00.123,36.5,100,0,X,7", "time is not a time of day: found '25:00:00.123', expected HH:MM:SS.mmm"),
        (b"03/10/2014,10:00:60.000,36.5,100,0,X,7", "time is not a time of day: found '10:00:60.000', expected HH:MM:SS.mmm"),
        (b"03/10/2014,ten,36.5,100,0,X,7", "time is not a time of day: found 'ten', expected HH:MM:SS.mmm"),
        (b"03/10/2014,10:00:00.123,abc,100,0,X,7", "price is not a number: found 'abc', expected digits with at most one point"),
        (b"03/10/2014,10:00:00.123,,100,0,X,7", "price is missing"),
        (b"03/10/2014,10:00:00.123,NaN,100,0,X,7", "price is not a finite number: found 'NaN'"),
        (b"03/10/2014,10:00:00.123,inf,100,0,X,7", "price is not a finite number: found 'inf'"),
        (b"03/10/2014,10:00:00.123,-Infinity,100,0,X,7", "price is not a finite number: found '-Infinity'"),
        (b"03/10/2014,10:00:00.123,1e3,100,0,X,7", "price is not a plain decimal: found '1e3', expected digits with at most one point"),
        (b"03/10/2014,10:00:00.123,1_0,100,0,X,7", "price is not a plain decimal: found '1_0', expected digits with at most one point"),
        (b"03/10/2014,10:00:00.123,1.123456789,100,0,X,7", "price has more than 8 decimals: found '1.123456789'; an IcebergTable with spec.decimals: wide holds it"),
        (b"03/10/2014,10:00:00.123,12345678901,100,0,X,7", "price has more than 10 integer digits: found '12345678901'; an IcebergTable with spec.decimals: wide holds it"),
        (b"03/10/2014,10:00:00.123,-36.5,100,0,X,7", "price is negative: found '-36.5'; a feed with prices: any takes it"),
        (b"03/10/2014,10:00:00.123,0.0,100,0,X,7", "price is zero: found '0.0'; a feed with prices: any takes it"),
        (b"03/10/2014,10:00:00.123,36.5,-1,0,X,7", "volume is negative: found '-1'"),
        (b"03/10/2014,10:00:00.123,36.5,0,0,X,7", "volume is zero: found '0'"),
        (b"03/10/2014,10:00:00.123,36.5,100,\xff,X,7", "not UTF-8 text"),
        (b'03/10/2014,10:00:00.123,36.5,100,"0,X,7', "a quote that is not closed on this line, or stray (values with line breaks cannot be loaded)"),
        (b'03/10/2014,10:00:00.123,36.5,100,x"y","X,7', "a quote that is not closed on this line, or stray (values with line breaks cannot be loaded)"),
        (b"03/10/2014,10:00:00.123,36.5,100,0\rX,X,7", "a carriage return in the middle of the line"),
        (b"03/10/2014,10:00:00.123,36.5,100,\x000,X,7", "a zero byte"),
    ],
)  # fmt: skip
def test_a_bad_trade_is_rejected_with_its_reason_and_the_others_are_not(tmp_path, line, reason):
    if b"\0" in line:
        good = (TRADE + b"\n") * 3000  # beyond the start of the file, where a zero byte means that it is binary
        events, rejected = _load(tmp_path, good + line + b"\n")
        assert len(events) == 3000
        assert rejected == [(3001, reason)]
    else:
        assert _reason(tmp_path, line) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"03/10/2014,10:00:00.123,36.5,36.51,0,200", "bid price '36.5' with volume '0': a side is absent only when both are 0"),
        (b"03/10/2014,10:00:00.123,36.5,0.0,10,200", "ask price '0.0' with volume '200': a side is absent only when both are 0; a feed with prices: any takes it"),
        (b"03/10/2014,10:00:00.123,36.5,,10,200", "ask price '' with volume '200': a side is absent only when both are 0"),
        (b"03/10/2014,10:00:00.123,36.5,-36.51,10,200", "ask price is negative: found '-36.51'; a feed with prices: any takes it"),
    ],
)  # fmt: skip
def test_a_bad_quote_is_rejected_with_its_reason(tmp_path, line, reason):
    assert _reason(tmp_path, line, DataType.QUOTES, good=QUOTE) == reason


def test_a_crossed_quote_is_kept_as_it_is(tmp_path):
    (event,), _ = _load(tmp_path, b"03/10/2014,10:00:00.123,36.6,36.5,1,1\n", DataType.QUOTES)
    assert (event["bid_price"], event["ask_price"]) == (Decimal("36.6"), Decimal("36.5"))


def test_local_times_follow_daylight_saving_and_the_hours_of_the_change_are_rejected(tmp_path):
    # Sydney, 2014: clocks went back at 3:00 on 6 April and forward at 2:00 on 5 October.
    times = ["04/05/2014,12:00:00.000", "04/06/2014,02:30:00.000", "04/06/2014,03:00:00.000", "10/05/2014,02:30:00.000"]
    content = "".join(f"{time},1,1,0,,\n" for time in times).encode()
    events, rejected = _load(tmp_path, content)
    assert [event["timestamp"] for event in events] == [
        datetime(2014, 4, 5, 1, 0, tzinfo=UTC),
        datetime(2014, 4, 5, 17, 0, tzinfo=UTC),
    ]
    assert rejected == [
        (2, "time is ambiguous: 04/06/2014 02:30:00.000 came twice in Australia/Sydney (clocks went back)"),
        (4, "time does not exist: 10/05/2014 02:30:00.000 was skipped in Australia/Sydney (clocks went forward)"),
    ]


def test_identical_rows_are_kept_with_ids_of_their_own_and_formatting_changes_no_id(tmp_path):
    same = b"03/10/2014,10:00:00.123,36.50,100.0,0,X,7"
    other = b'"03/10/2014",10:00:00.123000,+036.5,100,0, X ,7'
    first, _ = _load(tmp_path, TRADE + b"\n" + same + b"\n" + other + b"\n")
    assert len({event["message_id"] for event in first}) == 3
    again, _ = _load(tmp_path, other + b"\r\n" + TRADE + b"\r\n\r\n" + same)
    assert [event["message_id"] for event in again] == [event["message_id"] for event in first]


def test_ids_do_not_depend_on_blocks_files_or_names(tmp_path):
    lines = [f"03/10/2014,10:00:{i % 60:02}.000,{1 + i % 7},{1 + i % 3},0,,\n".encode() for i in range(500)]
    (tmp_path / "whole.csv").write_bytes(b"".join(lines))
    (tmp_path / "a.csv").write_bytes(b"".join(lines[:123]))
    (tmp_path / "b.csv").write_bytes(b"".join(lines[123:]))

    def ids(paths, block_bytes):
        chunks = _source([tmp_path / name for name in paths], block_bytes=block_bytes).chunks()
        return [value for chunk in chunks for _, batch in chunk.events for value in batch["message_id"].to_pylist()]

    whole = ids(["whole.csv"], 1 << 20)
    assert len(set(whole)) == 500
    assert ids(["whole.csv"], 100) == whole
    assert ids(["a.csv", "b.csv"], 1000) == whole


def test_times_out_of_order_are_accepted_and_counted(tmp_path):
    lines = [f"03/10/2014,10:00:{s:02}.000,1,1,0,,".encode() for s in (5, 3, 4, 5, 6, 1)]
    path = tmp_path / "in.csv"
    path.write_bytes(b"\n".join(lines))
    *_, last = _source(path, block_bytes=40).chunks()
    assert last.out_of_order == 3
    assert last.identical == 1


def test_a_file_that_ends_in_the_middle_of_a_line_loses_that_line_alone(tmp_path):
    events, rejected = _load(tmp_path, TRADE + b"\n" + TRADE + b"\n" + TRADE[:20])
    assert len(events) == 2
    assert rejected == [(3, "the file ends in the middle of this line (2 columns, expected 7)")]


def test_a_last_line_without_a_newline_is_a_row_when_it_is_whole(tmp_path):
    events, rejected = _load(tmp_path, TRADE + b"\n" + TRADE)
    assert (len(events), rejected) == (2, [])


def _refused(tmp_path, content, *arguments, name="in.csv", **options):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(_source(path, *arguments, **options).chunks())
    return str(error.value).replace(str(tmp_path) + "/", "")


def test_an_empty_file_is_refused_unless_it_is_allowed(tmp_path):
    assert _refused(tmp_path, b"") == (
        "in.csv is empty, expected rows. Check what wrote it; --allow-empty accepts an empty file as one without rows."
    )
    assert list(_source(tmp_path / "in.csv", allow_empty=True).chunks()) == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x1f\x8b\x08\x00rest", "is damaged, or not whole: found "),
        (b"PAR1....", "is damaged, or not whole: found "),
        (b"PK\x03\x04...", "is damaged, or not whole: found 'File is not a zip file'"),
        (b"BZh91AY", "cannot be loaded: found 'bzip2 data'"),
        (b"a,b\x00c", "cannot be loaded: found 'binary data (a zero byte at position 3)'"),
        (b"x" * 1_100_000, "is not a CSV file: found 'line 1 is longer than 1,048,576 bytes'"),
    ],
)
def test_a_file_that_is_no_data_is_refused(tmp_path, content, found):
    assert _refused(tmp_path, content).startswith(f"in.csv {found}")


def test_a_text_of_another_kind_is_refused_before_anything_is_loaded(tmp_path):
    text = _refused(tmp_path, b"We hold these truths\n" * 30)
    assert text.startswith(
        "in.csv does not look like trades of format asx: found '30 lines of which none can be used; "
        "line 1: 1 columns, expected 7'"
    )


def test_a_header_where_none_belongs_is_refused(tmp_path):
    text = _refused(tmp_path, b"date,time,price,volume,qualifiers,venue,buyer\n" + TRADE)
    assert text == (
        "in.csv begins with a header, which the ASX files of trades do not have: found "
        "'date,time,price,volume,qualifiers,venue,buyer', expected date,time,price,volume,qualifiers,venue,buyer_id. "
        "For a CSV with a header use --format generic."
    )


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read: found 'No such file or directory'"):
        _source(tmp_path / "none.csv")


def test_a_pipe_and_a_folder_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    keep_open = os.open(tmp_path / "pipe", os.O_RDWR)
    with pytest.raises(UserError, match="is no regular file"):
        _source(tmp_path / "pipe")
    os.close(keep_open)
    with pytest.raises(UserError, match="cannot be read: found 'Is a directory'"):
        _source(tmp_path)


def test_asx_ticks_without_a_symbol_are_refused(tmp_path):
    with pytest.raises(UserError, match="do not name their symbol"):
        _source(tmp_path / "x.csv", symbol=None)


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes((TRADE + b"\n") * 100)
    chunks = _source(path, block_bytes=400).chunks()
    next(chunks)
    with path.open("ab") as file:
        file.write(TRADE)
    with pytest.raises(UserError, match="changed while it was read"):
        list(chunks)


def test_a_file_that_is_overwritten_with_the_same_size_and_time_is_still_noticed(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes((TRADE + b"\n") * 5000)
    stat = path.stat()
    chunks = _source(path, block_bytes=400).chunks()
    next(chunks)
    with path.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"9")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match="found 'other content'"):
        list(chunks)


def test_the_same_file_twice_in_one_load_is_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_bytes(TRADE)
    with pytest.raises(UserError, match="Two files of the load have the same content"):
        _source([tmp_path / "a.csv", tmp_path / "b.csv"])


GOOD_NUMBERS = st.decimals(min_value=0, max_value=MAX_DECIMAL, places=8, allow_nan=False, allow_infinity=False)


@given(GOOD_NUMBERS, st.integers(0, 5), st.booleans())
@example(MAX_DECIMAL, 0, False)
def test_every_decimal_that_the_model_holds_is_read_exactly(number, zeros, plus):
    text = ("+" if plus else "") + f"{number:f}" + "0" * zeros
    assert exact(text) == number


WIDE_UNITS = st.integers(0, 10**38 - 1) | st.integers(0, 10**20) | st.sampled_from([10**38 - 1, 10**18, 10**36])


@given(WIDE_UNITS, st.integers(0, 5), st.sampled_from(["", "+", "-", "00"]))
def test_every_amount_of_a_wide_table_is_read_exactly(units, zeros, before):
    number = Decimal(units).scaleb(-18, Context(prec=38))
    text = before + f"{number:f}" + "0" * zeros
    assert exact(text, Decimals.WIDE) == (number.copy_negate() if before == "-" else number)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.0000000000000000001", "has more than 18 decimals: found '0.0000000000000000001'"),
        ("100000000000000000000", "has more than 20 integer digits: found '100000000000000000000'"),
        ("99999999999999999999.9999999999999999999", "has more than 18 decimals: found '99999999999999999999.9999999999999999999'"),
        ("-100000000000000000000.5", "has more than 20 integer digits: found '-100000000000000000000.5'"),
    ],
)  # fmt: skip
def test_what_not_even_wide_decimals_hold_is_told_without_a_remedy(text, reason):
    assert exact(text, Decimals.WIDE) == reason
    whole = reason.replace("18 decimals", "8 decimals").replace("20 integer", "10 integer")
    assert exact(text).partition(":")[0] in {whole.partition(":")[0], "has more than 10 integer digits"}
    assert "wide" not in exact(text)


@given(st.text(max_size=15))
def test_any_text_is_a_decimal_or_has_a_reason(text):
    found = exact(text)
    assert isinstance(found, str) or (abs(found) <= MAX_DECIMAL and found == found.quantize(Decimal("1e-8")))


VALUES = st.one_of(
    st.sampled_from(
        ["03/10/2014", "10:00:00.123", "1.5", "100", "", "0", "-1", "NaN", '"', '""', "\r", "\x00", "é", " "]
    ),
    st.text(alphabet='0123456789.,:/"\r\n \x00aé', max_size=12),
)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=8).map(",".join), max_size=15), st.integers(1, 200))
def test_whatever_a_file_holds_accepted_and_rejected_make_up_its_lines(tmp_path_factory, rows, block_bytes):
    path = tmp_path_factory.mktemp("any") / "in.csv"
    content = TRADE + b"\n" + "\n".join(rows).encode()
    path.write_bytes(content)
    if b"\0" in content:
        with pytest.raises(UserError):
            _source(path)
        return
    chunks = list(_source(path, block_bytes=block_bytes).chunks())
    counted = sum(chunk.rows + len(chunk.rejected) + chunk.blank for chunk in chunks)
    assert counted == content.count(b"\n") + (not content.endswith(b"\n"))
    lines = [bad.line for chunk in chunks for bad in chunk.rejected]
    assert lines == sorted(set(lines))


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_values_are_parted_by_the_layouts_separator(separator):
    text = separator.join(["a", f'"x{separator}y"', "1,5"]) if separator != "," else 'a,"x,y","1,5"'
    block = LineBlock((text + "\n" + separator.join(["b", "c"]) + "\n").encode(), 0, 1, at_end=True)
    rows = parse_rows(block, ["one", "two", "three"], separator=separator)
    assert [rows.value(name, 0) for name in ("one", "two", "three")] == ["a", f"x{separator}y", "1,5"]
    assert [(bad.line, bad.reason) for bad in rows.rejected] == [(2, "2 columns, expected 3")]


@given(st.lists(st.text("ab \t\u00a0\u3000\x85é~!", max_size=4)), st.integers(0, 3))
def test_text_is_trimmed_of_any_white_space_and_of_nothing_else(texts, offset):
    values = pa.array(texts, pa.string()).slice(offset)
    assert trimmed(values).to_pylist() == pc.utf8_trim_whitespace(values).to_pylist()
