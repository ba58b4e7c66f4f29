"""What is counted as read is what statements read: not what was planned, looked around in, or answered from memory."""

from datetime import timedelta

import pytest
from k2_testing.asking import questions_of
from k2_testing.lake import TRADES, make_lake
from k2_testing.ticks import append_ticks, at
from prometheus_client import REGISTRY

from k2.model.topics import DataType
from k2.obs import tally
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.rows.errors import NotFoundError

OPEN = at("2014-03-09T23:00:00")  # 10:00 in Sydney, on Monday the 10th
DAY = timedelta(days=1)


@pytest.fixture
def sizes(tmp_path):
    """Bytes of three files, one a day, each with BHP on ASX."""
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    for day in range(3):
        append_ticks(lake, [{"timestamp": OPEN + day * DAY}])
    return sorted(task.file.file_size_in_bytes for task in lake.load_table(TRADES).scan().plan_files())


@pytest.fixture
def questions(sizes, tmp_path):
    with questions_of(tmp_path) as found:
        yield found


def counters():
    names = ("files_scanned", "files_skipped", "planned_bytes")
    values = (REGISTRY.get_sample_value(f"k2_query_{name}_total", {"table": TRADES}) or 0 for name in names)
    return dict(zip(names, values, strict=True))


def micros(moment):
    return int(moment.timestamp()) * 1_000_000


def counted(ask):
    """(files read, files left out, bytes read) by one question, by the metrics; the access line must say the same."""
    before, one = counters(), tally.begin()
    ask()
    after = counters()
    told = tuple(after[name] - before[name] for name in before)
    assert (one.files_scanned, one.files_skipped, one.read_bytes) == told
    return told


def test_a_window_that_matches_no_file_reads_none(questions):
    later = Window(micros(OPEN + 30 * DAY), micros(OPEN + 31 * DAY))
    found = counted(lambda: questions.events(EventsQuery(DataType.TRADES, ("BHP",), "ASX", later)))
    # Why there is nothing is told from what each file holds, which is read once and remembered.
    assert found[0] in (0, 3)
    assert counted(lambda: questions.events(EventsQuery(DataType.TRADES, ("BHP",), "ASX", later))) == (0, 0, 0)


def test_a_summary_reads_its_day_whether_or_not_the_exchange_is_given(questions, sizes):
    asked = SummaryQuery("BHP", OPEN.date() + DAY)
    questions.summary(asked)  # which exchanges there are is remembered from now on
    files, left_out, read = counted(lambda: questions.summary(asked))
    assert (files, left_out) == (1, 2)
    assert read in sizes
    with_exchange = SummaryQuery("BHP", OPEN.date() + DAY, "ASX")
    assert counted(lambda: questions.summary(with_exchange)) == (files, left_out, read)


def test_what_is_remembered_is_not_read_again(questions, sizes):
    assert counted(lambda: questions.symbols(DataType.TRADES)) == (3, 0, sum(sizes))
    assert counted(lambda: questions.symbols(DataType.TRADES)) == (0, 0, 0)


def test_a_date_without_trades_is_no_read_of_the_other_dates(questions):
    absent = SummaryQuery("BHP", OPEN.date() + 20 * DAY, "ASX")

    def ask():
        with pytest.raises(NotFoundError):
            questions.summary(absent)

    ask()
    assert counted(ask) == (0, 0, 0)


def test_a_stream_counts_its_files_once(questions, sizes):
    def ask():
        list(questions.stream(EventsQuery(DataType.TRADES), batch_rows=1).batches())

    ask()
    files, left_out, read = counted(ask)
    assert (files, left_out, read) == (3, 0, sum(sizes))
