"""What people decided of a table stands in it, is told by each audit, and covers what it says and nothing else."""

import json
from datetime import UTC, datetime

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, make_lake
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, LessThan
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.batch import OrderedBatch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.writer import write_files
from k2.lake.offsets import OFFSETS, recorded_offsets, snapshot_offsets
from k2.lake.proof import decisions as decided
from k2.lake.proof.audit import audit_table
from k2.lake.proof.decisions import DECISIONS, DecisionKind, decisions_of, sign
from k2.lake.proof.reset import accept, forget_topic, reset_to_snapshot, skip_to_earliest
from k2.lake.snapshots import trim_snapshots
from k2.model.errors import RefusedError, UserError, WorldError
from k2.model.topics import DataType

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SIGNED = sign("deleted on request, ticket 4711", "ops@desk", at=AT)


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    committer.commit(batch(10, 20, dead=2))
    committer.commit(batch(5, 9, partition=1))
    return catalog


@pytest.fixture
def k2(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    return lambda *words: CliRunner().invoke(app, list(words))


def audited(catalog):
    return audit_table(catalog.load_table(TRADES), {})


def delete(catalog, start, stop, partition=0):
    here = And(GreaterThanOrEqual("kafka_offset", start), LessThan("kafka_offset", stop))
    catalog.load_table(TRADES).delete(And(EqualTo("kafka_partition", partition), here))


def append(catalog, rows):
    table = catalog.load_table(TRADES)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in write_files(table, rows, OrderedBatch(rows, DataType.TRADES).order):
            append.append_data_file(file.data_file)


def test_a_deliberate_delete_that_was_accepted_is_told_and_no_fault_any_more(catalog):
    delete(catalog, 3, 6)
    found = audited(catalog)
    assert (found.ok, found.partitions[0].missing_in, found.partitions[0].exactly) == (False, ((3, 6),), True)
    accept(catalog.load_table(TRADES), found, SIGNED)
    again = audited(catalog)
    assert again.ok
    assert (again.missing, again.partitions[0].missing_in) == (3, ((3, 6),))
    (decision,) = again.decisions
    assert (decision.kind, decision.signed) == (DecisionKind.ACCEPT, SIGNED)
    assert decision.accepted.rows["topic-1", 0].missing == 3


def test_what_goes_missing_after_an_acceptance_is_found_and_so_is_a_change_of_what_was_accepted(catalog):
    delete(catalog, 3, 6)
    accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(20, 30))
    assert audited(catalog).ok, "the sink goes on"
    delete(catalog, 25, 26)
    assert not audited(catalog).ok
    accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    assert audited(catalog).ok
    # As many are missing as before, and others: 3 came back and 7 went.
    rows = batch(3, 4).rows.append_column("kafka_topic_id", [["topic-1"]])
    append(catalog, rows)
    delete(catalog, 7, 8)
    assert audited(catalog).missing == 4
    assert not audited(catalog).ok


def test_a_back_fill_by_another_engine_can_be_accepted_and_more_of_it_is_found(catalog):
    def back_fill(start, stop):
        append(catalog, batch(start, stop, seed="archive").rows.append_column("kafka_topic_id", [["archive"] * 4]))

    back_fill(0, 4)
    assert audited(catalog).unknown_rows == 4
    accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    assert audited(catalog).ok
    back_fill(4, 8)
    assert (audited(catalog).ok, audited(catalog).unknown_rows) == (False, 4)


def test_an_acceptance_needs_a_reason_a_finding_and_the_table_that_was_audited(catalog):
    with pytest.raises(UserError, match="found nothing that is not accepted"):
        accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    delete(catalog, 3, 6)
    found = audited(catalog)
    with pytest.raises(UserError, match="--reason"):
        accept(catalog.load_table(TRADES), found, sign("  "))
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(20, 22))
    with pytest.raises(WorldError, match="since the audit"):
        accept(catalog.load_table(TRADES), found, SIGNED)
    assert decisions_of(catalog.load_table(TRADES).metadata) == ()


def test_a_decision_carries_the_whole_map_so_that_the_sink_goes_on(catalog):
    delete(catalog, 3, 6)
    accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    table = catalog.load_table(TRADES)
    assert recorded_offsets(table) == snapshot_offsets(table.metadata)
    assert Committer(catalog, TRADES, ORIGIN, DataType.TRADES).start_offsets() == {0: 20, 1: 9}


def test_of_two_who_decide_at_once_one_is_told_to_try_again_and_no_decision_is_lost(catalog):
    delete(catalog, 3, 6)
    found, stale = audited(catalog), catalog.load_table(TRADES)
    accept(catalog.load_table(TRADES), found, SIGNED)
    with pytest.raises(WorldError, match="try again"):
        accept(stale, found, sign("me too", "other@desk"))
    assert [each.signed.by for each in audited(catalog).decisions] == ["ops@desk"]


def test_rows_of_a_topic_that_was_forgotten_are_known_and_still_counted(catalog):
    forget_topic(catalog.load_table(TRADES), ORIGIN.topic, SIGNED)
    anew = Committer(catalog, TRADES, Origin(ORIGIN.topic, "topic-2", "cluster-1"), DataType.TRADES)
    anew.commit(batch(0, 5, seed="anew"))
    found = audited(catalog)
    assert found.ok
    told = [(part.topic_id, part.partition, part.rows, part.forgotten) for part in found.partitions]
    assert told == [("topic-2", 0, 5, False), ("topic-1", 0, 18, True), ("topic-1", 1, 4, True)]
    delete(catalog, 6, 7, partition=1)
    assert [(part.partition, part.missing) for part in audited(catalog).partitions if not part.ok] == [(1, 1)]


def test_a_topic_that_was_forgotten_and_read_again_is_whole(catalog):
    forget_topic(catalog.load_table(TRADES), ORIGIN.topic, SIGNED)
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 20, dead=2))
    found = audited(catalog)
    assert found.ok
    assert (found.partitions[0].rows, found.partitions[0].offsets.duplicates) == (18, 18)


def test_lost_offsets_are_told_as_lost_with_their_ranges_and_never_as_nothing_missing(catalog, k2):
    skip_to_earliest(catalog.load_table(TRADES), ORIGIN.topic, {0: 33}, SIGNED)
    found = audited(catalog)
    assert (found.ok, found.lost, found.partitions[0].lost_in) == (True, 13, ((20, 33),))
    told = k2("audit", TRADES, "--offline")
    assert told.exit_code == 0
    assert "nothing missing" not in told.stdout
    assert "13 offsets are LOST" in told.stdout
    assert f"lost of {ORIGIN.topic}/0: 13 offsets: 20-32" in told.stdout
    assert "2026-03-02T09:30:00Z, by ops@desk: deleted on request, ticket 4711; gave up 0: 20-32" in told.stdout


def test_a_reset_after_a_rollback_tells_what_is_read_again(catalog):
    first = catalog.load_table(TRADES).metadata.snapshots[0].snapshot_id
    with catalog.load_table(TRADES).manage_snapshots() as manage:
        manage.rollback_to_snapshot(first)
    reset_to_snapshot(catalog.load_table(TRADES), first, SIGNED)
    (decision,) = audited(catalog).decisions
    assert decision.again == {ORIGIN.topic: {0: (10, 20), 1: (5, 9)}}
    assert audited(catalog).ok


def test_decisions_outlive_the_snapshots_they_were_made_with(catalog):
    delete(catalog, 3, 6)
    accept(catalog.load_table(TRADES), audited(catalog), SIGNED)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for offset in range(20, 26):
        committer.commit(batch(offset, offset + 1))
    assert trim_snapshots(catalog.load_table(TRADES), 1, AT).expired
    assert audited(catalog).ok
    assert [each.signed for each in audited(catalog).decisions] == [SIGNED]


def test_which_offsets_are_missing_is_told_as_far_as_the_batches_that_are_known_tell(catalog):
    delete(catalog, 3, 4)
    delete(catalog, 12, 13)
    part = audited(catalog).partitions[0]
    # Of the second batch 18 and 19 were dead letters, but nothing says that it was these two.
    assert (part.missing, part.missing_in, part.exactly) == (2, ((3, 4), (12, 13), (18, 20)), False)
    delete(catalog, 5, 6, partition=1)
    assert (audited(catalog).partitions[1].missing_in, audited(catalog).partitions[1].exactly) == (((5, 6),), True)


def test_beyond_the_most_decisions_those_that_cover_nothing_go_first(catalog, monkeypatch):
    monkeypatch.setattr(decided, "MOST", 2)
    table = catalog.load_table(TRADES)
    skip_to_earliest(table, ORIGIN.topic, {0: 21}, SIGNED)
    for number in range(3):
        delete(catalog, number, number + 1)
        accept(catalog.load_table(TRADES), audited(catalog), sign(f"number {number}", "ops@desk", at=AT))
    kinds = [(each.kind, each.signed.reason) for each in decisions_of(catalog.load_table(TRADES).metadata)]
    assert kinds == [(DecisionKind.SKIP_TO_EARLIEST, SIGNED.reason), (DecisionKind.ACCEPT, "number 2")]
    assert audited(catalog).ok


@pytest.mark.parametrize("broken", ['[{"what":"acc', "[1]", '[{"what":"never"}]', "{}x"])
def test_decisions_that_were_cut_short_are_one_line_with_a_remedy(catalog, k2, broken):
    with catalog.load_table(TRADES).transaction() as transaction:
        transaction.set_properties({DECISIONS: broken})
    told = k2("audit", TRADES, "--offline")
    assert isinstance(told.exception, UserError)
    assert "Restore it" in told.exception.remedy


@pytest.mark.parametrize("broken", ['{"market.equities.trades.asx":{"id":"to', "[1]", '{"a":1}'])
def test_offsets_that_were_cut_short_are_one_line_and_can_be_taken_from_the_snapshot_again(catalog, k2, broken):
    table = catalog.load_table(TRADES)
    with table.transaction() as transaction:
        transaction.set_properties({OFFSETS: broken})
    told = k2("audit", TRADES, "--offline")
    assert isinstance(told.exception, RefusedError)
    assert "k2 sink reset" in told.exception.remedy
    assert k2("sink", "reset", TRADES, "--to-snapshot", str(table.metadata.current_snapshot_id)).exit_code == 0
    assert audited(catalog).ok


def test_the_command_shows_what_it_accepts_and_the_audit_tells_it_from_then_on(catalog, k2):
    delete(catalog, 3, 6)
    red = k2("audit", TRADES, "--offline")
    assert red.exit_code == 1
    assert f"missing of {ORIGIN.topic}/0: these offsets: 3-5" in red.stdout
    done = k2("audit", "accept", TRADES, "--reason", "a [bold]deliberate[/bold] delete", "--by", "ops@desk")
    assert done.exit_code == 0, done.output
    green = k2("audit", "tables", TRADES, "--offline")
    assert green.exit_code == 0
    assert "by ops@desk: a [bold]deliberate[/bold] delete; accepted 3 missing" in green.stdout
    assert "3 missing by decision" in green.stdout
    (body,) = json.loads(k2("audit", TRADES, "--offline", "--output", "json").stdout)
    assert (body["ok"], body["missing"], body["decisions"][0]["by"]) == (True, 3, "ops@desk")
    assert k2("audit", "accept", TRADES).exit_code == 2, "a reason is needed"
