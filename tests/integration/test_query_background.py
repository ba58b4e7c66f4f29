"""What is long runs in threads of low priority, DuckDB's own included; what is short does not."""

import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from k2.query.background import Background
from k2.query.database import Limits
from k2.query.engine import LARGE_BYTES, Engine, Statement

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


@pytest.mark.parametrize(
    ("planned_bytes", "streamed", "low"),
    [(0, False, False), (LARGE_BYTES + 1, False, True), (0, True, True)],
    ids=["short", "large", "stream"],
)
def test_long_work_is_done_at_low_priority(tmp_path, planned_bytes, streamed, low):
    engine = Engine(Limits(connections=2, threads=2, timeout_seconds=60))
    statement = Statement(HARD, {}, (f"{tmp_path}/",), planned_bytes=planned_bytes)
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
    assert taken[10 if low else 0] >= 3
    assert taken[10] > 4 * taken[0] if low else taken[10] == 0


def test_work_that_begins_work_does_not_wait_for_itself():
    background = Background(1)
    names = background.run(
        lambda: [threading.current_thread().name, background.run(lambda: threading.current_thread().name)]
    )
    background.close()
    assert names[0].startswith("k2-long")
    assert names[1] == names[0]
