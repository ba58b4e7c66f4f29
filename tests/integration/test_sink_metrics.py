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


def test_what_a_sink_reads_and_commits_is_counted_in_messages_bytes_and_seconds(pipeline):
    port = ports.choose(None, None, what="a sink", option="")
    pipeline.produce(0, 3_000)
    pipeline.sink(interval=0.2, port=port)
    topic, table = f'{{topic="{pipeline.topic}"}}', f'{{table="{pipeline.table}"}}'
    eventually(lambda: metric(port, f"k2_iceberg_rows_written_total{table}") == 3_000, "all rows committed")
    assert metric(port, f"k2_kafka_messages_consumed_total{topic}") == 3_000
    assert metric(port, f"k2_kafka_consumed_bytes_total{topic}") > 3_000 * 50
    commits = metric(port, f'k2_iceberg_commits_total{{outcome="committed",table="{pipeline.table}"}}')
    assert metric(port, f"k2_iceberg_commit_duration_seconds_count{table}") == commits
    assert metric(port, f"k2_sink_freshness_seconds_count{table}") == 3_000
    assert metric(port, f"k2_iceberg_snapshots{table}") == commits
    # What that took is given back when nothing more comes, once for each time that something came.
    eventually(lambda: pipeline.log().count('"event": "sink.rested"') == 1, "a rest")
    pipeline.produce(3_000, 3_100)
    eventually(lambda: pipeline.log().count('"event": "sink.rested"') == 2, "another rest")
    assert metric(port, f"k2_iceberg_rows_written_total{table}") == 3_100


def test_a_sink_that_waits_for_its_table_says_how_far_it_is_behind_and_when_the_last_commit_was(pipeline):
    first, second = (ports.choose(None, None, what="a sink", option="") for _ in range(2))
    lag = f'k2_sink_lag_messages{{topic="{pipeline.topic}"}}'
    last = f'k2_sink_last_commit_timestamp_seconds{{table="{pipeline.table}"}}'
    pipeline.produce(0, 1_000)
    running = pipeline.sink(interval=0.2, port=first)
    eventually(lambda: metric(first, lag) == 0 and sum(pipeline.recorded().values()) == 1_000, "all committed")
    committed = metric(first, last)
    running.terminate()
    assert running.wait(60) == 0  # its offsets are told by now
    pipeline.produce(1_000, 1_500)
    pipeline.catalog.rename_table(pipeline.table, "market_data.elsewhere")
    pipeline.sink(interval=0.2, port=second)
    eventually(lambda: metric(second, lag) == 500, "the lag of a table that is not there")
    assert metric(second, last) == pytest.approx(committed, abs=5)
    pipeline.catalog.rename_table("market_data.elsewhere", pipeline.table)
    eventually(lambda: metric(second, lag) == 0 and sum(pipeline.recorded().values()) == 1_500, "no lag")


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
