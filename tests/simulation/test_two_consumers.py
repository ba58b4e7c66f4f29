"""Two consumers, one table, a coordinator that moves partitions behind their backs, and a network that loses, delays and
repeats commits. Time and failure are controlled here, the catalog and the files are real (SQLite, Parquet).

The log stands for the topic: message (partition, offset) is always the same event. Each consumer runs in a thread of its
own, but only one thread runs at a time: at every call to the catalog it hands the baton back, and a seeded scheduler
chooses who goes on and what becomes of a commit. The real twin of this test, with real Kafka and real processes, is in
tests/faults.
"""

from __future__ import annotations

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from k2_testing.committed import ORIGIN
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.extent import sized
from k2_testing.lake import TRADES, held, make_lake
from pyiceberg.exceptions import CommitFailedException

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, FencedError
from k2.lake.offsets import recorded_offsets
from k2.model.errors import K2Error, WorldError
from k2.model.feed_rules import FeedRules
from k2.model.topics import DataType

PARTITIONS = 2
LENGTH = 60
SEEDS = sized(20, 400)


class NoWaiting(threading.Event):
    """Time does not pass in a simulation: a wait is only a place where the other may run."""

    def wait(self, timeout=None):
        return self.is_set()


class Stopped(BaseException):
    """The simulation is over; not an error that a consumer may handle."""


class Scheduler:
    """Lets one thread run at a time; which one is drawn from the seed."""

    def __init__(self, rng):
        self.rng = rng
        self.turn = {}
        self.idle = threading.Semaphore(0)
        self.stopped = False

    def yield_turn(self, name):
        self.idle.release()
        self.turn[name].acquire()
        if self.stopped:
            raise Stopped

    def step(self, name):
        self.turn[name].release()
        assert self.idle.acquire(timeout=60), "a consumer hangs"


class Network:
    """A catalog behind a network: each call is a point where others may run, and a commit may meet a fault."""

    def __init__(self, catalog, name, scheduler, faults):
        self._catalog, self._name, self._scheduler, self._faults = catalog, name, scheduler, faults

    def __getattr__(self, name):
        return getattr(self._catalog, name)

    def load_table(self, identifier):
        self._scheduler.yield_turn(self._name)
        table = self._catalog.load_table(identifier)
        table.catalog = self
        return table

    def commit_table(self, table, requirements, updates):
        self._scheduler.yield_turn(self._name)
        fault = self._faults.draw()
        if fault == "refused":
            raise ConnectionError("connection refused")
        if fault == "late":
            self._faults.in_flight.append(lambda: self._catalog.commit_table(table, requirements, updates))
            raise TimeoutError("no reply")
        response = self._catalog.commit_table(table, requirements, updates)
        if fault == "lost":
            raise ConnectionError("connection reset by peer")
        if fault == "again":
            return self._catalog.commit_table(table, requirements, updates)
        return response


class Faults:
    """What may happen to a commit, and the commits that are still on their way."""

    def __init__(self, rng):
        self.rng, self.on, self.in_flight = rng, True, []

    def draw(self):
        if not self.on:
            return None
        return self.rng.choices(["refused", "late", "lost", "again", None], weights=[1, 2, 2, 2, 5])[0]

    def land_one(self):
        if self.in_flight:
            landing = self.in_flight.pop(self.rng.randrange(len(self.in_flight)))
            with contextlib.suppress(CommitFailedException):  # too late: the table has moved on
                landing()


def read(partition, start, stop):
    offsets = list(range(start, stop))
    events = trades(
        [message_id(partition, offset) for offset in offsets],
        symbols=["BHP" if partition else "CBA"] * len(offsets),
        times=[START_US + offset * 1000 for offset in offsets],
        sequence=offsets,
    )
    return events, [partition] * len(offsets), offsets


class Consumer:
    """A sink's loop without Kafka: takes what the coordinator last told it, reads on, commits, obeys the fence."""

    def __init__(self, name, catalog, rng, assigned, committer_class):
        self.name, self.rng, self.assigned = name, rng, assigned
        self.committer = committer_class(
            catalog,
            TRADES,
            ORIGIN,
            DataType.TRADES,
            rules=FeedRules(keeps_duplicates=True),
            stop=NoWaiting(),
            retry_seconds=60,
        )
        self.position = {}

    def run(self):
        while True:
            try:
                self.start_over(set(self.assigned))
                while self.once():
                    pass
            except FencedError as fenced:
                for partition in self.position:
                    self.position[partition] = fenced.offsets.get(partition, 0)
            except WorldError:
                continue  # the process is restarted

    def start_over(self, partitions):
        recorded = self.committer.start_offsets()
        self.position = {partition: recorded.get(partition, 0) for partition in partitions}

    def once(self):
        # A consumer learns late that the coordinator moved a partition: now and then it goes on as before.
        if set(self.position) != self.assigned and self.rng.random() < 0.5:
            self.start_over(set(self.assigned))
        parts, ranges = [], {}
        for partition, start in self.position.items():
            stop = min(LENGTH, start + self.rng.randrange(1, 12))
            if stop > start:
                parts.append(read(partition, start, stop))
                ranges[partition] = (start, stop)
        if not parts:
            self.committer.start_offsets()  # nothing to do: look again (and let others run)
            self.start_over(set(self.assigned))
            return True
        rows = pa.concat_tables([with_lineage(*part) for part in parts])
        done = self.committer.commit(Batch(rows, ranges, {}))
        self.position.update(done.offsets)
        return True


class Simulation:
    """One seed: 200 steps under faults and rebalances, then the network heals and one consumer gets everything."""

    def __init__(self, folder, seed, committer_class):
        folder.mkdir(parents=True, exist_ok=True)
        self.watcher = make_lake(folder)
        self.rng = random.Random(seed)
        self.scheduler, self.faults = Scheduler(self.rng), Faults(self.rng)
        self.assigned = {"a": set(range(PARTITIONS)), "b": set()}
        self.consumers = []
        self.broken = False
        for name, partitions in self.assigned.items():
            self.scheduler.turn[name] = threading.Semaphore(0)
            network = Network(make_lake(folder), name, self.scheduler, self.faults)
            own_rng = random.Random(f"{seed}{name}")
            self.consumers.append(Consumer(name, network, own_rng, partitions, committer_class))

    def run(self):
        with ThreadPoolExecutor(len(self.consumers)) as threads:
            running = [threads.submit(self._live, consumer) for consumer in self.consumers]
            try:
                for number in range(600):
                    self._disturb(number)
                    self.scheduler.step(self.rng.choice(list(self.assigned)))
                    if (
                        self.broken
                        or any(future.done() for future in running)
                        or (number % 10 == 0 and self._finished())
                    ):
                        break
            finally:
                self.scheduler.stopped = True
                for turn in self.scheduler.turn.values():
                    turn.release()
        for future in running:
            future.result()  # what went wrong in a consumer's thread goes wrong here
        return held(self.watcher), self._recorded()

    def _live(self, consumer):
        self.scheduler.turn[consumer.name].acquire()
        try:
            consumer.run()
        except Stopped:
            return
        except BaseException:
            self.broken = True  # before the baton: the future is done only a moment later
            self.scheduler.idle.release()  # the baton goes back whatever happens
            raise

    def _disturb(self, number):
        if number == 200:
            self.faults.on = False
            self.assigned["a"].update(range(PARTITIONS))
            self.assigned["b"].clear()
        if self.faults.on and self.rng.random() < 0.15:
            moved = self.rng.randrange(PARTITIONS)
            source, target = self.rng.sample(list(self.assigned), 2)
            if moved in self.assigned[source]:
                self.assigned[source].discard(moved)
                self.assigned[target].add(moved)
        if self.rng.random() < 0.2:
            self.faults.land_one()

    def _finished(self):
        return not self.faults.on and not self.faults.in_flight and self._recorded() == ENDS

    def _recorded(self):
        return recorded_offsets(self.watcher.load_table(TRADES)).next_of(ORIGIN.topic)


def simulate(folder, seed, committer_class=Committer):
    """How often the table holds each (partition, offset) after the seed's run, and the offsets it records."""
    return Simulation(folder, seed, committer_class).run()


ENDS = dict.fromkeys(range(PARTITIONS), LENGTH)
EXPECTED = {(partition, offset): 1 for partition in range(PARTITIONS) for offset in range(LENGTH)}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_every_message_is_in_the_table_exactly_once_over_all_seeds(tmp_path, first):
    for seed in range(first, min(SEEDS, first + 20)):
        rows, offsets = simulate(tmp_path / str(seed), seed)
        assert dict(rows) == EXPECTED, f"seed {seed}"
        assert offsets == ENDS, f"seed {seed}"


class Retrying(Committer):
    """The control: PyIceberg's own commit retry stays on, as it is by default (waits shortened)."""

    def _guard(self, table):
        table.metadata.properties.update(
            {"commit.retry.num-retries": "4", "commit.retry.min-wait-ms": "1", "commit.retry.max-wait-ms": "2"}
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_control_with_pyicebergs_retry_on_breaks(tmp_path):
    broken = []
    seeds = range(max(10, SEEDS // 4))
    for seed in seeds:
        try:
            rows, offsets = simulate(tmp_path / str(seed), seed, Retrying)
            if dict(rows) != EXPECTED or offsets != ENDS:
                broken.append(seed)
        except (
            K2Error,
            FileNotFoundError,
        ):  # an unreadable table, or offsets that contradict the snapshots, is broken too
            broken.append(seed)
    assert len(broken) >= len(seeds) // 4, f"only seeds {broken} of {len(seeds)} broke: the simulation shows nothing"
