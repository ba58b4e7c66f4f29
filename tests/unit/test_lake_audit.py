"""The audit finds what is missing, doubled or from nowhere; reset and snapshot cap keep its books right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.deleting import data_files, delete_equal, delete_positions
from k2_testing.lake import TRADES, held, make_lake
from pyiceberg.manifest import FileFormat
from pyiceberg.types import StringType

from k2.forms.audit_text import lines
from k2.forms.audits import audit as audit_body
from k2.lake.appends.batch import OrderedBatch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.writer import write_files
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table, ranges
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import accept, forget_topic, reset_to_snapshot, skip_to_earliest
from k2.lake.snapshots import trim_snapshots, untagged_snapshots
from k2.model.errors import RefusedError, UserError
from k2.model.topics import DataType

SIGNED = sign("as the ticket says", "ops@desk", at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC))


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    committer.commit(batch(10, 20))
    committer.commit(batch(5, 9, partition=1))
    return catalog


def append_behind_the_sinks_back(catalog, start, stop):
    table = catalog.load_table(TRADES)
    rows = batch(start, stop).rows.append_column("kafka_topic_id", [["topic-1"] * (stop - start)])
    files = write_files(table, rows, OrderedBatch(rows, DataType.TRADES).order)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file.data_file)


def test_a_table_that_holds_what_it_says_is_well(catalog):
    audit = audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 25, 1: 9}})
    assert audit.ok
    assert [(part.partition, part.rows, part.behind) for part in audit.partitions] == [(0, 20, 5), (1, 4, 0)]


def test_doubled_rows_are_found_and_named(catalog):
    append_behind_the_sinks_back(catalog, 3, 6)
    audit = audit_table(catalog.load_table(TRADES), {})
    assert not audit.ok
    assert (audit.partitions[0].doubled, audit.partitions[0].examples) == (3, (3, 4, 5))


def test_rows_beyond_the_recorded_offsets_are_found(catalog):
    append_behind_the_sinks_back(catalog, 20, 22)
    assert audit_table(catalog.load_table(TRADES), {}).partitions[0].outside == 2


def test_missing_rows_are_found_and_named(catalog):
    from pyiceberg.expressions import EqualTo

    catalog.load_table(TRADES).delete(EqualTo("kafka_offset", 7))
    audit = audit_table(catalog.load_table(TRADES), {})
    assert [(part.missing, part.examples) for part in audit.partitions] == [(1, (7,)), (1, (7,))]


def test_rows_that_delete_files_take_out_are_missing_and_told_until_a_person_accepts_it(catalog):
    table = catalog.load_table(TRADES)
    first = data_files(table)[0]
    offsets = table.io.new_input(first.file_path)
    with offsets.open() as stream:
        there = pq.read_table(stream, columns=["kafka_offset"])["kafka_offset"].to_pylist()
    delete_positions(table, [(first.file_path, 2), (first.file_path, 5), ("elsewhere.parquet", 1)], first)
    audit = audit_table(catalog.load_table(TRADES), {})
    gone = sorted({there[2], there[5]})
    assert (audit.ok, audit.deleted, audit.missing) == (False, 2, 2)
    assert audit.partitions[0].missing_in == ranges(np.isin(np.arange(20), gone), 0)
    accept(catalog.load_table(TRADES), audit, SIGNED)
    audit = audit_table(catalog.load_table(TRADES), {})
    assert (audit.ok, audit.deleted, audit.missing) == (True, 2, 2)
    assert "2 rows were taken out by delete files of another engine: they are not counted" in lines(audit_body(audit))
    delete_positions(catalog.load_table(TRADES), [(first.file_path, 3)], first)
    assert not audit_table(catalog.load_table(TRADES), {}).ok


@pytest.mark.parametrize(
    "values",
    [
        {"kafka_offset": [3, 4, 99]},
        {"source_sequence": [None, 6]},
        {"symbol": ["BHP", "CBA"], "kafka_offset": [0, 1]},
        {"message_id": [2, 7]},
        {"price": [None]},
    ],
    ids=",".join,
)
def test_rows_that_were_deleted_by_their_values_are_not_counted(catalog, values):
    table = catalog.load_table(TRADES)
    with table.update_schema() as update:
        update.add_column("venue", StringType())
    held = table.scan().to_arrow().to_pylist()
    if "message_id" in values:
        values = {"message_id": [held[row]["message_id"] for row in values["message_id"]]}
    delete_equal(catalog.load_table(TRADES), values, data_files(table)[0])
    gone = [
        row
        for row in held
        if any(
            all(row[n] == v for n, v in zip(values, each, strict=True)) for each in zip(*values.values(), strict=True)
        )
    ]
    audit = audit_table(catalog.load_table(TRADES), {})
    assert (audit.deleted, audit.missing) == (len(gone), len(gone))
    delete_equal(catalog.load_table(TRADES), {"venue": [None]}, data_files(table)[0])  # which no file has
    assert audit_table(catalog.load_table(TRADES), {}).deleted == 24


def test_deletes_in_a_form_that_is_not_read_are_told_and_take_nothing_out(catalog):
    table = catalog.load_table(TRADES)
    first = data_files(table)[0]
    delete_positions(table, [(first.file_path, 2)], first, FileFormat.AVRO)
    audit = audit_table(catalog.load_table(TRADES), {})
    assert (audit.ok, audit.deleted, audit.untold_deletes) == (True, 0, 1)
    assert "1 files have deletes in a form that is not read here" in "\n".join(lines(audit_body(audit)))


def test_reset_after_a_rollback_reads_again_from_what_the_snapshot_holds(catalog):
    first = catalog.load_table(TRADES).metadata.snapshots[0].snapshot_id
    with catalog.load_table(TRADES).manage_snapshots() as manage:
        manage.rollback_to_snapshot(first)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    with pytest.raises(RefusedError):
        committer.start_offsets()
    reset_to_snapshot(catalog.load_table(TRADES), first, SIGNED)
    assert committer.start_offsets() == {0: 10}
    committer.commit(batch(10, 30))
    assert held(catalog) == {(0, offset): 1 for offset in range(30)}
    assert audit_table(catalog.load_table(TRADES), {}).ok


def test_reset_to_a_snapshot_that_is_not_current_would_double_rows(catalog):
    first = catalog.load_table(TRADES).metadata.snapshots[0].snapshot_id
    with pytest.raises(UserError, match=r"would double them.*Roll the table back to it first"):
        reset_to_snapshot(catalog.load_table(TRADES), first, SIGNED)
    with pytest.raises(UserError, match="not in the table's current history"):
        reset_to_snapshot(catalog.load_table(TRADES), 42, SIGNED)


def test_a_topic_made_anew_is_read_from_its_beginning_once_a_person_says_so(catalog):
    anew = Committer(catalog, TRADES, Origin(ORIGIN.topic, "topic-2", "cluster-1"), DataType.TRADES)
    with pytest.raises(RefusedError, match="--forget"):
        anew.start_offsets()
    forget_topic(catalog.load_table(TRADES), ORIGIN.topic, SIGNED)
    assert anew.start_offsets() == {}


def test_what_retention_deleted_is_counted_as_lost_for_ever(catalog):
    skip_to_earliest(catalog.load_table(TRADES), ORIGIN.topic, {0: 33, 1: 2}, SIGNED)
    part = recorded_offsets(catalog.load_table(TRADES)).topics[ORIGIN.topic].partitions[0]
    assert (part.next, part.lost, part.non_records) == (33, 13, 0)
    with pytest.raises(UserError, match=r"Nothing of .* is lost"):
        skip_to_earliest(catalog.load_table(TRADES), ORIGIN.topic, {0: 33, 1: 2}, SIGNED)


def test_untagged_snapshots_are_capped_and_commits_go_on(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for number in range(25):
        committer.commit(batch(number * 2, number * 2 + 2))
    trimmed = trim_snapshots(catalog.load_table(TRADES), 10, datetime.now(UTC))
    # The current one is held by its branch, and where an hour ended meanwhile its last one by a tag.
    assert trimmed.expired == 25 - 10 - 1 - len(trimmed.tagged) + 1
    assert len(untagged_snapshots(catalog.load_table(TRADES))) == 9
    committer.commit(batch(50, 52))
    assert audit_table(catalog.load_table(TRADES), {}).ok


def test_the_last_snapshot_of_an_hour_and_of_a_day_is_tagged_and_survives(catalog):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    table = catalog.load_table(TRADES)
    for snapshot in table.metadata.snapshots[
        :2
    ]:  # as if made a day ago: on the loaded metadata; refs are committed for real
        object.__setattr__(snapshot, "timestamp_ms", int(yesterday.timestamp() * 1000))
    trimmed = trim_snapshots(table, 300, datetime.now(UTC))
    assert trimmed.tagged == (f"k2-hour-{yesterday:%Y%m%dT%HZ}", f"k2-day-{yesterday:%Y%m%d}")
    refs = catalog.load_table(TRADES).metadata.refs
    assert refs[f"k2-day-{yesterday:%Y%m%d}"].snapshot_id == table.metadata.snapshots[1].snapshot_id
    assert refs[f"k2-hour-{yesterday:%Y%m%dT%HZ}"].max_ref_age_ms == 30 * 24 * 3600 * 1000
