"""The writers' schemas that a table keeps beside its offsets: in which form, when they are written, and what they fence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN, batch
from k2_testing.events import START_US, message_id, trades
from k2_testing.foreign import optional, writer_schema
from k2_testing.lake import TRADES, held, make_lake

from k2.lake.appends.commit import Committer, FencedError, Origin
from k2.lake.kept_schemas import MOST, SCHEMAS, KeptSchemas, TopicSchemas, digest, kept_of_topic, kept_schemas
from k2.lake.offsets import recorded_offsets
from k2.lake.payloads import PausedError
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import forget_topic, reset_to_snapshot
from k2.model.codec.decode import decode
from k2.model.codec.encode import encode
from k2.model.codec.meaning import mean_the_same, meaning
from k2.model.errors import RefusedError
from k2.model.events import Decimals, arrow_schema, avro_schema
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import DataType
from k2.sink.held import Holding

STANDARD, WIDE = (json.dumps(avro_schema(DataType.TRADES, each)) for each in Decimals)
FLAGGED = json.dumps(writer_schema(optional("venue_flag", "string")))
texts = st.sampled_from([meaning(each) for each in (STANDARD, WIDE, FLAGGED)])
topic_schemas = st.builds(
    TopicSchemas,
    st.dictionaries(st.integers(0, 2**32 - 1), texts, max_size=4),
    st.dictionaries(st.integers(0, 2**32 - 1), st.sampled_from([digest(None), digest(WIDE)]), max_size=2),
)


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


@pytest.fixture
def committer(catalog):
    return Committer(catalog, TRADES, ORIGIN, DataType.TRADES)


def read_by(rows, **schemas):
    """The batch as if its rows were read by these schemas: `_7=text`."""
    return replace(rows, schemas={int(name[1:]): text for name, text in schemas.items()})


def kept(catalog, origin=ORIGIN):
    return kept_schemas(catalog.load_table(TRADES).metadata).of(origin.topic_id)


# --- what a schema means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_type", list(DataType))
@pytest.mark.parametrize("decimals", list(Decimals))
def test_what_no_reader_looks_at_makes_no_other_schema(data_type, decimals):
    said = avro_schema(data_type, decimals)
    bare = json.loads(meaning(json.dumps(said)))
    assert "doc" not in bare
    assert [each["name"] for each in bare["fields"]] == [each["name"] for each in said["fields"]]
    backwards = {name: said[name] for name in reversed(said)} | {"doc": "told in other words", "aliases": ["Old"]}
    assert mean_the_same(json.dumps(said, indent=2), json.dumps(backwards))
    assert meaning(meaning(json.dumps(said))) == meaning(json.dumps(said))


@pytest.mark.parametrize("decimals", list(Decimals))
def test_messages_are_read_by_what_is_kept_as_by_what_was_registered(decimals):
    text = json.dumps(avro_schema(DataType.TRADES, decimals))
    events = trades([message_id(n) for n in range(50)], symbols=["BHP"] * 50, times=[START_US + n for n in range(50)])
    payloads = encode(events, DataType.TRADES, 7, decimals).payloads()
    registered = decode(payloads, DataType.TRADES, {7: text}.get, decimals=decimals)
    by_kept = decode(payloads, DataType.TRADES, {7: meaning(text)}.get, decimals=decimals)
    assert by_kept.events.equals(registered.events)
    assert (registered.schemas, registered.unknown_ids, by_kept.bad) == ({7: text}, frozenset(), [])


def test_what_changes_the_bytes_or_their_value_is_another_schema():
    assert not mean_the_same(STANDARD, WIDE)
    assert not mean_the_same(STANDARD, FLAGGED)
    swapped = avro_schema(DataType.TRADES)
    swapped["fields"][0], swapped["fields"][1] = swapped["fields"][1], swapped["fields"][0]
    assert not mean_the_same(STANDARD, json.dumps(swapped))
    assert not mean_the_same(STANDARD, "syntax = 'proto3';")
    assert mean_the_same('{"type": "record", "name": "A", "fields": [{"name": "x", "type": {"type": "long"}}]}',
                         '{"name": "A", "type": "record", "fields": [{"type": "long", "name": "x", "default": 1}]}')  # fmt: skip


def test_ids_that_nobody_knows_are_told_apart_from_those_that_read():
    payloads = [
        *encode(trades([message_id(1)], symbols=["BHP"], times=[START_US]), DataType.TRADES, 7).payloads(),
        b"\x00\x00\x00\x00\x09rest",
        b"garbage",
    ]
    found = decode(payloads, DataType.TRADES, {7: STANDARD}.get)
    assert (found.schemas, found.unknown_ids, len(found.bad)) == ({7: STANDARD}, {9}, 2)
    assert found.without({0: "price is 0"}).unknown_ids == {9}


class Polled:
    """Messages of one poll of partition 0."""

    def __init__(self, payloads, first):
        self.payloads, self.messages = list(payloads), [None] * len(payloads)
        self.partitions = np.zeros(len(payloads), np.int32)
        self.offsets = np.arange(first, first + len(payloads))


def test_a_batch_goes_with_the_schemas_that_it_was_read_by_and_of_two_meanings_with_the_first():
    known = {7: STANDARD}
    fields = [*arrow_schema(DataType.TRADES), pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    holding = Holding(lambda payloads: decode(payloads, DataType.TRADES, known.get), pa.schema(fields).empty_table())
    events = trades([message_id(n) for n in range(3)], symbols=["BHP"] * 3, times=[START_US] * 3)
    payloads = encode(events, DataType.TRADES, 7).payloads()
    holding.begin(0, 0)
    holding.add(Polled(payloads, 0))
    holding.decode_pending()
    known[7] = STANDARD + " "
    holding.add(Polled(payloads, 3))
    assert holding.cut().batch.schemas == {7: STANDARD}
    holding.add(Polled(payloads, 6))
    assert holding.cut().batch.schemas == {7: STANDARD + " "}
    holding.add(Polled(payloads, 9))
    holding.decode_pending()
    holding.begin(0, 6)  # what was read is read again, by whatever is known then
    assert holding.cut().batch.schemas == {}


# --- the form in which a table keeps them ------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["T1", "T2", "T3"]), topic_schemas))
def test_what_is_kept_is_read_back(topics):
    read = KeptSchemas.from_json(KeptSchemas(topics).to_json())
    assert {each: read.of(each).schemas for each in topics} == {each: topics[each].schemas for each in topics}
    assert {each: read.of(each).settled for each in topics} == {each: topics[each].settled for each in topics}
    assert KeptSchemas.from_json(read.to_json()) == read


def test_a_schema_of_many_topics_is_kept_once():
    one = KeptSchemas({"T0": TopicSchemas({3: meaning(STANDARD)})}).to_json()
    many = KeptSchemas({f"T{n}": TopicSchemas({3: meaning(STANDARD)}) for n in range(20)}).to_json()
    assert len(many) < len(one) + 20 * len(',"T19":{"3":0}')


def test_of_very_many_ids_those_that_came_first_are_given_up():
    found = TopicSchemas()
    for number in range(MOST + 3):
        found = found.joined({number: STANDARD})
    assert list(found.schemas) == list(range(3, MOST + 3))


@pytest.mark.parametrize("text", ["{", "[]", '{"schemas":[]}', '{"schemas":[],"topics":{"T1":{"7":0}}}'])
def test_one_that_was_cut_short_is_refused_with_what_to_do(text):
    with pytest.raises(RefusedError, match=r"schemas that the table keeps cannot be read.*metadata file"):
        KeptSchemas.from_json(text)


# --- when they are written ----------------------------------------------------------------------------------------------


def test_the_schemas_enter_with_the_first_rows_that_were_read_by_them(catalog, committer):
    assert SCHEMAS not in catalog.load_table(TRADES).properties  # as in each table of before
    committer.commit(read_by(batch(0, 5), _7=STANDARD))
    assert kept(catalog).schemas == {7: meaning(STANDARD)}
    text = catalog.load_table(TRADES).properties[SCHEMAS]
    committer.commit(read_by(batch(5, 9), _7=meaning(STANDARD)))
    assert catalog.load_table(TRADES).properties[SCHEMAS] == text
    committer.commit(read_by(batch(9, 12), _7=STANDARD, _8=FLAGGED))
    assert kept(catalog).schemas == {7: meaning(STANDARD), 8: meaning(FLAGGED)}
    assert all(SCHEMAS not in each.summary.additional_properties for each in catalog.load_table(TRADES).snapshots())


def test_topics_of_one_table_keep_theirs_apart(catalog, committer):
    other = Origin("market.equities.trades.nyse", "topic-9", "cluster-1")
    committer.commit(read_by(batch(0, 5), _7=STANDARD))
    Committer(catalog, TRADES, other, DataType.TRADES).commit(read_by(batch(0, 3, seed="nyse"), _7=WIDE))
    committer.commit(read_by(batch(5, 8), _9=FLAGGED))
    assert kept(catalog).schemas == {7: meaning(STANDARD), 9: meaning(FLAGGED)}
    assert kept(catalog, other).schemas == {7: meaning(WIDE)}
    found = kept_of_topic([catalog.load_table(TRADES).metadata], other.topic)
    assert found == {7: meaning(WIDE)}


def test_a_topic_made_anew_begins_with_none_and_the_old_ones_go(catalog, committer):
    committer.commit(read_by(batch(0, 5), _7=STANDARD))
    forget_topic(catalog.load_table(TRADES), ORIGIN.topic, sign("made anew"))
    anew = replace(ORIGIN, topic_id="topic-2")
    Committer(catalog, TRADES, anew, DataType.TRADES).commit(read_by(batch(0, 3, seed="anew"), _7=WIDE))
    assert kept(catalog, anew).schemas == {7: meaning(WIDE)}
    assert kept(catalog).schemas == {}


def test_a_rollback_takes_rows_back_and_not_what_their_writers_meant(catalog, committer):
    first = committer.commit(read_by(batch(0, 5), _7=STANDARD))
    committer.commit(read_by(batch(5, 9), _8=FLAGGED))
    with catalog.load_table(TRADES).manage_snapshots() as manage:
        manage.rollback_to_snapshot(first.snapshot_id)
    reset_to_snapshot(catalog.load_table(TRADES), first.snapshot_id, sign("rolled back"))
    assert set(kept(catalog).schemas) == {7, 8}
    assert recorded_offsets(catalog.load_table(TRADES)).next_of(ORIGIN.topic) == {0: 5}


# --- what they fence ------------------------------------------------------------------------------------------------------


def test_rows_that_were_read_by_another_schema_than_is_kept_do_not_enter(catalog, committer, tmp_path):
    committer.commit(read_by(batch(0, 5), _7=STANDARD))
    files = set((tmp_path / "warehouse").rglob("*.parquet"))
    for refuses in (committer.commit, committer.check):
        with pytest.raises(FencedError, match="keeps another schema than this batch was read by") as fenced:
            refuses(read_by(batch(5, 9), _7=WIDE))
        assert fenced.value.offsets == {0: 5}
    assert set((tmp_path / "warehouse").rglob("*.parquet")) == files
    committer.commit(read_by(batch(5, 9), _7=STANDARD))
    assert held(catalog) == {(0, offset): 1 for offset in range(9)}


def test_nothing_enters_while_an_id_may_mean_something_else(catalog, committer):
    committer.commit(read_by(batch(0, 5), _7=STANDARD))
    asked = []

    def confirm(known, ids):
        asked.append((set(known.schemas), set(ids)))
        if 7 in ids and len(asked) < 3:
            raise PausedError("bound anew")

    committer.confirm = confirm
    for refuses in (committer.check, committer.commit):
        with pytest.raises(PausedError):
            refuses(read_by(batch(5, 9), _7=STANDARD, _8=FLAGGED))
    assert set(kept(catalog).schemas) == {7}
    assert committer.commit(read_by(batch(5, 9), _7=STANDARD, _8=FLAGGED)).rows == 4
    assert set(kept(catalog).schemas) == {7, 8}


def test_a_new_id_that_was_bound_anew_since_it_was_asked_for_is_read_again(catalog, committer):
    def confirm(_, ids):
        if 8 in ids:
            raise PausedError("bound anew")

    committer.confirm = confirm
    with pytest.raises(FencedError, match="bound anew"):
        committer.commit(read_by(batch(0, 5), _8=FLAGGED))
    assert kept(catalog).schemas == {}
