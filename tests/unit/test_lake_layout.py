"""How a table lies in its files, read off real metadata, and what its status says of that."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pytest
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, make_lake
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.layout import LookFor, PartitionFiles, Totals, layouts, newest_partitions, totals
from k2.lake.proof.audit import audit_table
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import accept
from k2.model.tables import builtin_table
from k2.model.topics import DataType
from k2_operator.plan.plans import TablePlan, UpkeepPlan
from k2_operator.report import table_figures
from k2_operator.report.status import no, unknown, yes
from k2_operator.spec.conditions import Reason
from k2_operator.spec.resources import Resources

DAY_US = 86_400 * 1_000_000
MIB = 2**20
PLAN = TablePlan("default", "trades", builtin_table(DataType.TRADES))


def commit(committer, offset, day=0, rows=10):
    offsets = range(offset, offset + rows)
    ids = [message_id(0, each) for each in offsets]
    events = trades(ids, symbols=["BHP"] * rows, times=[START_US + day * DAY_US + each for each in offsets])
    committer.commit(Batch(with_lineage(events, [0] * rows, offsets), {0: (offset, offset + rows)}, {}))


@pytest.fixture
def catalog(tmp_path):
    """Three files on the first day, one on the second, one on the twentieth."""
    catalog = make_lake(tmp_path)
    committer = Committer(
        catalog, TRADES, Origin("market.equities.trades.asx", "topic-1", "cluster-1"), DataType.TRADES
    )
    for number, day in enumerate((0, 0, 0, 1, 20)):
        commit(committer, number * 10, day)
    return catalog


def test_totals_are_those_of_the_newest_snapshot(catalog):
    table = catalog.load_table(TRADES)
    found, snapshot = totals(table), table.current_snapshot()
    assert (found.snapshot, found.sequence) == (snapshot.snapshot_id, snapshot.sequence_number)
    assert (found.rows, found.files) == (50, 5)
    assert found.bytes == sum(each.file.file_size_in_bytes for each in table.scan().plan_files())
    assert found.committed.timestamp() * 1000 == pytest.approx(snapshot.timestamp_ms)


def test_rows_that_were_recorded_and_are_not_there_are_missing_until_a_person_accepts_it(catalog):
    assert totals(catalog.load_table(TRADES)).missing == 0
    catalog.load_table(TRADES).delete("kafka_offset < 13")
    assert totals(catalog.load_table(TRADES)).missing == 13
    accept(catalog.load_table(TRADES), audit_table(catalog.load_table(TRADES), {}), sign("taken out on purpose"))
    assert totals(catalog.load_table(TRADES)).missing == 0
    catalog.load_table(TRADES).delete("kafka_offset = 20")
    assert totals(catalog.load_table(TRADES)).missing == 1


def test_a_table_that_nobody_has_written_to_has_no_snapshot(tmp_path):
    table = make_lake(tmp_path).load_table(TRADES)
    assert totals(table) == Totals()
    assert newest_partitions(table, 7) == []


def test_the_newest_partitions_are_those_of_the_last_days_that_have_rows(catalog):
    table = catalog.load_table(TRADES)
    by_day = {name: files for name, files, _ in map(dataclasses.astuple, newest_partitions(table, 30))}
    first, second, last = sorted(by_day)
    assert by_day == {first: 3, second: 1, last: 1}
    assert list(by_day) == [last, second, first]
    assert [each.partition for each in newest_partitions(table, 20)] == [last, second]
    assert [each.partition for each in newest_partitions(table, 7)] == [last]
    assert sum(each.bytes for each in newest_partitions(table, 30)) == totals(table).bytes


def test_a_table_without_partitions_by_time_has_no_newest_one(catalog):
    catalog.create_table("market_data.plain", Schema(NestedField(1, "n", LongType())))
    table = catalog.load_table("market_data.plain")
    table.append(pa.table({"n": [1]}))
    assert newest_partitions(table, 7) is None


def test_one_table_that_is_not_there_does_not_hide_the_others(catalog):
    found = layouts(catalog, {"market_data.gone": LookFor(7), TRADES: LookFor()})
    assert "There is no table market_data.gone" in str(found["market_data.gone"])
    assert (found[TRADES].totals.rows, found[TRADES].newest, found[TRADES].files) == (50, (), None)


def test_files_that_are_gone_are_named_in_the_condition_and_no_more_once_they_are_back_or_accepted(catalog, tmp_path):
    def present():
        return table_figures.present(layouts(catalog, {TRADES: LookFor(files=True)})[TRADES].files)

    assert present().reason == "AllFilesPresent"
    file = min((tmp_path / "warehouse").rglob("data/**/*.parquet"))
    whole = file.read_bytes()
    file.unlink()
    name = str(file).split("/trades/", 1)[1]
    assert (present().status, present().reason) == ("False", "FilesMissing")
    assert f"1 of 5 files are missing or have another size: {name} (missing). Bring them back" in present().message
    file.write_bytes(whole[:-1])
    assert f"{name} (size)" in present().message
    accept(catalog.load_table(TRADES), audit_table(catalog.load_table(TRADES), {}), sign("gone for good"))
    assert present().reason == "AllFilesPresent"
    file.write_bytes(whole)
    assert present().reason == "AllFilesPresent"


def test_a_store_that_gives_no_listing_or_a_table_without_rows_is_not_measured(tmp_path):
    assert table_figures.present(OSError("403")).reason == "NotMeasured"
    make_lake(tmp_path)
    empty = layouts(make_lake(tmp_path), {TRADES: LookFor(files=True)})[TRADES]
    assert table_figures.present(empty.files).reason == "NoData"


def with_compaction(target=None):
    limits = (("target-file-bytes", target),) if target else ()
    upkeep = UpkeepPlan("compact", "15 3 * * *", "Etc/UTC", False, 7200, limits, Resources())
    return dataclasses.replace(PLAN, upkeep=(upkeep,))


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (None, ("Unknown", "NotPartitionedByTime")),
        ([], ("Unknown", "NoData")),
        ([PartitionFiles("2026-03-02", 1, 500)], ("True", "FewFiles")),
        # An hour of commits into the partition that is written to is no mess yet.
        ([PartitionFiles("2026-03-02", 121, 121 * 1000)], ("True", "FewFiles")),
        ([PartitionFiles("2026-03-02", 122, 122 * 1000)], ("False", "ManySmallFiles")),
        ([PartitionFiles("2026-03-03", 1, 9), PartitionFiles("2026-03-02", 11, 9)], ("True", "FewFiles")),
        ([PartitionFiles("2026-03-03", 1, 9), PartitionFiles("2026-03-02", 12, 9)], ("False", "ManySmallFiles")),
        # Many files, but as many as it takes.
        ([PartitionFiles("2026-03-02", 1000, 1000 * 32 * MIB)], ("True", "FewFiles")),
    ],
)
def test_compacted_compares_files_with_those_that_it_takes(newest, expected):
    found = table_figures.compacted(PLAN, newest)
    assert (found.status, found.reason) == expected


def test_what_is_not_compacted_says_where_and_what_to_do():
    files = [PartitionFiles("2026-03-02", 1, 9), PartitionFiles("2026-03-01", 400, 100 * MIB)]
    assert table_figures.compacted(PLAN, files).message == (
        "Partition 2026-03-01 lies in 400 files of 0.2 MiB on average; 4 would do (files of 32 MiB). "
        "Schedule spec.upkeep.compaction."
    )
    scheduled = table_figures.compacted(with_compaction(512 * MIB), files).message
    assert "1 would do (files of 512 MiB). Compaction is scheduled at `15 3 * * *`" in scheduled


def test_a_failed_compaction_is_the_reason_only_where_the_files_show_it():
    failed, well = no(Reason.RUN_FAILED, "see its log"), yes(Reason.RUN_SUCCEEDED, "well")
    few, many, unseen = yes(Reason.FEW_FILES, ""), no(Reason.MANY_SMALL_FILES, "400"), unknown(Reason.NOT_MEASURED, "")
    assert table_figures.whole(few, failed) == few
    assert table_figures.whole(many, failed) == failed
    assert table_figures.whole(many, well) == many
    assert table_figures.whole(many, None) == many
    assert table_figures.whole(unseen, well) == well
