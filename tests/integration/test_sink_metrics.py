"""What a running sink says of itself: how far behind the table is, which alerts and autoscalers go by."""

import urllib.request

import pytest
from k2_testing.sinks import eventually

from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]


def metric(port, name):
    """A metric of the workload on that port; None while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return None
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), None)


def test_a_sink_says_how_many_messages_the_table_lacks_and_how_much_of_them_it_holds(pipeline):
    port = ports.choose(None, None, what="a sink", option="")
    pipeline.produce(0, 3_000)
    idle = pipeline.sink(interval=3600, port=port)
    lag = f'k2_sink_lag_messages{{topic="{pipeline.topic}"}}'
    held = f'k2_sink_buffered_bytes{{table="{pipeline.table}"}}'
    eventually(lambda: metric(port, lag) == 3_000, "a lag of all that was sent")
    eventually(lambda: (metric(port, held) or 0) > 0, "bytes that are held")
    pipeline.produce(3_000, 5_000)
    eventually(lambda: metric(port, lag) == 5_000, "a lag that grows")
    idle.kill()
    idle.wait()
    pipeline.sink(interval=0.2, port=port)
    eventually(lambda: metric(port, lag) == 0 and sum(pipeline.recorded().values()) == 5_000, "no lag")
    eventually(lambda: metric(port, held) == 0, "nothing held")
