"""Whether Kafka, registry, catalog and store answer, asked of real ones that are there, away, silent, or have other passwords."""

import asyncio
import socket
import time
from contextlib import contextmanager

import httpx
import pytest
from k2_testing.gateway import USER, Gateway
from k2_testing.lake import catalog_properties

from k2.bus.reachable import ask_kafka, subjects_of
from k2.bus.registry import Schemas, ensure_subjects
from k2.lake.catalog import open_named
from k2.lake.reachable import AbsentError, ask_catalog, ask_store
from k2.lake.tables import ensure_tables
from k2.model.errors import CredentialsError, WorldError
from k2.model.settings import Settings
from k2.model.tables import builtin_table
from k2.model.topics import AssetClass, DataType, TopicName
from k2_operator.plan.plans import TopicPlan
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.world import AwayError, WorldPart

pytestmark = pytest.mark.real


@contextmanager
def silence():
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def gateway(registry):
    before_it = Gateway(registry.url, takes="first")
    yield before_it
    before_it.close()


def user(password):
    return {"basic.auth.user.info": f"{USER}:{password}"}


def test_kafka_answers_or_the_error_says_where_it_was_looked_for_and_what_became_of_that(kafka):
    ask_kafka({"bootstrap.servers": kafka.bootstrap_servers})
    with pytest.raises(WorldError, match=r"Kafka at 127\.0\.0\.1:1 cannot be reached: .*refused"):
        ask_kafka({"bootstrap.servers": "127.0.0.1:1"}, seconds=1)
    with silence() as address, pytest.raises(WorldError, match=f"Kafka at {address} cannot be reached"):
        ask_kafka({"bootstrap.servers": address}, seconds=1)


def test_settings_that_no_client_takes_are_an_outage_too():
    with pytest.raises(WorldError, match="Kafka at k:1 cannot be reached"):
        ask_kafka({"bootstrap.servers": "k:1", "security.protocol": "SSL", "ssl.ca.location": "/not/there"}, seconds=1)


def test_the_registry_lists_its_subjects_or_the_error_says_where_it_was_looked_for(registry, free_topic):
    topic = free_topic()
    ensure_subjects({"url": registry.url}, {topic: DataType.TRADES})
    assert f"{topic}-value" in subjects_of({"url": registry.url})
    with pytest.raises(WorldError, match=r"The Schema Registry at http://127\.0\.0\.1:1 cannot be reached"):
        subjects_of({"url": "http://127.0.0.1:1"}, seconds=1)
    with silence() as address, pytest.raises(WorldError, match=f"http://{address} cannot be reached"):
        subjects_of({"url": f"http://{address}"}, seconds=1)


def test_a_password_that_the_registry_takes_no_more_is_an_outage_for_what_runs(gateway, free_topic):
    config = {"url": gateway.url, **user("first")}
    ensure_subjects(config, {free_topic(): DataType.TRADES})
    assert subjects_of(config)
    gateway.takes = "second"
    with pytest.raises(WorldError, match=f"{gateway.url} does not take the credentials"):
        subjects_of(config)
    with pytest.raises(CredentialsError, match="refuses access"):
        ensure_subjects(config, {free_topic(): DataType.TRADES})
    assert subjects_of(config | user("second"))


def subjects(backends, *topics):
    """Have the operator's part see to the subjects of topics; returns what it says that it has done."""
    plans = []
    for topic in topics:
        _, asset_class, data_type, exchange = topic.split(".")
        name = TopicName(AssetClass(asset_class), DataType(data_type), exchange)
        plans.append(TopicPlan(name, 1, 1, None, None, allow_reordering=False))
    return asyncio.run(backends.subjects(plans))


def test_an_operator_takes_refused_credentials_for_an_outage_and_for_no_mistake_of_the_feeds(gateway, free_topic):
    settings = Settings(registry_url=gateway.url, registry_username=USER, registry_password="another")
    backends, topic = Backends(settings), free_topic()
    with pytest.raises(WorldError, match="refuses access"):
        subjects(backends, topic)
    gateway.takes = "another"
    assert subjects(backends, topic) == []
    backends.close()


def forget(registry, topic):
    with httpx.Client(base_url=registry.url, trust_env=False) as client:
        for permanent in ("false", "true"):
            client.delete(f"subjects/{topic}-value", params={"permanent": permanent}).raise_for_status()


def test_a_subject_that_the_registry_has_no_more_is_missed_once_and_registered_again(registry, free_topic):
    backends = Backends(Settings(registry_url=registry.url))
    stays, goes = free_topic(), free_topic("quotes")
    config = {"url": registry.url}

    def missed():
        return backends.missing(subjects_of(config), time.monotonic())

    assert subjects(backends, stays) == subjects(backends, goes) == []
    assert missed() == set()
    forget(registry, goes)
    assert subjects(backends, goes) == [], "it is remembered as well"
    assert missed() == {f"{goes}-value"}
    assert missed() == set(), "it is told once"
    assert subjects(backends, stays) == []
    assert subjects(backends, goes) == [f"registered {goes}-value again, which the registry had no more"]
    assert subjects(backends, goes) == []
    assert f"{goes}-value" in subjects_of(config)
    assert missed() == set()
    forget(registry, goes)
    assert missed() == {f"{goes}-value"}, "once each time"
    backends.close()


def test_a_subject_that_was_registered_after_the_list_was_asked_for_is_not_missed(registry, free_topic):
    backends, topic = Backends(Settings(registry_url=registry.url)), free_topic()
    asked = time.monotonic()
    subjects(backends, topic)
    assert backends.missing(frozenset(), asked) == set()
    assert backends.missing(frozenset(), time.monotonic()) == {f"{topic}-value"}
    backends.close()


def test_what_was_well_before_an_outage_is_asked_for_again_after_it(registry, free_topic):
    backends, topic = Backends(Settings(registry_url=registry.url)), free_topic()
    subjects(backends, topic)
    forget(registry, topic)
    backends.doubt(WorldPart.KAFKA)
    subjects(backends, topic)
    assert Schemas({"url": registry.url}).latest(f"{topic}-value") is None, "control: it was not asked for"
    backends.doubt(WorldPart.REGISTRY)
    subjects(backends, topic)
    assert Schemas({"url": registry.url}).latest(f"{topic}-value") is not None
    backends.close()


def test_while_a_part_is_known_to_be_away_nobody_asks_it(registry, free_topic):
    backends, topic = Backends(Settings(registry_url=registry.url)), free_topic()
    for _ in range(2):
        backends.world.failed(WorldPart.REGISTRY, WorldError("It was not there."))
    with pytest.raises(AwayError, match=r"It was not there\."):
        subjects(backends, topic)
    assert Schemas({"url": registry.url}).latest(f"{topic}-value") is None
    backends.world.answered(WorldPart.REGISTRY)
    subjects(backends, topic)
    assert Schemas({"url": registry.url}).latest(f"{topic}-value") is not None
    backends.close()


def test_a_catalog_and_its_store_are_there_once_somebody_has_made_them_and_until_they_are_taken_away(tmp_path):
    folder = tmp_path / "lake"
    folder.mkdir()
    properties = catalog_properties(folder)
    for ask in (lambda: ask_catalog("k2", properties), lambda: ask_store("k2", properties, None)):
        with pytest.raises(AbsentError, match=f"is not there: .*{folder}"):
            ask()
    assert list(folder.iterdir()) == [], "looking makes nothing"
    catalog = open_named("k2", properties)
    ensure_tables(catalog, [builtin_table(DataType.TRADES)])
    catalog.close()
    ask_catalog("k2", properties)
    assert ask_store("k2", properties, None)
    folder.rename(tmp_path / "elsewhere")
    for ask in (lambda: ask_catalog("k2", properties), lambda: ask_store("k2", properties, None)):
        with pytest.raises(AbsentError):
            ask()


def test_a_rest_catalog_or_a_store_that_is_not_there_is_told(tmp_path):
    rest = {"type": "rest", "uri": "http://127.0.0.1:1", "warehouse": "demo"}
    with pytest.raises(WorldError, match="cannot be opened"):
        ask_catalog("k2", rest, seconds=1)
    with pytest.raises(WorldError, match="cannot be opened"):
        ask_store("k2", rest, "market_data.trades", seconds=1)
    s3 = {
        "s3.endpoint": "http://127.0.0.1:1",
        "s3.region": "us-east-1",
        "s3.access-key-id": "k",
        "s3.secret-access-key": "k",
    }
    with pytest.raises(OSError, match="connect"):
        ask_store("k2", {**catalog_properties(tmp_path), **s3, "warehouse": "s3://lake/warehouse"}, None, seconds=1)
