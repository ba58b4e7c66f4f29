"""The charts on a real cluster with real pods: kind, the project's images, Kafka, registry, MinIO and PostgreSQL in the cluster.

The tests of this file are one story and run in its order.
"""

import time
from pathlib import Path

import pytest
from k2_testing.kind import NAMESPACE, ROOT, Kind, build_images, require_tools, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(2700)]

PARTS = Path(__file__).parent / "values" / "parts.yaml"
TRADES = 66_000
QUOTES = 132_000


@pytest.fixture(scope="module")
def kind(tmp_path_factory):
    """A cluster with everything installed; its namespace admits restricted pods only."""
    require_tools()
    images = build_images()
    cluster = Kind(tmp_path_factory.mktemp("kind"))
    try:
        cluster.create()
        cluster.load(*images)
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        cluster.helm("install", "parts", str(ROOT / "charts" / "dev"), "-f", str(PARTS), "--wait", "--timeout=5m")
        values = str(ROOT / "charts" / "k2" / "values-dev.yaml")
        # Without --wait: the query service is ready when there are tables.
        cluster.helm("install", "k2", str(ROOT / "charts" / "k2"), "-f", values)
        cluster.kubectl("rollout", "status", "deployment/k2-operator", "--timeout=3m", timeout=200)
        yield cluster
    finally:
        cluster.delete()


@pytest.fixture(scope="module")
def key(kind):
    return kind.api_key()


@pytest.fixture(scope="module")
def applied(kind):
    """When the samples were applied."""
    kind.kubectl("apply", "-f", str(ROOT / "manifests" / "samples"))
    return time.monotonic()


def test_from_apply_to_the_first_row_by_rest_in_a_minute(kind, key, applied, record_property):
    def first_row():
        status, body = kind.ask("/v1/trades?symbol=ACME&limit=1", key)
        return body["data"] if status == 200 else None

    (row,) = until(first_row, "no row by REST", 180, kind.what_is_wrong)
    seconds = time.monotonic() - applied
    record_property("seconds", round(seconds, 1))
    assert row["symbol"] == "ACME"
    assert seconds < 60


def test_feeds_become_ready_and_kubectl_wait_says_so(kind, applied):
    kind.kubectl("wait", "--for=condition=Ready", "marketfeed", "--all", "--timeout=2m", timeout=150)
    columns = kind.kubectl("get", "marketfeeds").splitlines()[0].split()
    assert columns == ["NAME", "EXCHANGE", "STREAMS", "READY", "RATE", "LAG", "FRESHNESS", "AGE"]
    assert "Where the events come from" in kind.kubectl("explain", "marketfeed.spec.source")


def test_every_event_is_in_the_table_once(kind, key, applied):
    assert _rows(kind, key) == {"market_data.trades": TRADES, "market_data.quotes": QUOTES}


def test_helm_test_passes(kind, applied):
    assert "Succeeded" in kind.helm("test", "k2", "--timeout=3m")


def test_a_request_without_a_key_is_refused(kind, applied):
    assert kind.ask("/v1/symbols", "wrong")[0] == 401


def test_a_wrong_field_is_refused_by_the_api_server(kind):
    bad = str(ROOT / "tests" / "corpus" / "bad-resources" / "typo-in-field.yaml")
    with pytest.raises(AssertionError, match="unknown field"):
        kind.kubectl("apply", "--dry-run=server", "-f", bad)


def test_a_deleted_sink_is_back_in_seconds(kind, applied):
    name = kind.names("deployments", "app.kubernetes.io/component=sink")[0]
    before = kind.get("deployment", name)["metadata"]["uid"]
    kind.kubectl("delete", "deployment", name)
    started = time.monotonic()

    def back():
        found = [item for item in kind.get("deployments")["items"] if item["metadata"]["name"] == name]
        return found and found[0]["metadata"]["uid"] != before

    until(back, "the sink is not back", 20, kind.what_is_wrong)
    assert time.monotonic() - started < 3


def test_an_operator_that_is_killed_restarts_no_workload(kind, applied):
    def pods():
        found = kind.get("pods", "-l", "app.kubernetes.io/component in (sink, query)")["items"]
        # One that the test before deleted may still be on its way out.
        return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])

    kind.kubectl("wait", "--for=condition=Available", "deployment", "--all", "--timeout=2m", timeout=150)
    before = pods()
    kind.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force")
    kind.kubectl("rollout", "status", "deployment/k2-operator", "--timeout=2m", timeout=150)
    kind.kubectl("wait", "--for=condition=Ready", "marketfeed", "--all", "--timeout=1m")
    assert pods() == before


def test_a_suspended_feed_runs_nothing_and_goes_on_where_it_was(kind, key, applied):
    def sinks():
        return [
            pod
            for pod in kind.get("pods", "-l", "k2.dev/feed=sim,app.kubernetes.io/component=sink")["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]

    kind.kubectl("patch", "marketfeed", "sim", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    until(lambda: not sinks(), "sinks still run", 60, kind.what_is_wrong)
    kind.kubectl("patch", "marketfeed", "sim", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    kind.kubectl("wait", "--for=condition=Ready", "marketfeed/sim", "--timeout=2m", timeout=150)
    assert _rows(kind, key) == {"market_data.trades": TRADES, "market_data.quotes": QUOTES}


def test_an_upgrade_keeps_the_key_and_the_credentials(kind, key, applied):
    values = str(ROOT / "charts" / "k2" / "values-dev.yaml")
    kind.helm("upgrade", "parts", str(ROOT / "charts" / "dev"), "-f", str(PARTS), "--wait", "--timeout=3m")
    kind.helm("upgrade", "k2", str(ROOT / "charts" / "k2"), "-f", values, "--wait", "--timeout=3m")
    assert kind.api_key() == key
    assert until(lambda: kind.ask("/v1/symbols", key)[0] == 200, "no answer after the upgrade", 60, kind.what_is_wrong)


def test_a_deleted_feed_leaves_its_rows(kind, key, applied):
    kind.kubectl("delete", "marketfeed", "sim", "--timeout=2m", timeout=150)
    until(lambda: not kind.names("deployments", "k2.dev/feed=sim"), "its sinks are still there", 60, kind.what_is_wrong)
    assert _rows(kind, key) == {"market_data.trades": TRADES, "market_data.quotes": QUOTES}


def _rows(kind, key):
    """Rows of the two tables, once they have been the same for two looks."""

    def stable():
        looks = []
        for _ in range(2):
            status, body = kind.ask("/v1/stats", key)
            if status != 200:
                return None
            looks.append({table["table"]: table["rows"] for table in body["tables"] if table.get("rows")})
            time.sleep(3)
        return looks[0] if looks[0] == looks[1] and looks[0] else None

    deadline = time.monotonic() + 60
    while (found := until(stable, "no figures", 60, kind.what_is_wrong)) and time.monotonic() < deadline:
        if sum(found.values()) >= TRADES + QUOTES:
            return found
    return found
