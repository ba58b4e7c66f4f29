"""The loader without Kafka: ledger, resume, renamed, split and mended files. The topic here is a list in memory."""

import json
import threading
from dataclasses import dataclass, field

import pytest

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.chunks import Position, ahead
from k2.feeds.load.csv_source import CsvFiles
from k2.feeds.load.ledger import Ledger
from k2.feeds.load.load import Load
from k2.feeds.load.rejects import RejectsFile, is_rejects_file, unwrap
from k2.model.errors import UserError, WorldError
from k2.model.exchanges import exchange
from k2.model.topics import DataType

TOPIC = "market.equities.trades.asx"


@dataclass
class _Delivery:
    rows: int
    next_offsets: dict[int, int]
    done: bool = False
    error: object = None


@dataclass
class _Topic:
    """An outlet whose brokers confirm at `poll` and fail when told to."""

    messages: list[bytes] = field(default_factory=list)
    dead: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    waiting: list[_Delivery] = field(default_factory=list)
    most_waiting: int = 0
    fail_after: int | None = None
    silent: bool = False

    def topic(self, data_type):
        return TOPIC

    def send(self, data_type, events):
        self.messages += events["message_id"].to_pylist()
        delivery = _Delivery(events.num_rows, {0: len(self.messages)})
        if self.fail_after is not None and len(self.messages) > self.fail_after:
            delivery.error = "message timed out"
        self.waiting.append(delivery)
        self.most_waiting = max(self.most_waiting, sum(each.rows for each in self.waiting))
        return delivery

    def reject(self, file, header, rejected):
        self.dead += [(file, bad.line, bad.reason, bad.raw) for bad in rejected]

    def poll(self, seconds):
        if not self.silent:
            for delivery in self.waiting:
                delivery.done = True
            self.waiting.clear()

    def flush(self, seconds):
        self.poll(seconds)


def _lines(count, start=0):
    return [
        f"03/10/2014,10:{i // 60 % 60:02}:{i % 60:02}.000,{1 + i % 7}.5,{1 + i % 3},0,,".encode()
        for i in range(start, start + count)
    ]


def _write(path, lines):
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def _source(*paths, names=None, block_bytes=400):
    venue = exchange("ASX")
    form = file_format("asx", Files(DataType.TRADES, venue, symbol="BHP"))
    assembler = Assembler(DataType.TRADES, venue, "AUD", "equities")
    return CsvFiles(paths, form, assembler, names=names, symbol="BHP", block_bytes=block_bytes, clock=lambda: 0)


def _load(directory, source, topic, *, stop_after=None, rejects=None, restart=False, **options):
    stop = threading.Event()

    def report(tally):
        if stop_after is not None and tally.read >= stop_after:
            stop.set()

    with Ledger.open(directory, source.options | {"topic": "T1"}, source.parts, restart=restart) as ledger:
        if rejects is None:
            return Load(source, topic, ledger, report=report, stop=stop, **options).run()
        with RejectsFile(rejects) as file:
            return Load(source, topic, ledger, file, report=report, stop=stop, **options).run()


def test_a_load_sends_every_row_once_and_its_counts_add_up(tmp_path):
    lines = _lines(100)
    lines[10] = b"garbage"
    topic = _Topic()
    tally = _load(tmp_path, _source(_write(tmp_path / "a.csv", lines)), topic)
    assert (tally.read, tally.accepted, tally.rejected, tally.sent, tally.finished) == (100, 99, 1, 99, True)
    assert len(set(topic.messages)) == 99
    assert topic.dead == [(str(tmp_path / "a.csv"), 11, "1 columns, expected 7", b"garbage")]


def test_a_finished_load_sends_nothing_again_under_any_name(tmp_path):
    path = _write(tmp_path / "a.csv", [*_lines(50), b"x"])
    _load(tmp_path, _source(path), _Topic())
    topic = _Topic()
    tally = _load(tmp_path, _source(path.rename(tmp_path / "renamed.csv")), topic)
    assert topic.messages == []
    assert topic.dead == []
    assert (tally.read, tally.sent, tally.already_there, tally.rejected) == (51, 0, 50, 1)
    assert _load(tmp_path, _source(tmp_path / "renamed.csv"), topic, restart=True).sent == 50


def test_an_interrupted_load_goes_on_where_it_was_also_under_another_name(tmp_path):
    path = _write(tmp_path / "a.csv", _lines(100))
    whole, first, second = _Topic(), _Topic(), _Topic()
    _load(tmp_path / "other", _source(path), whole)
    tally = _load(tmp_path, _source(path), first, stop_after=30)
    assert tally.interrupted
    assert 0 < tally.sent < 100
    tally = _load(tmp_path, _source(path.rename(tmp_path / "b.csv")), second)
    assert tally.finished
    assert tally.already_there == len(first.messages)
    assert first.messages + second.messages == whole.messages


def test_the_topic_made_anew_is_loaded_from_the_start(tmp_path):
    source = _source(_write(tmp_path / "a.csv", _lines(20)))
    _load(tmp_path, source, _Topic())
    with Ledger.open(tmp_path, source.options | {"topic": "T2"}, source.parts) as ledger:
        assert ledger.progress.position == Position()
        assert not ledger.progress.finished


def test_files_added_at_the_end_are_the_only_ones_sent(tmp_path):
    a, b = _write(tmp_path / "a.csv", _lines(40)), _write(tmp_path / "b.csv", _lines(40, 40))
    whole, first, second = _Topic(), _Topic(), _Topic()
    _load(tmp_path / "other", _source(a, b), whole)
    _load(tmp_path, _source(a), first)
    tally = _load(tmp_path, _source(a, b), second)
    assert (tally.sent, tally.already_there) == (40, 40)
    assert first.messages + second.messages == whole.messages


def test_split_files_give_the_same_ids_so_the_sink_can_drop_them(tmp_path):
    whole, split = _Topic(), _Topic()
    lines = _lines(100) + _lines(100)  # repeated rows, too
    _load(tmp_path, _source(_write(tmp_path / "a.csv", lines)), whole)
    parts = (_write(tmp_path / "b.csv", lines[:70]), _write(tmp_path / "c.csv", lines[70:]))
    _load(tmp_path, _source(*parts), split)
    assert split.messages == whole.messages


def test_no_more_than_the_bound_waits_for_confirmation(tmp_path):
    topic = _Topic()
    _load(tmp_path, _source(_write(tmp_path / "a.csv", _lines(500))), topic, in_flight_rows=40)
    assert len(topic.messages) == 500
    assert topic.most_waiting <= 40


def test_a_delivery_error_ends_the_load_and_the_next_run_sends_the_rest(tmp_path):
    path = _write(tmp_path / "a.csv", _lines(100))
    broken, mended = _Topic(fail_after=35), _Topic()
    with pytest.raises(WorldError, match="did not take the events: message timed out"):
        _load(tmp_path, _source(path), broken, in_flight_rows=10)
    tally = _load(tmp_path, _source(path), mended)
    assert tally.already_there + tally.sent == 100
    assert tally.already_there <= 35
    assert len(set(broken.messages) | set(mended.messages)) == 100


def test_silent_brokers_end_the_load_with_words_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("k2.feeds.load.load.STALLED_SECONDS", 0.2)
    with pytest.raises(WorldError, match="Kafka confirmed nothing for"):
        _load(tmp_path, _source(_write(tmp_path / "a.csv", _lines(10))), _Topic(silent=True))


def test_a_damaged_source_leaves_what_was_confirmed_in_the_ledger(tmp_path):
    path = _write(tmp_path / "a.csv", _lines(1000))
    source, first = _source(path), _Topic()

    def touch(tally):
        path.touch()

    with (
        Ledger.open(tmp_path, source.options | {"topic": "T1"}, source.parts) as ledger,
        pytest.raises(UserError, match="changed while it was read"),
    ):
        Load(source, first, ledger, report=touch).run()
    second = _Topic()
    _load(tmp_path, _source(path), second)
    assert len(set(first.messages + second.messages)) == 1000
    assert len(second.messages) < 1000


def test_two_processes_cannot_be_at_the_same_load(tmp_path):
    source = _source(_write(tmp_path / "a.csv", _lines(3)))
    with (
        Ledger.open(tmp_path, source.options, source.parts),
        pytest.raises(UserError, match="Another process is loading"),
    ):
        Ledger.open(tmp_path, source.options, source.parts)


def test_a_damaged_ledger_is_as_good_as_none(tmp_path):
    source = _source(_write(tmp_path / "a.csv", _lines(30)))
    _load(tmp_path, source, _Topic())
    for path in tmp_path.glob("*.json"):
        path.write_text("{ nonsense")
    topic = _Topic()
    assert _load(tmp_path, source, topic).sent == 30


def test_the_ledger_names_what_it_is_of_and_where_it_ended(tmp_path):
    source = _source(_write(tmp_path / "a.csv", _lines(30)))
    _load(tmp_path, source, _Topic())
    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text())
    assert document["parts"] == source.parts
    assert document["next_offsets"] == {TOPIC: {"0": 30}}
    assert document["finished"] is True
    assert document["options"]["symbol"] == "BHP"


def test_rejected_rows_are_kept_as_they_came_and_load_once_mended(tmp_path):
    bad = [
        b'03/10/2014,10:00:00.000,"x",1,0,,',
        b"03/10/2014,10:00:01.000,\xff,1,0,,",
        b"03/99/2014,10:00:02.000,1,1,0,,",
    ]
    path = _write(tmp_path / "a.csv", [*_lines(3), *bad])
    rejects = tmp_path / "rejects.csv"
    tally = _load(tmp_path, _source(path), _Topic(), rejects=rejects)
    assert (tally.accepted, tally.rejected) == (3, 3)
    assert is_rejects_file(rejects)
    folder = tmp_path / "unwrapped"
    folder.mkdir()
    (piece,) = unwrap(rejects, folder)
    assert piece.read_bytes().splitlines() == bad
    rejects.write_bytes(rejects.read_bytes().replace(b"\xff", b"2").replace(b'""x""', b"3").replace(b"/99/", b"/10/"))
    (piece,) = unwrap(rejects, folder)
    tally = _load(tmp_path, _source(piece, names=[str(rejects)]), _Topic())
    assert (tally.accepted, tally.rejected) == (3, 0)


def test_a_rejects_file_keeps_the_headers_of_its_files(tmp_path):
    venue = exchange("NYSE")
    form = file_format("generic", Files(DataType.TRADES, venue))
    for name, header in (("a", "symbol,timestamp,price,quantity"), ("b", "timestamp,symbol,quantity,price")):
        (tmp_path / f"{name}.csv").write_text(f"{header}\nx,y,z,1\n")
    source = CsvFiles(
        [tmp_path / "a.csv", tmp_path / "b.csv"],
        form,
        Assembler(DataType.TRADES, venue, "USD", "equities"),
        clock=lambda: 0,
    )
    with RejectsFile(tmp_path / "r.csv") as rejects:
        Load(source, None, None, rejects).run()
    pieces = unwrap(tmp_path / "r.csv", tmp_path)
    assert [piece.read_text() for piece in pieces] == [
        (tmp_path / "a.csv").read_text(),
        (tmp_path / "b.csv").read_text(),
    ]


def test_a_badly_mended_rejects_file_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("file,line,reason,row\na,1,b,c,d\n")
    with pytest.raises(UserError, match=r"Line 2 of .* is no record of a rejects file: found '5 columns'"):
        unwrap(tmp_path / "r.csv", tmp_path)


def test_a_dry_run_counts_and_sends_nothing(tmp_path):
    tally = Load(_source(_write(tmp_path / "a.csv", [*_lines(9), b"x"])), None, None).run()
    assert (tally.read, tally.accepted, tally.rejected, tally.sent) == (10, 9, 1, 0)
    assert tally.reasons == [f"{tmp_path / 'a.csv'} line 10: 1 columns, expected 7"]


def test_errors_of_the_parsing_thread_come_out_where_the_chunks_are_taken():
    def broken():
        yield 1
        raise ValueError("in the thread")

    chunks = ahead(broken())
    assert next(chunks) == 1
    with pytest.raises(ValueError, match="in the thread"):
        next(chunks)
