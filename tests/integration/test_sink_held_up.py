"""What holds a real sink up, as it tells it: in /ready, in its metric and beside its group's offsets; and how it goes on by itself."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from k2_testing.lake import catalog_properties, locked_catalog
from k2_testing.sinks import Pipeline, asked, eventually, readiness

from k2.bus.admin import TopicSpec, delete_before, delete_topics, ensure_topics
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import forget_topic, reset_to_snapshot, skip_to_earliest
from k2.model.held_up import HeldUpBy
from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=2)
    yield pipeline
    pipeline.close()


@pytest.fixture
def port():
    return ports.choose(None, None, what="a sink", option="")


def gauge(port):
    """The kinds that the metric says hold the sink up, of all that it has series of."""
    _, text = asked(port, "metrics")
    lines = [line for line in text.splitlines() if line.startswith("k2_sink_held_up{")]
    values = {line.split('reason="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert not values or set(values) == {each.value for each in HeldUpBy}, "the series are there from the start"
    return {name for name, value in values.items() if value}


def until_held(pipeline, port, by, *said):
    """Wait until it is told in all three ways."""

    def is_told():
        held = pipeline.told().held
        return held is not None and held.by is by and all(each in held.said for each in said)

    eventually(
        is_told, lambda: f"beside the offsets: {pipeline.told().held}; {readiness(port)}; {pipeline.log()[-3000:]}"
    )
    answer = readiness(port)
    assert answer["status"] == 503
    assert all(each in answer["reason"] for each in said)
    assert gauge(port) == {by.value}


def until_on(pipeline, port):
    """Wait until the table has all, and nothing is told any more."""
    eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"it goes on {pipeline.log()[-3000:]}")
    eventually(lambda: pipeline.told().held is None, lambda: f"it is taken off: {pipeline.told()}")
    eventually(lambda: readiness(port)["status"] == 200, lambda: f"ready: {readiness(port)}")
    eventually(lambda: gauge(port) == set(), lambda: f"the metric says so: {gauge(port)}")
    eventually(lambda: pipeline.told().lag == 0, lambda: f"the offsets say so: {pipeline.told()}")


def ended(sink):
    sink.terminate()
    return sink.wait(90)


def loaded(pipeline):
    return pipeline.catalog.load_table(pipeline.table)


def test_where_retention_has_passed_the_sink_waits_for_the_decision_and_one_that_is_to_end_says_so(pipeline, port):
    pipeline.produce(0, 200)
    pipeline.finish()
    before = pipeline.recorded()
    pipeline.produce(200, 600)
    passed = {partition: offset + 50 for partition, offset in before.items()}
    delete_before(pipeline.kafka, pipeline.topic, passed)
    assert pipeline.sink("--until-end").wait(60) == 2, pipeline.log()
    assert "Retention has passed what market_data.trades has not read" in pipeline.log()
    sink = pipeline.sink(port=port)
    command = f"k2 sink reset {pipeline.table} --topic {pipeline.topic} --skip-to-earliest"
    until_held(pipeline, port, HeldUpBy.DECISION, "Retention has passed", command, "goes on by itself")
    assert pipeline.told().lag >= 400, "the offsets are what they were"
    skip_to_earliest(loaded(pipeline), pipeline.topic, passed, sign())
    until_on(pipeline, port)
    assert ended(sink) == 0
    audit = pipeline.audit()
    assert audit.ok
    assert sum(part.rows for part in audit.partitions) == 600 - 50 * len(before)
    assert sum(part.offsets.lost for part in audit.partitions) == 50 * len(before)


def test_a_table_that_is_rolled_back_under_a_sink_is_told_and_reset_lets_the_same_process_go_on(pipeline, port):
    pipeline.produce(0, 100)
    pipeline.finish()
    first = loaded(pipeline).current_snapshot().snapshot_id
    sink = pipeline.sink(port=port)
    pipeline.produce(100, 200)
    eventually(lambda: sum(pipeline.recorded().values()) == 200, lambda: f"a commit {pipeline.log()[-2000:]}")
    with loaded(pipeline).manage_snapshots() as manage:
        manage.rollback_to_snapshot(first)
    pipeline.produce(200, 300)
    until_held(
        pipeline, port, HeldUpBy.DECISION, "was rolled back", f"k2 sink reset {pipeline.table} --to-snapshot {first}"
    )
    reset_to_snapshot(loaded(pipeline), first, sign())
    until_on(pipeline, port)
    assert sink.poll() is None
    assert ended(sink) == 0
    assert pipeline.audit().ok
    assert sum(part.rows for part in pipeline.audit().partitions) == 300


def test_a_topic_that_is_deleted_and_made_again_under_a_sink_is_told_though_nothing_waits(pipeline, port):
    pipeline.produce(0, 100)
    sink = pipeline.sink(port=port)
    eventually(lambda: sum(pipeline.recorded().values()) == 100, lambda: f"a commit {pipeline.log()[-2000:]}")
    delete_topics(pipeline.kafka, [pipeline.topic])
    ensure_topics(pipeline.kafka, [TopicSpec(pipeline.topic, partitions=2)])
    command = f"k2 sink reset {pipeline.table} --topic {pipeline.topic} --forget"
    until_held(pipeline, port, HeldUpBy.DECISION, "it was made anew", command)
    assert pipeline.told().lag == 0
    # Longer than it was: by offsets alone it could not be told from the former one.
    pipeline.produce(100, 400)
    assert pipeline.told().held is not None
    assert sink.poll() is None
    forget_topic(loaded(pipeline), pipeline.topic, sign())
    until_on(pipeline, port)
    assert ended(sink) == 0
    rows = loaded(pipeline).scan(selected_fields=("message_id",)).to_arrow().column("message_id").to_pylist()
    assert len(rows) == len(set(rows)) == 400


def test_commits_that_fail_are_told_with_what_the_catalog_says_and_no_more_once_they_go_through(pipeline, port):
    impatient = catalog_properties(pipeline.folder)
    impatient["uri"] += "?timeout=1"  # a lock is otherwise waited out for a minute
    sink = pipeline.sink(port=port, interval=0.2, env={"K2_CATALOG_PROPERTIES": json.dumps(impatient)})
    pipeline.produce(0, 100)
    eventually(lambda: sum(pipeline.recorded().values()) == 100, lambda: f"a commit {pipeline.log()[-2000:]}")
    with locked_catalog(pipeline.folder):
        pipeline.produce(100, 200)
        eventually(
            lambda: (held := pipeline.told().held) is not None and held.by is HeldUpBy.COMMIT,
            lambda: f"beside the offsets: {pipeline.told().held}; {pipeline.log()[-3000:]}",
        )
        held = pipeline.told().held
        assert held.said.startswith(f"Commits to {pipeline.table} fail: ")
        assert "database is locked" in held.said
        assert "sqlalche.me" not in held.said
        assert pipeline.told().lag == 100
        assert gauge(port) == {"commit"}
    until_on(pipeline, port)
    assert ended(sink) == 0
    assert pipeline.audit().ok


@contextmanager
def catalog_that_refuses():
    """The properties of a REST catalog that takes nobody's credentials."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            error = {"message": "Not authorized: wrong password", "type": "NotAuthorizedException", "code": 401}
            body = json.dumps({"error": error}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield json.dumps({"type": "rest", "uri": f"http://127.0.0.1:{server.server_address[1]}"})
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_credentials_that_are_refused_are_told_and_such_a_sink_takes_nothing_from_one_that_can(pipeline, port):
    pipeline.produce(0, 100)
    with catalog_that_refuses() as properties:
        lost = pipeline.sink(port=port, env={"K2_CATALOG_PROPERTIES": properties})
        until_held(pipeline, port, HeldUpBy.ACCESS, "wrong password", "into the Secret that platform.yaml names")
        assert pipeline.told().lag == 100
        other = ports.choose(None, None, what="another sink", option="", taken=[port])
        well = pipeline.sink(port=other)
        until_on(pipeline, other)
        revoked = pipeline.log(1).count("sink.revoked")
        pipeline.produce(100, 200)
        until_on(pipeline, other)
        assert readiness(port)["status"] == 503, "it waits on, and says so itself"
        assert "wrong password" in readiness(port)["reason"]
        assert pipeline.log(1).count("sink.revoked") == revoked == 0
        assert ended(lost) == 0
        assert ended(well) == 0
    assert pipeline.audit().ok
