"""What is long runs in threads of low priority, DuckDB's own included; what is short does not."""

import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from k2.query.engine.background import Background
from k2.query.engine.database import Limits
from k2.query.engine.engine import LARGE_BYTES, Engine
from k2.query.rows.statement import FilesRead, Statement

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are of processes")

HARD = "SELECT sum(hash(a.range * b.range)) AS x FROM range(20000) AS a, range(4000) AS b"


def ticks_of_threads():
    """Niceness and processor time of this process's threads, in the kernel's ticks, by their ids."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        found[task.name] = int(fields[16]), int(fields[11]) + int(fields[12])
    return found


OWN = os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.skipif(
    OWN >= 10, reason=f"the tests run at niceness {OWN}: there is none between it and that of long work"
)
@pytest.mark.parametrize(
    ("planned_bytes", "streamed", "low"),
    [(0, False, False), (LARGE_BYTES + 1, False, True), (0, True, True)],
    ids=["short", "large", "stream"],
)
def test_long_work_is_done_at_low_priority(tmp_path, planned_bytes, streamed, low):
    engine = Engine(Limits(connections=2, threads=2, timeout_seconds=60))
    statement = Statement(HARD, {}, (f"{tmp_path}/",), reads=(FilesRead("t", {"f": planned_bytes}),))
    before = ticks_of_threads()
    if streamed:
        engine.background.run(lambda: list(engine.stream("hard", statement, batch_rows=1000)))
    else:
        engine.fetch("hard", statement)
    after = ticks_of_threads()
    engine.close()
    taken = Counter()
    for thread, (nice, ticks) in after.items():
        taken[nice] += ticks - before.get(thread, (nice, 0))[1]
    assert taken[10 if low else OWN] >= 3
    assert taken[10] > 4 * taken[OWN] if low else taken[10] == 0


def reading(name, items, log, *, fails=False):
    """Items that note when they begin and end, in which thread."""
    log.append(("begins", name, threading.current_thread().name.startswith("k2-long")))
    try:
        for item in items:
            yield f"{name}{item}"
        if fails:
            raise ValueError(name)
    finally:
        log.append(("ends", name))


def test_readings_are_chained_and_the_next_one_begins_while_one_is_taken():
    background, log = Background(2), []
    chained = background.chain(reading(name, range(3), log) for name in "abc")
    assert next(chained) == "a0"
    deadline = time.monotonic() + 60
    while ("begins", "b", True) not in log:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(chained) == ["a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]
    assert log[-1] == ("ends", "c")
    background.close()


def test_empty_readings_are_left_out_and_an_error_comes_after_what_was_before_it():
    background, log = Background(2), []
    chained = background.chain(
        reading(name, range(count), log, fails=fails)
        for name, count, fails in (("a", 0, False), ("b", 2, False), ("c", 0, True), ("d", 1, False))
    )
    assert [next(chained), next(chained)] == ["b0", "b1"]
    with pytest.raises(ValueError, match="c"):
        next(chained)
    assert sorted(each for each in log if each[0] == "ends") == [("ends", name) for name in "abc"]
    background.close()


@pytest.mark.parametrize("taken", [1, 2, 4])
def test_closing_a_chain_closes_the_reading_that_is_taken_and_the_one_that_has_begun(taken):
    background, log = Background(2), []
    chained = background.chain(reading(name, range(3), log) for name in "abc")
    for _ in range(taken):
        next(chained)
    chained.close()
    begun = {each[1] for each in log if each[0] == "begins"}
    assert begun == {each[1] for each in log if each[0] == "ends"} >= {"a"}
    background.close()


def test_chains_that_take_all_threads_go_on():
    background = Background(2)
    begin = threading.Barrier(2)

    def drain():
        begin.wait()
        return list(background.chain(reading(name, range(2), []) for name in "abcdef"))

    found = [background._threads.submit(drain) for _ in range(2)]
    assert [each.result(60) for each in found] == [[f"{name}{n}" for name in "abcdef" for n in range(2)]] * 2
    background.close()


def test_work_that_begins_work_does_not_wait_for_itself():
    background = Background(1)
    names = background.run(
        lambda: [threading.current_thread().name, background.run(lambda: threading.current_thread().name)]
    )
    background.close()
    assert names[0].startswith("k2-long")
    assert names[1] == names[0]
