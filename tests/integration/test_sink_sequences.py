"""Numbers that a source left out: a real sink's note, metrics and log tell of them, and so does the audit of the table."""

import json
import urllib.request

import pytest
from k2_testing.events import START_US, message_id, trades
from k2_testing.sinks import eventually, gave_up, ready

from k2.bus.admin import committed_with_metadata
from k2.bus.producer import EventProducer
from k2.lake.proof.sequence_audit import audit_sequences
from k2.model.commit_note import CommitNote
from k2.model.sequences import SequenceScope
from k2.model.topics import DataType, sink_group_id
from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]


def send(pipeline, **numbers):
    """Events with those numbers of each symbol, in turn."""
    events = [(symbol, number) for symbol, each in numbers.items() for number in each]
    producer = EventProducer(
        pipeline.kafka, topic=pipeline.topic, data_type=DataType.TRADES, schema_id=pipeline.schema_id
    )
    producer.send(
        trades(
            [message_id(*event) for event in events],
            symbols=[symbol for symbol, _ in events],
            times=[START_US + (number or 0) * 1000 for _, number in events],
            sequence=[number for _, number in events],
        )
    )
    producer.flush(60)
    producer.close()


def notes(pipeline):
    """What is left beside each partition's offset in the sink's group."""
    group = sink_group_id(pipeline.topic, pipeline.table)
    told = committed_with_metadata(pipeline.kafka, group, pipeline.topic)
    return {partition: CommitNote.from_json(text) for partition, (_, text) in told.items()}


def gaps(pipeline):
    return sum(note.gaps or 0 for note in notes(pipeline).values() if note is not None)


def told(port, pipeline, name):
    """A metric of a sink on that port; None while it is not there."""
    start = f'{name}{{data_type="trades",exchange="{pipeline.topic.rpartition(".")[2].upper()}"}} '
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return next((float(line.removeprefix(start)) for line in lines if line.startswith(start)), None)


def logged(pipeline, number=-1):
    whole = pipeline.log(number).rpartition("\n")[0]  # of the last line a part may be there
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "sink.sequence_gaps_found"]


def in_table(pipeline, count):
    eventually(lambda: sum(pipeline.recorded().values()) == count, f"{count} offsets in the table")


def test_numbers_that_are_left_out_are_in_the_note_the_metrics_the_log_and_the_audit(pipeline):
    port = ports.choose(None, None, what="a sink", option="")
    pipeline.sink(port=port, sequences="per_symbol")
    send(pipeline, BHP=range(100, 200), CBA=range(500, 600))
    in_table(pipeline, 200)
    eventually(lambda: told(port, pipeline, "k2_sequence_gaps_detected_total") == 0, "a counter that begins at zero")
    send(pipeline, BHP=[*range(203, 210), *range(220, 230)], CBA=[600, 601], TLS=[7, None, 9])
    in_table(pipeline, 222)
    eventually(lambda: told(port, pipeline, "k2_sequence_gaps_detected_total") == 3, "three gaps")
    eventually(lambda: told(port, pipeline, "k2_sequence_missing_total") == 3 + 10 + 1, "what is missing")
    assert told(port, pipeline, "k2_sequence_resets_total") == 0
    eventually(lambda: gaps(pipeline) == 3, "three gaps beside the offsets")
    some = [each for line in logged(pipeline) for each in line["some"]]
    assert sorted(some) == ["ASX BHP: 200 to 202", "ASX BHP: 210 to 219", "ASX TLS: 8 to 8"]
    found = audit_sequences(pipeline.catalog.load_table(pipeline.table), SequenceScope.SYMBOL)
    missing = {day.symbol: (day.first, day.last, day.missing, day.duplicated) for day in found.days}
    assert missing == {"BHP": (100, 229, 13, 0), "CBA": (500, 601, 0, 0), "TLS": (7, 9, 1, 0)}
    assert (found.rows, found.unnumbered) == (221, 1)
    assert pipeline.audit().ok


def test_whoever_has_a_partition_next_counts_on_and_claims_nothing_of_what_it_did_not_see(pipeline):
    first = pipeline.sink(sequences="per_symbol")
    send(pipeline, BHP=[1, 2, 5], CBA=[1])
    in_table(pipeline, 4)
    eventually(lambda: gaps(pipeline) == 1, "a gap beside the offsets")
    first.terminate()
    first.wait(90)
    pipeline.sink(sequences="per_symbol")
    send(pipeline, BHP=[9], CBA=[2])
    in_table(pipeline, 6)
    send(pipeline, BHP=[10, 13])
    in_table(pipeline, 8)
    eventually(lambda: gaps(pipeline) == 2, "the gap after the second sink began, beside the one of the first")
    assert [line["some"] for line in logged(pipeline)] == [["ASX BHP: 11 to 12"]]


def test_partitions_that_move_between_sinks_make_no_gaps_where_there_are_none(pipeline):
    """Sinks join, are killed and stop while every symbol's numbers go on without a hole."""
    symbols = ("BHP", "CBA", "CSL", "WOW", "TLS", "ANZ", "NAB", "RIO")
    sent = 0

    def go_on(rounds):
        nonlocal sent
        for _ in range(rounds):
            send(pipeline, **{symbol: range(1000 + sent, 1020 + sent) for symbol in symbols})
            sent += 20

    first = pipeline.sink(sequences="per_symbol", interval=0.1)
    go_on(5)
    in_table(pipeline, sent * len(symbols))
    second = pipeline.sink(sequences="per_symbol", interval=0.1)
    eventually(
        lambda: gave_up(pipeline.log(0)) and "sink.assigned" in pipeline.log(1),
        lambda: f"partitions shared out {pipeline.log(0)[-2000:]}",
    )
    go_on(5)
    in_table(pipeline, sent * len(symbols))
    second.terminate()
    second.wait(90)
    go_on(5)
    in_table(
        pipeline, sent * len(symbols)
    )  # the first has all of them again, some of which the second has read a part of
    first.kill()
    first.wait(90)
    pipeline.sink(sequences="per_symbol", interval=0.1)
    go_on(5)
    in_table(pipeline, sent * len(symbols))
    assert [logged(pipeline, number) for number in range(3)] == [[], [], []]
    eventually(lambda: {note.gaps for note in notes(pipeline).values()} == {0}, "no gap beside any offset")
    found = audit_sequences(pipeline.catalog.load_table(pipeline.table), SequenceScope.SYMBOL)
    assert {(day.first, day.last, day.missing) for day in found.days} == {(1000, 999 + sent, 0)}
    assert len(found.days) == len(symbols)


def test_what_is_sent_again_from_the_beginning_is_neither_a_new_beginning_nor_a_gap(pipeline):
    port = ports.choose(None, None, what="a sink", option="")
    pipeline.sink(port=port, sequences="per_symbol")
    send(pipeline, BHP=range(1, 301))
    in_table(pipeline, 300)
    send(pipeline, BHP=range(1, 51))
    in_table(pipeline, 350)
    send(pipeline, BHP=range(301, 311))
    in_table(pipeline, 360)
    eventually(lambda: [note.gaps for note in notes(pipeline).values()] == [0], "no gap beside the offsets")
    assert told(port, pipeline, "k2_sequence_gaps_detected_total") == 0
    assert told(port, pipeline, "k2_sequence_resets_total") == 0
    assert told(port, pipeline, "k2_out_of_order_events_total") == 0


def test_where_numbers_are_only_an_order_nobody_counts(pipeline):
    port = ports.choose(None, None, what="a sink", option="")
    pipeline.sink(port=port)
    send(pipeline, BHP=[1, 2, 50], CBA=[3])
    in_table(pipeline, 4)
    eventually(lambda: bool(notes(pipeline)), "a note")
    assert {note.gaps for note in notes(pipeline).values()} == {None}
    eventually(lambda: ready(port), "the sink answers")
    assert told(port, pipeline, "k2_sequence_gaps_detected_total") is None
    assert logged(pipeline) == []
