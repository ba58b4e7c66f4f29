"""Live producers and URIs of files: states and refusals, without Kafka."""

from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from k2.feeds.load.live import LiveProducer
from k2.feeds.load.uris import local_files
from k2.model.errors import UserError, WorldError
from k2.model.events import arrow_schema
from k2.model.gap_events import gap_batch
from k2.model.gaps import GapEvent, GapKind
from k2.model.topics import DataType


@dataclass
class _Delivery:
    rows: int = 1
    done: bool = False
    error: object = None
    next_offsets: dict[int, int] = field(default_factory=dict)


class _Outlet:
    def __init__(self, error=None, silent=False):
        self.error, self.silent, self.waiting = error, silent, []

    def send(self, data_type, events):
        self.waiting.append(_Delivery(error=self.error))
        return self.waiting[-1]

    def poll(self, seconds):
        if not self.silent:
            for delivery in self.waiting:
                delivery.done = True

    flush = poll


def _events(batches):
    schema = arrow_schema(DataType.TRADES)
    empty = pa.RecordBatch.from_arrays([pa.array([], each.type) for each in schema], schema=schema)
    for _ in range(batches):
        yield ((DataType.TRADES, empty),)


def test_a_live_producer_is_ready_once_it_sends():
    live = LiveProducer("ASX")
    assert live.ready() == (False, "waiting for the topics")
    live.run(_events(3), _Outlet())
    assert live.ready() == (True, "producing")


class _Slow(_Outlet):
    """Takes what it is told to, in the order in which it was sent."""

    def __init__(self):
        super().__init__(silent=True)
        self.kinds = []

    def send(self, data_type, events):
        self.kinds.append(str(data_type))
        return super().send(data_type, events)

    def flush(self, seconds):
        for delivery in self.waiting:
            delivery.done = True


def test_what_is_said_of_trades_is_sent_when_kafka_has_them():
    outlet, lost = _Slow(), []
    live = LiveProducer("ASX", lost=lambda kind, _batch, why: lost.append((str(kind), why)))
    gaps = gap_batch([GapEvent(GapKind.OPENED, "A", 1, 1, 2)], "ASX", "equities")
    (((_, trades),),) = _events(1)
    seen = []

    def events():
        yield ((DataType.GAPS, gaps), (DataType.TRADES, trades))
        seen.append(list(outlet.kinds))
        outlet.waiting[0].done, outlet.waiting[0].error = True, "timed out"
        yield ()
        seen.append(list(outlet.kinds))
        yield ((DataType.TRADES, trades), (DataType.GAPS, gaps))

    live.run(events(), outlet)
    assert seen == [["trades"], ["trades", "gaps"]]
    assert lost == [("trades", "timed out")]
    assert outlet.kinds == ["trades", "gaps", "trades", "gaps"]


def test_a_live_producer_says_when_the_brokers_are_silent(monkeypatch):
    monkeypatch.setattr("k2.feeds.load.live.UNREADY_SECONDS", 0.0)
    live = LiveProducer("ASX")
    with pytest.raises(WorldError, match="did not confirm the last 2 events"):
        live.run(_events(2), _Outlet(silent=True))
    assert live.ready() == (False, "Kafka confirmed nothing for 0 s")


def test_a_live_producer_that_could_not_get_rid_of_its_last_events_says_so_at_its_end():
    with pytest.raises(WorldError, match="Kafka did not take events: timed out"):
        LiveProducer("ASX").run(_events(2), _Outlet(error="timed out"))


def test_a_live_producer_goes_on_when_events_are_given_up_and_is_not_ready_until_kafka_takes_some_again():
    live, outlet, said = LiveProducer("ASX"), _Outlet(error="timed out"), []

    def events():
        for number, batches in enumerate(_events(4)):
            yield batches
            said.append(live.ready())
            if number == 1:
                outlet.error = None

    live.run(events(), outlet)
    refused = (False, "Kafka did not take events: timed out")
    assert said == [refused, refused, (True, "producing"), (True, "producing")]


def test_what_was_told_of_an_outage_is_no_failure_of_a_later_stop_and_what_is_lost_at_the_stop_is():
    class Reminds(_Outlet):
        def flush(self, seconds):
            self.poll(seconds)
            raise WorldError("1 messages were given up")

    live, outlet = LiveProducer("ASX"), Reminds(error="timed out")

    def events():
        for batches in _events(2):
            yield batches
            outlet.error = None

    live.run(events(), outlet)
    assert live.ready() == (True, "producing")

    class LosesAtTheEnd(_Outlet):
        def flush(self, seconds):
            self.poll(seconds)
            raise WorldError("1 messages were given up")

    with pytest.raises(WorldError, match="given up"):
        LiveProducer("ASX").run(_events(1), LosesAtTheEnd(error="timed out", silent=True))


def test_file_uris_are_below_the_volume(tmp_path):
    assert local_files(["file:a/b.csv", "file:c.csv"], tmp_path, tmp_path) == [tmp_path / "a/b.csv", tmp_path / "c.csv"]


@pytest.mark.parametrize("uri", ["file:/etc/passwd", "file:../x.csv", "file:a/../../x.csv"])
def test_a_file_uri_does_not_leave_the_volume(tmp_path, uri):
    with pytest.raises(UserError, match="a path below the feed's volume"):
        local_files([uri], tmp_path, tmp_path)


def test_other_kinds_of_uri_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected file:, https:// or s3://"):
        local_files(["ftp://example.org/a.csv"], tmp_path, tmp_path)


def test_an_unreachable_server_is_the_worlds_error_after_some_tries(tmp_path):
    import stamina

    with stamina.set_testing(True, attempts=2), pytest.raises(WorldError, match="cannot be reached"):
        local_files(["https://127.0.0.1:9/a.csv"], None, tmp_path)
